internal import Events
internal import Synchronization

/// The node's events on their way to one event loop: put in by the thread that committed, taken out on the
/// loop, in order.
final class EventInbox: Sendable {
  private let waiting = Mutex<[Event]>([])
  /// Whether `waiting` has any: looked at for every frame, so without the lock.
  private let isFilled = Atomic(false)

  /// Returns whether nothing waited before: the loop has to be told.
  func add(_ events: [Event]) -> Bool {
    waiting.withLock { waiting in
      let wasEmpty = waiting.isEmpty
      // Not copied: each entry would be counted once more.
      if wasEmpty { waiting = events } else { waiting += events }
      isFilled.store(true, ordering: .releasing)
      return wasEmpty
    }
  }

  /// All that waits; nil where nothing does.
  func take() -> [Event]? {
    guard isFilled.load(ordering: .acquiring) else { return nil }
    return waiting.withLock { waiting in
      defer {
        waiting = []
        isFilled.store(false, ordering: .releasing)
      }
      return waiting
    }
  }
}
