import Synchronization
import TestSupport
import Testing

@testable import EventLoop

@Suite struct EventLoopTests {
  @Test func `calls run on the loop, in order`() throws {
    let loop = Loop()
    let seen = Mutex<[Int]>([])
    for number in 0..<1000 {
      loop.execute {
        loop.preconditionOnLoop()
        seen.withLock { $0.append(number) }
      }
    }
    let result = try loop.runBlocking { seen.withLock { $0 } }
    #expect(result == Array(0..<1000))
    loop.stop()
  }

  @Test func `a burst from another thread costs one wake-up`() throws {
    let loop = Loop()
    try loop.runBlocking {}
    let gate = Mutex(false)
    let before = loop.wakeUpsSent
    // The loop is busy, so no call of the burst runs before all of them were made. If the gate never opened, the
    // expectations below would fail.
    loop.execute { try? spin("the gate opens") { gate.withLock(\.self) } }
    try spin("the loop is woken") { loop.wakeUpsSent > before }
    let busy = loop.wakeUpsSent
    // The blocking call may or may not have been taken before the burst; either way one more wake-up is enough.
    for _ in 0..<1000 { loop.execute {} }
    #expect(loop.wakeUpsSent - busy <= 1)
    gate.withLock { $0 = true }
    loop.stop()
  }

  @Test func `tasks stay on their loop`() throws {
    let loop = Loop()
    let isOnLoop = try loop.runBlocking {
      var all = loop.isOnLoop
      for _ in 0..<10 {
        await Task.yield()
        all = all && loop.isOnLoop
      }
      await loop.sleep(milliseconds: 1)
      return all && loop.isOnLoop && loop.isIsolatingCurrentContext() == true
    }
    #expect(isOnLoop)
    #expect(loop.isIsolatingCurrentContext() == false)
    loop.stop()
  }

  @Test(arguments: [true, false])
  func `a task begins later, or at once, and goes on on its loop`(isImmediate: Bool) throws {
    let loop = Loop()
    let steps = Mutex<[String]>([])
    @Sendable func note(_ step: String) { steps.withLock { $0.append(step) } }
    try loop.runBlocking {
      await withCheckedContinuation { done in
        let body: @Sendable () async -> Void = {
          note("begins")
          await loop.nextTurn()
          loop.preconditionOnLoop()
          note("goes on")
          done.resume()
        }
        if isImmediate { loop.immediateTask(body) } else { loop.task(body) }
        note("returned")
      }
    }
    let order = isImmediate ? ["begins", "returned"] : ["returned", "begins"]
    #expect(steps.withLock { $0 } == order + ["goes on"])
    loop.stop()
  }

  @Test func `a flood of jobs leaves room for timers`() throws {
    let loop = Loop()
    let fired = Mutex(false)
    @Sendable func flood() { loop.execute { if !fired.withLock({ $0 }) { flood() } } }
    loop.execute {
      loop.schedule(after: 5) { fired.withLock { $0 = true } }
      for _ in 0..<2000 { flood() }
    }
    try loop.runBlocking { try await eventually("the timer fires") { fired.withLock(\.self) } }
    #expect(fired.withLock { $0 })
    loop.stop()
  }

  @Test func `a pool refuses beyond its bound and finishes what it took`() async throws {
    let pool = ThreadPool(name: "test", threads: 1, maximumWaiting: 2)
    let gate = Mutex(false)
    // If the gate never opened, the expectations below would fail.
    #expect(pool.submit { _ in try? spin("the gate opens") { gate.withLock(\.self) } })
    try spin("it is taken") { pool.waitingCount == 0 }
    let done = Mutex(0)
    #expect(pool.submit { _ in done.withLock { $0 += 1 } })
    #expect(pool.submit { _ in done.withLock { $0 += 1 } })
    #expect(!pool.submit { _ in })
    await #expect(throws: ThreadPool.Full.self) { try await pool.run { _ in } }
    gate.withLock { $0 = true }
    pool.stop()
    #expect(done.withLock { $0 } == 2)
  }

  /// With one processor, and on systems that do not tell, nothing is pinned.
  @Test(arguments: [true, false])
  func `as many loops as processors keep one each, but for the first`(keeps: Bool) throws {
    let all = Processors.allowed
    for count in 1...4 {
      let group = LoopGroup(count: count, keepsProcessors: keeps)
      for (index, loop) in group.loops.enumerated() {
        let own = try loop.runBlocking { Processors.allowed }
        let isKept = keeps && count == all.count && index > 0
        #expect(own == (isKept ? [all[index]] : all))
        loop.stop()
      }
    }
  }
}
