internal import Basics

/// Work of sockets that name thousands of rooms, in steps: so much in a turn of the loop, and the rest in the
/// next ones, so that others have their turn. On the loop only.
///
/// Who has steps left takes turns with the others: one that has very many holds up nobody else's few.
final class TurnWork {
  private let backend: any RelayBackend
  private var waiting = Queue<() -> Bool>()
  private var isScheduled = false
  /// For tests: as many steps in one turn, at most.
  var maximumSteps = Int.max

  /// What steps may take of a turn, all together.
  private static let turnNanoseconds: UInt64 = 2_000_000

  init(_ backend: any RelayBackend) { self.backend = backend }

  /// Calls `step` until it returns false: there is nothing left. The first time is now.
  func perform(_ step: @escaping () -> Bool) {
    guard step() else { return }
    waiting.append(step)
    schedule()
  }

  private func schedule() {
    guard !isScheduled, !waiting.isEmpty else { return }
    isScheduled = true
    // Unowned: it lives as long as its loop.
    backend.nextTurn { [unowned self] in
      isScheduled = false
      run()
    }
  }

  private func run() {
    let end = backend.nanoseconds &+ Self.turnNanoseconds
    var steps = 0
    while let step = waiting.popFirst() {
      if step() { waiting.append(step) }
      steps += 1
      if steps >= maximumSteps || backend.nanoseconds >= end { break }
    }
    schedule()
  }
}
