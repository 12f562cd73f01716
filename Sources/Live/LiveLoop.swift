internal import Basics
package import EventLoop

/// Live delivery on one event loop, borrowed by whoever publishes there. On the loop only.
package final class LiveLoop {
  package let loop: Loop
  package let hub: Hub
  package let gate: DeliveryGate
  package let metrics: LiveMetrics
  private var hooks: [() -> Void] = []

  /// `maximumAgeMilliseconds` is the gate's (`DeliveryGate`), `sendQueueBytes` the hub's.
  package init(
    loop: Loop, maximumAgeMilliseconds: Int64?, sendQueueBytes: Int, metrics: LiveMetrics
  ) {
    loop.preconditionOnLoop()
    self.loop = loop
    self.metrics = metrics
    gate = DeliveryGate(maximumAgeMilliseconds: maximumAgeMilliseconds)
    let wakeUp = WakeUp(loop: loop)
    hub = Hub(gate: gate, sendQueueBytes: sendQueueBytes, metrics: metrics, wake: wakeUp.set)
    wakeUp.hub = hub
    // The loop keeps it: hooks stay.
    loop.onTurnEnd { [self] in
      for hook in hooks { hook() }
      hub.endTurn()
    }
  }

  /// Calls `hook` at the end of every turn, before what was published is written.
  package func beforeFlush(_ hook: @escaping () -> Void) { hooks.append(hook) }

  /// Makes the loop turn again, for its hub.
  private final class WakeUp {
    private let loop: Loop
    weak var hub: Hub?

    init(loop: Loop) { self.loop = loop }

    func set(milliseconds: Int) {
      loop.schedule(after: milliseconds) { self.hub?.didWake() }
    }
  }
}
