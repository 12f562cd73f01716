internal import Events
internal import Synchronization

/// Passes the node's events to one event loop. The committing thread adds them, the loop takes them, in order.
final class EventInbox: Sendable {
  private let waiting = Mutex<[Event]>([])
  /// Whether `waiting` holds any events. An atomic beside the lock, because it is read for every frame.
  private let isFilled = Atomic(false)

  /// Adds events. Returns whether none were waiting, in which case the loop must be woken.
  func add(_ events: [Event]) -> Bool {
    waiting.withLock { waiting in
      let wasEmpty = waiting.isEmpty
      // Assigned instead of appended: appending would retain each entry once more.
      if wasEmpty { waiting = events } else { waiting += events }
      isFilled.store(true, ordering: .releasing)
      return wasEmpty
    }
  }

  /// All waiting events, or nil if there are none.
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
