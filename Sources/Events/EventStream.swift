internal import Basics
internal import Synchronization

/// A node's events in commit order, handed to everyone here who listens.
///
/// Publishing happens on the thread that committed, before anyone is answered; listeners must be
/// quick: they pass the events on to their loop. What a listener publishes itself is delivered behind
/// what is being delivered.
package final class EventStream: Sendable {
  package typealias Listener = @Sendable ([Event]) -> Void

  private let fanout: any Fanout
  // In a struct: a bare closure in a Mutex is wrapped once more by every access.
  private struct Registered {
    let listen: Listener
  }
  /// Held while listeners run, so that every one of them sees the same order.
  private let listeners = Mutex<[Registered]>([])
  /// The thread that holds `listeners`, and what it published meanwhile.
  private let delivering = Mutex<(thread: UInt?, later: Queue<[Event]>)>((nil, Queue()))

  package init(fanout: any Fanout) {
    self.fanout = fanout
    fanout.start { [weak self] events in self?.deliver(events) }
  }

  /// Adds a listener for all events from now on. Before the first publication.
  package func listen(_ listener: @escaping Listener) {
    listeners.withLock { $0.append(Registered(listen: listener)) }
  }

  /// Publishes what one commit of this node brought: here at once, on other nodes when they hear of it.
  /// Calls of different threads do not mix.
  package func publish(_ events: [Event]) {
    guard !events.isEmpty else { return }
    deliver(events)
    let shared = events.filter(\.isShared)
    if !shared.isEmpty { fanout.publish(shared) }
  }

  /// Hands events to this node's listeners only: what it found out by itself.
  package func deliverHere(_ events: [Event]) {
    if !events.isEmpty { deliver(events) }
  }

  private func deliver(_ events: [Event]) {
    let thread = currentThreadID()
    let isNested = delivering.withLock { delivering in
      guard delivering.thread == thread else { return false }
      delivering.later.append(events)
      return true
    }
    if isNested { return }
    listeners.withLock { listeners in
      delivering.withLock { $0.thread = thread }
      var next: [Event]? = events
      while let events = next {
        for listener in listeners { listener.listen(events) }
        next = delivering.withLock { delivering in
          if let events = delivering.later.popFirst() { return events }
          delivering.thread = nil
          return nil
        }
      }
    }
  }
}
