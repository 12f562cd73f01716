/// The server's event loops, one thread each.
package struct LoopGroup: Sendable {
  package let loops: [Loop]

  /// Starts `count` loops, at least one.
  ///
  /// If `keepsProcessors` is true and there are as many loops as processors, each loop except the first is pinned to a
  /// processor. Without that the system often lets two loops share one processor while another is idle. The first
  /// loop, which starts the server's other threads, is not pinned: with all loops pinned, a large fan-out was slower by
  /// a fifth.
  package init(count: Int, keepsProcessors: Bool = false) {
    precondition(count >= 1, "a server needs a loop")
    let processors = keepsProcessors ? Processors.allowed : []
    loops = (0..<count).map { index in
      Loop(
        index: index, processor: processors.count == count && index > 0 ? processors[index] : nil)
    }
  }

  /// Makes a group of running loops, for example of some of another group's.
  package init(loops: [Loop]) { self.loops = loops }

  /// Calls `make` on each loop, one after the other. Returns the values in the order of the loops.
  package func onEachLoop<Value>(
    _ make: @escaping @Sendable (Loop) -> Value
  ) async -> [LoopBound<Value>] {
    var made: [LoopBound<Value>] = []
    for loop in loops {
      made.append(
        await withCheckedContinuation { continuation in
          loop.execute { continuation.resume(returning: LoopBound(make(loop), on: loop)) }
        })
    }
    return made
  }
}
