/// The server's event loops, one thread each.
package struct LoopGroup: Sendable {
  package let loops: [Loop]

  /// Starts `count` loops, at least one.
  ///
  /// With `keepsProcessors`, and if there are as many loops as processors, all loops but the first are pinned to one
  /// processor each. Otherwise the system often lets two loops share one processor while another is idle. The first
  /// loop, which starts the server's other threads, is not pinned: when all were, a large fan-out was slower by a
  /// fifth.
  package init(count: Int, keepsProcessors: Bool = false) {
    precondition(count >= 1, "a server needs a loop")
    let processors = keepsProcessors ? Processors.allowed : []
    loops = (0..<count).map { index in
      Loop(
        index: index, processor: processors.count == count && index > 0 ? processors[index] : nil)
    }
  }

  /// A group of some of another group's loops.
  package init(loops: [Loop]) { self.loops = loops }

  /// Makes one value per loop, each on its own loop; returns them in the order of the loops.
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
