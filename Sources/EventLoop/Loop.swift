internal import Basics
internal import CLibUV
internal import Synchronization

/// An event loop: one thread with one libuv loop, which is also the Swift executor of everything that is pinned to it.
///
/// A turn begins when the loop has waited. It serves the sockets that are ready, then continues divided work
/// (`onNextTurn`), then runs jobs, then due timers and what they started, and then the end-of-turn hooks. The number of
/// jobs per turn is bounded, so that a flood of tasks never starves sockets. The rest runs in the next turn, before
/// which the loop does not wait.
///
/// State that belongs to a loop is used on its thread only; `preconditionOnLoop` enforces that. From other threads
/// use `execute`. Never block a loop: blocking work belongs in a `ThreadPool`.
///
/// The libuv manual: http://docs.libuv.org/en/v1.x/design.html#the-i-o-loop
package final class Loop: SerialExecutor, TaskExecutor, @unchecked Sendable {
  // Unchecked: `inbox` is behind a lock, and `thread` is used only by `init` and `stop`. Everything else is atomic, is
  // set before the thread starts, or is used on the thread only.

  /// The most jobs that run at once. A turn runs jobs twice: after the sockets, and after the timers.
  private static let jobsPerTurn = 512

  /// The position of the loop in its group, from 0.
  package let index: Int
  let uv: UnsafeMutablePointer<uv_loop_t>
  /// The `uv_loop_t`, for C libraries that add handles of their own to it, on this thread.
  package var foreignLoop: UnsafeMutableRawPointer { UnsafeMutableRawPointer(uv) }

  private enum Job {
    case task(UnownedJob)
    case call(@Sendable () -> Void)
  }

  private struct Inbox {
    var jobs: [Job] = []
    var isWakeUpSent = false
    var isClosed = false
  }

  private let inbox = Mutex(Inbox())
  private let threadID = Atomic<UInt>(0)
  private let wakeUps = Atomic<Int>(0)

  // Used on the thread only.
  private var queue: [Job] = []
  private var queueHead = 0
  private var arrived: [Job] = []
  /// Divided work that continues in the next turn, after the sockets that are ready.
  private var continuing: [() -> Void] = []
  private var turnEndHooks: [() -> Void] = []
  /// The receiver of each turn's CPU time, and the thread's CPU time at the end of the last turn. Nil if turns are not
  /// measured.
  private var turnMeter: (tell: (_ microseconds: Int) -> Void, last: UInt64)?
  private var isIdleActive = false
  private var isStopping = false
  private var neverWaits = false
  private let async = UnsafeMutablePointer<uv_async_t>.allocate(capacity: 1)
  private let check = UnsafeMutablePointer<uv_check_t>.allocate(capacity: 1)
  private let prepare = UnsafeMutablePointer<uv_prepare_t>.allocate(capacity: 1)
  private let idle = UnsafeMutablePointer<uv_idle_t>.allocate(capacity: 1)
  /// The descriptors that `DescriptorWatch` objects watch.
  let descriptors: DescriptorSet
  private var thread: PlatformThread?

  /// Makes a loop and starts its thread. If `processor` is given, the thread is pinned to that processor, and so are
  /// all threads that it starts.
  package init(index: Int = 0, name: String = "loop", processor: Int? = nil) {
    self.index = index
    uv = .allocate(capacity: 1)
    // Fails only if memory or descriptors run out. A server cannot run without its loops.
    guard uv_loop_init(uv) == 0 else { fatalError("uv_loop_init failed") }
    descriptors = DescriptorSet(uv)
    uv_async_init(uv, async) { Loop.of($0?.pointee.data).takeInbox() }
    uv_check_init(uv, check)
    uv_prepare_init(uv, prepare)
    uv_idle_init(uv, idle)
    // Unretained: the thread below retains the loop until it has closed all its handles.
    let context = Unmanaged.passUnretained(self).toOpaque()
    async.pointee.data = context
    check.pointee.data = context
    prepare.pointee.data = context
    idle.pointee.data = context
    uv_check_start(check) {
      let loop = Loop.of($0?.pointee.data)
      loop.runContinuations()
      loop.runJobs()
    }
    uv_prepare_start(prepare) { Loop.of($0?.pointee.data).endTurn() }
    thread = PlatformThread(name: "\(name)-\(index)") {
      if let processor { Processors.pinCurrentThread(on: processor) }
      self.run()
    }
  }

  deinit {
    async.deallocate()
    check.deallocate()
    prepare.deallocate()
    idle.deallocate()
    uv.deallocate()
  }

  private static func of(_ data: UnsafeMutableRawPointer?) -> Loop {
    guard let data else { fatalError("libuv handle without its loop") }
    return Unmanaged<Loop>.fromOpaque(data).takeUnretainedValue()
  }

  // MARK: The thread

  private func run() {
    threadID.store(currentThreadID(), ordering: .releasing)
    while !isStopping { uv_run(uv, UV_RUN_ONCE) }
    closeHandles()
  }

  private func closeHandles() {
    inbox.withLock { $0.isClosed = true }
    descriptors.close()
    for handle in [UnsafeMutableRawPointer(async), .init(check), .init(prepare), .init(idle)] {
      uv_close(handle.assumingMemoryBound(to: uv_handle_t.self), nil)
    }
    // The handles of other targets are closed by their owners before `stop`. The number of tries is limited, because a
    // handle that was left open by mistake must not keep the process from ending.
    for _ in 0..<100 where uv_loop_alive(uv) != 0 { uv_run(uv, UV_RUN_NOWAIT) }
    uv_loop_close(uv)
  }

  /// Ends the thread after the current turn and waits for it. Must not be called on the loop itself.
  package func stop() {
    precondition(!isOnLoop, "a loop cannot wait for its own end")
    execute { self.isStopping = true }
    thread?.join()
    thread = nil
  }

  private func takeInbox() {
    // The arrays are swapped, not copied, so that both keep their capacity and the lock is held only briefly.
    inbox.withLock { inbox in
      inbox.isWakeUpSent = false
      swap(&inbox.jobs, &arrived)
    }
    queue.append(contentsOf: arrived)
    arrived.removeAll(keepingCapacity: arrived.capacity <= 4096)
  }

  /// Runs the work that was left for this turn. Called after the sockets were served.
  private func runContinuations() {
    guard !continuing.isEmpty else { return }
    let bodies = continuing
    continuing = []
    for body in bodies { body() }
  }

  private func runJobs() {
    var budget = Self.jobsPerTurn
    while queueHead < queue.count, budget > 0 {
      let job = queue[queueHead]
      queueHead += 1
      budget -= 1
      switch job {
      case .task(let task):
        task.runSynchronously(
          isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
      case .call(let body): body()
      }
    }
    if queueHead == queue.count {
      queue.removeAll(keepingCapacity: queue.capacity <= 4096)
      queueHead = 0
    }
  }

  /// Ends a turn: runs jobs that timers have added, then the hooks. Keeps the loop from waiting if jobs remain.
  private func endTurn() {
    runJobs()
    for hook in turnEndHooks { hook() }
    let hasWork = queueHead < queue.count || neverWaits || isStopping || !continuing.isEmpty
    if hasWork != isIdleActive {
      isIdleActive = hasWork
      // While an idle handle is active, the loop does not wait for sockets (libuv manual, uv_idle_t).
      if hasWork { uv_idle_start(idle) { _ in } } else { uv_idle_stop(idle) }
    }
    measureTurn()
  }

  /// Reports the CPU time of the thread since the end of the last turn. Waiting takes no CPU time.
  private func measureTurn() {
    guard let (tell, last) = turnMeter else { return }
    let now = ThreadClock.nanoseconds
    turnMeter?.last = now
    tell(Int((now - last) / 1000))
  }

  // MARK: On any thread

  /// Whether the caller is on this loop's thread.
  package var isOnLoop: Bool { threadID.load(ordering: .acquiring) == currentThreadID() }

  /// Traps unless the caller is on this loop's thread: to use a loop's state elsewhere is a bug of the server.
  package func preconditionOnLoop() {
    precondition(isOnLoop, "not on loop \(index)")
  }

  /// Runs `body` on the loop as a job, without waiting for it. Jobs from one thread keep their order. After `stop` jobs
  /// do not run.
  ///
  /// A burst of calls from other threads costs one wake-up of the loop (`uv_async_send`).
  package func execute(_ body: @escaping @Sendable () -> Void) { add(.call(body)) }

  /// The number of wake-ups that other threads have sent so far, for tests and metrics.
  package var wakeUpsSent: Int { wakeUps.load(ordering: .relaxed) }

  private func add(_ job: Job) {
    if isOnLoop {
      queue.append(job)
      return
    }
    inbox.withLock { inbox in
      guard !inbox.isClosed else { return }
      inbox.jobs.append(job)
      if inbox.isWakeUpSent { return }
      inbox.isWakeUpSent = true
      wakeUps.wrappingAdd(1, ordering: .relaxed)
      // Inside the lock: the handle is closed only after `isClosed` was set under this lock.
      uv_async_send(async)
    }
  }

  // MARK: On the loop

  /// Calls `hook` at the end of every turn, before the loop waits, for example to write what the turn has collected for
  /// sockets. On the loop only. Hooks cannot be removed.
  package func onTurnEnd(_ hook: @escaping () -> Void) {
    preconditionOnLoop()
    turnEndHooks.append(hook)
  }

  /// Calls `tell` after every turn with the CPU time that it took, in microseconds. On the loop only.
  package func measureTurns(_ tell: @escaping (_ microseconds: Int) -> Void) {
    preconditionOnLoop()
    turnMeter = (tell, ThreadClock.nanoseconds)
  }

  /// Makes the loop turn without ever waiting. For load generators: otherwise the server that they measure would pay
  /// for waking them. On the loop only.
  package func runWithoutWaiting() {
    preconditionOnLoop()
    neverWaits = true
  }

  /// Calls `body` in the next turn, after the sockets that are ready. For long work that is divided into parts: jobs
  /// and timers would not do, because those that start each other run within one turn. On the loop only.
  package func onNextTurn(_ body: @escaping () -> Void) {
    preconditionOnLoop()
    continuing.append(body)
  }

  /// Suspends the calling task until the next turn, so that sockets and other work are served before it continues. For
  /// a task on this loop that has much to do. On the loop only.
  package func nextTurn() async {
    await withCheckedContinuation { continuation in onNextTurn { continuation.resume() } }
  }

  // MARK: Executors

  package func enqueue(_ job: consuming ExecutorJob) { add(.task(UnownedJob(job))) }

  package func asUnownedSerialExecutor() -> UnownedSerialExecutor {
    UnownedSerialExecutor(ordinary: self)
  }

  package func asUnownedTaskExecutor() -> UnownedTaskExecutor {
    UnownedTaskExecutor(ordinary: self)
  }

  package func checkIsolated() { preconditionOnLoop() }
  package func isIsolatingCurrentContext() -> Bool? { isOnLoop }
}
