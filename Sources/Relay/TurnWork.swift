internal import Basics

/// A scheduler for the work of sockets that name thousands of rooms. It divides the work into steps and performs a
/// limited amount in each turn of the loop, so that other sockets are served in between. Used on the loop only.
///
/// Jobs are served round robin, one step each, so a job with very many steps does not delay one with few.
final class TurnWork {
  private let backend: any RelayBackend
  private var waiting = Queue<() -> Bool>()
  private var isScheduled = false
  /// The maximum number of steps in one turn. Tests set it.
  var maximumSteps = Int.max

  /// The time that all steps together may take in one turn.
  private static let turnNanoseconds: UInt64 = 2_000_000

  init(_ backend: any RelayBackend) { self.backend = backend }

  /// Calls `step` until it returns false: the first time now, then in later turns.
  func perform(_ step: @escaping () -> Bool) {
    guard step() else { return }
    waiting.append(step)
    schedule()
  }

  private func schedule() {
    guard !isScheduled, !waiting.isEmpty else { return }
    isScheduled = true
    // Unowned: this object lives as long as its loop.
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
