internal import Events
internal import Synchronization

/// A queue of events on their way to one event loop. The thread that publishes an event adds it; the loop takes the
/// events in the same order.
final class EventInbox: Sendable {
  private let waiting = Mutex<[Event]>([])
  /// Whether `waiting` holds any events. An atomic beside the lock, because it is read for every frame.
  private let isFilled = Atomic(false)

  /// Adds events. Returns true if the inbox was empty before. The caller must then wake the loop.
  func add(_ events: [Event]) -> Bool {
    waiting.withLock { waiting in
      let wasEmpty = waiting.isEmpty
      // Assigned instead of appended: appending would retain each entry once more.
      if wasEmpty { waiting = events } else { waiting += events }
      isFilled.store(true, ordering: .releasing)
      return wasEmpty
    }
  }

  /// Removes and returns all waiting events, or returns nil if there are none.
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
