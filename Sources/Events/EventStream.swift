internal import Synchronization

/// A node's events in commit order, handed to everyone here who listens.
///
/// Publishing happens on the thread that committed, before anyone is answered; listeners must be
/// quick: they pass the events on to their loop.
package final class EventStream: Sendable {
  package typealias Listener = @Sendable ([Event]) -> Void

  private let fanout: any Fanout
  private struct Registered {
    let listen: Listener
  }
  private let listeners = Mutex<[Registered]>([])

  package init(fanout: any Fanout) {
    self.fanout = fanout
    fanout.start { [weak self] events in self?.deliver(events) }
  }

  /// Adds a listener for all events from now on. Before the first publication.
  package func listen(_ listener: @escaping Listener) {
    listeners.withLock { $0.append(Registered(listen: listener)) }
  }

  /// Publishes what one commit brought. Calls of different threads do not mix.
  package func publish(_ events: [Event]) {
    if !events.isEmpty { fanout.publish(events) }
  }

  /// Hands events to this node's listeners only: what it found out by itself.
  package func deliverHere(_ events: [Event]) {
    if !events.isEmpty { deliver(events) }
  }

  private func deliver(_ events: [Event]) {
    // Held while listeners run, so that every one of them sees the same order.
    listeners.withLock { listeners in
      for listener in listeners { listener.listen(events) }
    }
  }
}

/// Carries events between nodes. Port: in-process here; Redis or gRPC between machines.
///
/// A fanout may lose events: heads and versions are compared with the database. It must not reorder
/// those of one publisher.
package protocol Fanout: Sendable {
  /// Names who gets the events, our own included. Called once, first.
  func start(_ receive: @escaping @Sendable ([Event]) -> Void)
  /// Sends events of this node to all, this node included. From any thread.
  func publish(_ events: [Event])
}

/// The fanout of a node that is alone: straight back to itself.
package final class InProcessFanout: Fanout {
  // In a struct: a bare closure in a Mutex is wrapped once more by every access.
  private struct Receiver {
    let receive: @Sendable ([Event]) -> Void
  }
  private let receiver = Mutex<Receiver?>(nil)

  package init() {}

  package func start(_ receive: @escaping @Sendable ([Event]) -> Void) {
    receiver.withLock { $0 = Receiver(receive: receive) }
  }

  package func publish(_ events: [Event]) {
    let receiver = receiver.withLock { $0 }
    receiver?.receive(events)
  }
}
