package import Basics
internal import Synchronization

/// A pool of threads for work that blocks, such as reading a database or hashing a password.
///
/// Each kind of work has a pool of its own with its own bounds, so that a flood of one kind never stops another. Work
/// beyond `maximumWaiting` is refused at once with `ThreadPool.Full`. Work may name its owner, such as a client's
/// address. Owners are served round robin, so that a flood from one owner delays only that owner.
package final class ThreadPool: @unchecked Sendable {
  // Unchecked: all mutable state is used inside `monitor.locked` only.

  /// The error with which work is refused: so much is waiting that more would only expire in the queue, or the pool is
  /// stopped.
  package struct Full: Error {
    package let pool: String
    /// Whether only the owner's share is used up, while there is room for other owners.
    package let isOwnersShare: Bool
  }

  package let name: String
  private let monitor = Monitor()
  private let maximumWaiting: Int
  private let maximumWaitingForOne: Int
  private var waiting = FairQueue<Int, @Sendable (Int) -> Void>()
  private var isStopping = false
  /// The number of threads that are waiting for work.
  private var idleThreads = 0
  private var threads: [PlatformThread] = []

  /// Starts `threads` threads. At most `maximumWaiting` jobs wait for a thread, of which at most `maximumWaitingForOne`
  /// have the same owner. If that is nil, an owner has no bound of its own.
  package init(
    name: String, threads count: Int, maximumWaiting: Int, maximumWaitingForOne: Int? = nil,
    priority: PlatformThread.Priority = .normal
  ) {
    self.name = name
    self.maximumWaiting = maximumWaiting
    self.maximumWaitingForOne = maximumWaitingForOne ?? maximumWaiting
    threads = (0..<count).map { number in
      PlatformThread(name: "\(name)-\(number)", priority: priority) { self.runWorker(as: number) }
    }
  }

  /// The number of jobs that are waiting now.
  package var waitingCount: Int { monitor.locked { waiting.count } }

  /// Runs `body` on one of the pool's threads, which it may block. `body` receives the thread's number, from 0, for
  /// resources that exist once per thread. `owner` names the owner of the work, if any. Throws what `body` throws,
  /// `Full`, or `CancellationError` if the calling task was cancelled before `body` began. Cancellation does not
  /// shorten the wait for a thread.
  package func run<Result: Sendable>(
    for owner: some Hashable = 0,
    _ body: @escaping @Sendable (_ thread: Int) throws -> Result
  ) async throws -> Result {
    let cancellation = Cancellation()
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let isAccepted = submit(for: owner) { thread in
          if cancellation.hasCome.load(ordering: .relaxed) {
            continuation.resume(throwing: CancellationError())
          } else {
            continuation.resume(with: Swift.Result { try body(thread) })
          }
        }
        if !isAccepted {
          continuation.resume(
            throwing: Full(pool: name, isOwnersShare: waitingCount < maximumWaiting))
        }
      }
    } onCancel: {
      cancellation.hasCome.store(true, ordering: .relaxed)
    }
  }

  private final class Cancellation: Sendable {
    let hasCome = Atomic<Bool>(false)
  }

  /// Adds work without waiting for its result. Returns false if the pool is full or stopped.
  package func submit(
    for owner: some Hashable = 0, _ work: @escaping @Sendable (_ thread: Int) -> Void
  ) -> Bool {
    // Two owners with the same hash count as one.
    let key = owner.hashValue
    let (isAccepted, wakesThread) = monitor.locked { () -> (Bool, Bool) in
      guard !isStopping, waiting.count < maximumWaiting,
        waiting.count(of: key) < maximumWaitingForOne
      else { return (false, false) }
      waiting.append(work, of: key)
      return (true, idleThreads > 0)
    }
    // Not inside the lock, because the thread would wake only to wait for the lock.
    if wakesThread { monitor.signal() }
    return isAccepted
  }

  private func runWorker(as number: Int) {
    while let work = take() { work(number) }
  }

  private func take() -> (@Sendable (Int) -> Void)? {
    monitor.locked {
      while true {
        if let work = waiting.popFirst() { return work }
        if isStopping { return nil }
        idleThreads += 1
        monitor.wait()
        idleThreads -= 1
      }
    }
  }

  /// Stops the pool: refuses new work, finishes the work that is waiting, and blocks until the threads have ended.
  package func stop() {
    monitor.locked {
      isStopping = true
      monitor.broadcast()
    }
    for thread in threads { thread.join() }
    threads = []
  }
}
