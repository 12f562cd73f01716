internal import Basics

/// Runs the body of a transaction, which is written `async` for both databases, to its end on a thread
/// that may block.
///
/// The body awaits its own statements only, and here those never suspend: it finishes in the jobs that
/// its task enqueues on this executor. A body that waits for anything else would hang the database,
/// so that is a bug of ours, and traps.
final class BlockingExecutor: TaskExecutor, @unchecked Sendable {
  // Unchecked: `jobs` is behind the monitor.
  private let monitor = Monitor()
  private var jobs: [UnownedJob] = []

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    monitor.locked { jobs.append(job) }
  }

  /// On the thread that owns this executor.
  func run<Result: Sendable>(
    _ body: @escaping @Sendable () async throws -> Result
  ) -> Swift.Result<Result, any Error> {
    let outcome = Outcome<Result>()
    Task(executorPreference: self) {
      do { outcome.value = .success(try await body()) } catch { outcome.value = .failure(error) }
    }
    while outcome.value == nil {
      guard let job = monitor.locked({ jobs.isEmpty ? nil : jobs.removeFirst() }) else {
        preconditionFailure("a transaction awaited something besides its own statements")
      }
      job.runSynchronously(on: asUnownedTaskExecutor())
    }
    guard let value = outcome.value else { preconditionFailure("checked above") }
    return value
  }

  private final class Outcome<Value>: @unchecked Sendable {
    // Unchecked: written by the task's job and read after it, on one thread.
    var value: Swift.Result<Value, any Error>?
  }
}
