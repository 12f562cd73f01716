/// The server's event loops, one thread each.
package struct LoopGroup: Sendable {
  package let loops: [Loop]

  /// Starts `count` loops, at least one.
  package init(count: Int) {
    precondition(count >= 1, "a server needs a loop")
    loops = (0..<count).map { Loop(index: $0) }
  }

  /// A part of another group.
  package init(loops: [Loop]) { self.loops = loops }
}
