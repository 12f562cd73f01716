internal import Synchronization

/// A counting semaphore for tasks, to limit concurrent work that needs much memory. Tasks get permits in the order in
/// which they asked.
package final class AsyncSemaphore: Sendable {
  private struct State {
    var free: Int
    var waiting = Queue<CheckedContinuation<Void, Never>>()
  }
  private let state: Mutex<State>

  package init(permits: Int) { state = Mutex(State(free: permits)) }

  /// Runs `body` as soon as there is a permit. Throws what `body` throws, or `CancellationError` without running `body`
  /// if the task was cancelled before. Cancellation does not shorten the wait for the permit.
  package func withPermit<Result>(_ body: () async throws -> Result) async throws -> Result {
    await take()
    defer { release() }
    try Task.checkCancellation()
    return try await body()
  }

  private func take() async {
    await withCheckedContinuation { continuation in
      let isFree = state.withLock { state in
        guard state.free > 0 else {
          state.waiting.append(continuation)
          return false
        }
        state.free -= 1
        return true
      }
      if isFree { continuation.resume() }
    }
  }

  private func release() {
    let next = state.withLock { state in
      let next = state.waiting.popFirst()
      // The returned permit goes directly to the next task in the queue.
      if next == nil { state.free += 1 }
      return next
    }
    next?.resume()
  }
}
