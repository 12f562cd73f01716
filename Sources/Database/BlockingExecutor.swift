internal import Basics

/// Runs the body of a transaction, which is `async` because both databases share it, to its end on a thread that may
/// block.
///
/// A body awaits only its own statements, and here those never suspend: it finishes within the jobs that its task
/// enqueues on this executor. A body that waits for anything else would block this thread, so each wait may take one
/// second. Then its transaction fails. The rest of the body may run later, but its transaction has ended by then and
/// refuses every statement.
final class BlockingExecutor: TaskExecutor, @unchecked Sendable {
  // Unchecked: `jobs` is protected by the monitor.
  private let monitor = Monitor()
  private var jobs = Queue<UnownedJob>()

  private static let patienceMilliseconds: Int64 = 1000

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    monitor.locked {
      jobs.append(job)
      monitor.signal()
    }
  }

  /// Runs `body` and returns its outcome. Must be called on the thread that owns this executor. The transaction belongs
  /// to `body`; it has ended when this returns.
  func run<Result: Sendable>(
    _ transaction: Transaction,
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) -> Swift.Result<Result, any Error> {
    let outcome = Outcome<Result>()
    let carried = UncheckedTransfer(transaction)
    Task(executorPreference: self) {
      do { outcome.value = .success(try await body(carried.value)) } catch {
        outcome.value = .failure(error)
      }
    }
    defer { transaction.end() }
    while true {
      if let value = outcome.value { return value }
      guard let job = nextJob() else {
        return .failure(
          DatabaseError(
            kind: .other, message: "a transaction awaited something besides its own statements"))
      }
      job.runSynchronously(on: asUnownedTaskExecutor())
    }
  }

  /// Returns the next job; nil if none is enqueued within a second.
  private func nextJob() -> UnownedJob? {
    let end = Monotonic.milliseconds + Self.patienceMilliseconds
    return monitor.locked {
      while true {
        if let job = jobs.popFirst() { return job }
        let left = end - Monotonic.milliseconds
        if left <= 0 { return nil }
        monitor.wait(milliseconds: left)
      }
    }
  }

  private final class Outcome<Value>: @unchecked Sendable {
    // Unchecked: written by a job and read between jobs, on one thread.
    var value: Swift.Result<Value, any Error>?
  }
}

/// Passes a transaction to the task that runs its body on the same thread.
struct UncheckedTransfer<Value>: @unchecked Sendable {
  // Unchecked: jobs of a `BlockingExecutor` run on the one thread that owns it.
  let value: Value

  init(_ value: Value) { self.value = value }
}
