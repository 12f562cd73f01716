internal import Basics

extension Loop {
  /// Runs `body` on this loop and blocks the calling thread until it is done. Throws what `body` throws. For the main
  /// thread, at the start and at the end; never on a loop, because loops must not block.
  package func runBlocking<Result: Sendable>(
    _ body: @escaping @Sendable () async throws -> Result
  ) throws -> Result {
    precondition(!isOnLoop, "a loop cannot wait for itself")
    let outcome = Outcome<Result>()
    Task(executorPreference: self) {
      do { outcome.set(.success(try await body())) } catch { outcome.set(.failure(error)) }
    }
    return try outcome.wait().get()
  }

  private final class Outcome<Value: Sendable>: @unchecked Sendable {
    // Unchecked: `value` is protected by the monitor.
    private let monitor = Monitor()
    private var value: Swift.Result<Value, any Error>?

    func set(_ result: Swift.Result<Value, any Error>) {
      monitor.locked {
        value = result
        monitor.signal()
      }
    }

    func wait() -> Swift.Result<Value, any Error> {
      monitor.locked {
        while true {
          if let value { return value }
          monitor.wait()
        }
      }
    }
  }
}
