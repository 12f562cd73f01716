internal import Basics
internal import Synchronization

/// The stream of a node's events, which delivers them to all listeners of the process in one order.
///
/// Events are published on the thread that committed, before any client is answered. Listeners must be quick: they only
/// pass the events to their loop. If a listener itself publishes events, they are delivered after those that are being
/// delivered.
package final class EventStream: Sendable {
  package typealias Listener = @Sendable ([Event]) -> Void

  private let fanout: any Fanout
  // A struct, because a closure that is stored directly in a Mutex is wrapped once more at each access.
  private struct Registered {
    let listen: Listener
  }
  /// Held while listeners run, so that all of them see the same order.
  private let listeners = Mutex<[Registered]>([])
  /// The thread that holds `listeners`, and the events that it has published meanwhile.
  private let delivering = Mutex<(thread: UInt?, later: Queue<[Event]>)>((nil, Queue()))

  package init(fanout: any Fanout) {
    self.fanout = fanout
    fanout.start { [weak self] events in self?.deliver(events) }
  }

  /// Adds a listener for all events from now on. Must be called before the first publication.
  package func listen(_ listener: @escaping Listener) {
    listeners.withLock { $0.append(Registered(listen: listener)) }
  }

  /// Publishes the events of one commit of this node: to its own listeners before this returns (except in a call from a
  /// listener), then to other nodes through the fan-out. Listeners get the events of one call together, and all
  /// listeners get the calls of different threads in the same order.
  package func publish(_ events: [Event]) {
    guard !events.isEmpty else { return }
    deliver(events)
    let shared = events.filter(\.isShared)
    if !shared.isEmpty { fanout.publish(shared) }
  }

  /// Sends events to the other nodes only.
  package func publishElsewhere(_ events: [Event]) { fanout.publish(events) }

  /// Delivers events to this node's listeners only: other nodes find out about them by themselves.
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
