internal import Basics

/// Divides the work of sockets that name thousands of rooms into steps: a limited amount in each turn of the loop, so
/// that other sockets get their turn. Used on the loop only.
///
/// Jobs take turns step by step, so one with very many steps does not delay one with few.
final class TurnWork {
  private let backend: any RelayBackend
  private var waiting = Queue<() -> Bool>()
  private var isScheduled = false
  /// The most steps in one turn, for tests.
  var maximumSteps = Int.max

  /// The time that all steps together may take in one turn.
  private static let turnNanoseconds: UInt64 = 2_000_000

  init(_ backend: any RelayBackend) { self.backend = backend }

  /// Calls `step` until it returns false. The first call happens now.
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
