internal import Basics
internal import Synchronization

/// Threads of their own for work that blocks: reading a database, hashing a password.
///
/// Each kind of work has a pool with bounds of its own, so that a storm of one never stops another.
/// Beyond `maximumWaiting` work is refused at once with `ThreadPool.Full`. Work that names whose it is waits its turn beside that of
/// others: who sends a storm of it waits for itself.
package final class ThreadPool: @unchecked Sendable {
  // Unchecked: all mutable state is touched inside `monitor.locked` only.

  /// So much work is waiting already that more would only get old.
  package struct Full: Error {
    package let pool: String
    /// Whether it is the owner's share that is used up, while there is room for others.
    package let isOwnersShare: Bool
  }

  package let name: String
  private let monitor = Monitor()
  private let maximumWaiting: Int
  private let maximumWaitingForOne: Int
  private var waiting = FairQueue<Int, @Sendable (Int) -> Void>()
  private var isStopping = false
  /// Threads that wait for work.
  private var idleThreads = 0
  private var threads: [PlatformThread] = []

  /// Starts `threads` threads. At most `maximumWaiting` pieces of work wait for one of them, and at most
  /// `maximumWaitingForOne` of the same owner.
  package init(
    name: String, threads count: Int, maximumWaiting: Int, maximumWaitingForOne: Int? = nil
  ) {
    self.name = name
    self.maximumWaiting = maximumWaiting
    self.maximumWaitingForOne = maximumWaitingForOne ?? maximumWaiting
    threads = (0..<count).map { number in
      PlatformThread(name: "\(name)-\(number)") { self.runWorker(as: number) }
    }
  }

  /// Pieces of work that wait at this moment.
  package var waitingCount: Int { monitor.locked { waiting.count } }

  /// Runs `body` on one of the pool's threads, which it may block; `body` gets the thread's number,
  /// from 0, for things of which each thread has one. `owner` is whose work it is, if that counts. Throws what `body`
  /// throws, `Full`, or `CancellationError` where the calling task was cancelled before its turn came.
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

  /// Adds work without waiting for its end; false where the pool is full or stopped.
  package func submit(
    for owner: some Hashable = 0, _ work: @escaping @Sendable (_ thread: Int) -> Void
  ) -> Bool {
    // Two owners of the same hash take turns as one.
    let key = owner.hashValue
    let (isAccepted, wakesThread) = monitor.locked { () -> (Bool, Bool) in
      guard !isStopping, waiting.count < maximumWaiting,
        waiting.count(of: key) < maximumWaitingForOne
      else { return (false, false) }
      waiting.append(work, of: key)
      return (true, idleThreads > 0)
    }
    // Not inside: the thread would wake only to wait for the lock.
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

  /// Finishes what waits, then ends the threads and waits for them.
  package func stop() {
    monitor.locked {
      isStopping = true
      monitor.broadcast()
    }
    for thread in threads { thread.join() }
    threads = []
  }
}
