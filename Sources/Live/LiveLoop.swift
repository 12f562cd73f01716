internal import Basics
package import EventLoop

/// Live delivery on one event loop, shared by everything that publishes there. Used on the loop only.
package final class LiveLoop {
  package let loop: Loop
  package let hub: Hub
  package let gate: DeliveryGate
  package let metrics: LiveMetrics
  private var hooks: [() -> Void] = []

  /// `maximumAgeMilliseconds` is for the gate (`DeliveryGate`), `sendQueueBytes` for the hub.
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
    // Retained by the loop, whose hooks stay for good.
    loop.onTurnEnd { [self] in
      for hook in hooks { hook() }
      hub.endTurn()
    }
  }

  /// Calls `hook` at the end of every turn, before what was published is written.
  package func beforeFlush(_ hook: @escaping () -> Void) { hooks.append(hook) }

  /// Makes the loop turn again when the hub requests it.
  private final class WakeUp {
    private let loop: Loop
    weak var hub: Hub?

    init(loop: Loop) { self.loop = loop }

    func set(milliseconds: Int) {
      loop.schedule(after: milliseconds) { self.hub?.didWake() }
    }
  }
}
