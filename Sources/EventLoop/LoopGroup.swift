/// The server's event loops, one thread each.
package struct LoopGroup: Sendable {
  package let loops: [Loop]

  /// Starts `count` loops, at least one.
  ///
  /// `keepsProcessors`: where there are as many loops as processors, all loops but the first stay on one
  /// each. Else the system often has two loops wait for each other on one processor while another is idle.
  /// The first one, which starts the server's other threads, moves: with all of them kept, a large fan-out
  /// lost a fifth.
  package init(count: Int, keepsProcessors: Bool = false) {
    precondition(count >= 1, "a server needs a loop")
    let processors = keepsProcessors ? Processors.allowed : []
    loops = (0..<count).map { index in
      Loop(
        index: index, processor: processors.count == count && index > 0 ? processors[index] : nil)
    }
  }

  /// A part of another group.
  package init(loops: [Loop]) { self.loops = loops }

  /// Makes something of each loop's own, on that loop; in the order of the loops.
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
