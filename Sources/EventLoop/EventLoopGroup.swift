/// The server's event loops, one thread each.
package struct EventLoopGroup: Sendable {
  package let loops: [EventLoop]

  /// Starts `count` loops, at least one.
  package init(count: Int) {
    precondition(count >= 1, "a server needs a loop")
    loops = (0..<count).map { EventLoop(index: $0) }
  }

  /// A part of another group.
  package init(loops: [EventLoop]) { self.loops = loops }
}
