internal import CLibUV

/// A timer that calls its action on a loop, once or repeatedly, until `cancel` or until the loop ends.
///
/// Used on its loop only. libuv counts whole milliseconds, so an action may come up to a millisecond early. It comes
/// late if the loop is busy.
package final class LoopTimer {
  private let loop: Loop
  private let handle = UnsafeMutablePointer<uv_timer_t>.allocate(capacity: 1)
  private let action: () -> Void
  private let repeats: Bool
  private var isOpen = true

  fileprivate init(
    on loop: Loop, after milliseconds: Int, repeats: Bool, _ action: @escaping () -> Void
  ) {
    loop.preconditionOnLoop()
    self.loop = loop
    self.action = action
    self.repeats = repeats
    uv_timer_init(loop.uv, handle)
    // Retained until the handle is closed; released in the close callback below.
    handle.pointee.data = Unmanaged.passRetained(self).toOpaque()
    let interval = UInt64(max(0, milliseconds))
    // The loop reads the clock once per turn, so its time may be outdated by as much as a long turn takes.
    uv_update_time(loop.uv)
    uv_timer_start(
      handle, { LoopTimer.of($0?.pointee.data)?.fire() }, interval, repeats ? max(1, interval) : 0)
  }

  private static func of(_ data: UnsafeMutableRawPointer?) -> LoopTimer? {
    data.map { Unmanaged<LoopTimer>.fromOpaque($0).takeUnretainedValue() }
  }

  private func fire() {
    action()
    if !repeats { cancel() }
  }

  /// Stops the timer. Calling it again does nothing.
  package func cancel() {
    loop.preconditionOnLoop()
    guard isOpen else { return }
    isOpen = false
    handle.withMemoryRebound(to: uv_handle_t.self, capacity: 1) {
      uv_close($0) { handle in
        guard let handle, let data = handle.pointee.data else { return }
        // Balances `passRetained` in `init`.
        Unmanaged<LoopTimer>.fromOpaque(data).release()
        handle.withMemoryRebound(to: uv_timer_t.self, capacity: 1) { $0.deallocate() }
      }
    }
  }
}

extension Loop {
  /// Calls `action` once, after this many milliseconds. On the loop only.
  @discardableResult
  package func schedule(after milliseconds: Int, _ action: @escaping () -> Void) -> LoopTimer {
    LoopTimer(on: self, after: milliseconds, repeats: false, action)
  }

  /// Calls `action` repeatedly, at this interval in milliseconds (at least 1), until cancelled. On the loop only.
  @discardableResult
  package func schedule(every milliseconds: Int, _ action: @escaping () -> Void) -> LoopTimer {
    LoopTimer(on: self, after: milliseconds, repeats: true, action)
  }

  /// Suspends the calling task for this many milliseconds, or until it is cancelled. It continues on its own executor.
  /// On any thread.
  nonisolated package func sleep(milliseconds: Int) async {
    let sleeper = Sleeper()
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        execute { sleeper.begin(on: self, milliseconds, continuation) }
        // If the task was cancelled before it slept, the handler below ran before `begin`, so end the sleep here.
        if Task.isCancelled { execute { sleeper.end() } }
      }
    } onCancel: {
      execute { sleeper.end() }
    }
  }
}

/// The state of a task that sleeps on a loop. Used on that loop only.
private final class Sleeper: @unchecked Sendable {
  // Unchecked: used only in closures that the loop runs, one after the other.
  private var timer: LoopTimer?
  private var continuation: CheckedContinuation<Void, Never>?

  func begin(
    on loop: Loop, _ milliseconds: Int, _ continuation: CheckedContinuation<Void, Never>
  ) {
    self.continuation = continuation
    timer = loop.schedule(after: milliseconds) { self.end() }
  }

  func end() {
    timer?.cancel()
    timer = nil
    continuation?.resume()
    continuation = nil
  }
}
