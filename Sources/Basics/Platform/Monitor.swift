#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A lock with a condition variable, for threads that also wait (POSIX mutex and condition variable).
///
/// For plain critical sections use `Synchronization.Mutex`.
package final class Monitor: @unchecked Sendable {
  // Unchecked: POSIX makes both safe for use by many threads, and they stay at one address until `deinit`.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  package init() {
    pthread_mutex_init(mutex, nil)
    #if canImport(Glibc)
      // Waits are measured by a clock that nobody can set.
      var attributes = pthread_condattr_t()
      pthread_condattr_init(&attributes)
      pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
      pthread_cond_init(condition, &attributes)
      pthread_condattr_destroy(&attributes)
    #else
      pthread_cond_init(condition, nil)
    #endif
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Runs `body` while this thread holds the lock. Not reentrant.
  package func locked<Result>(_ body: () throws -> Result) rethrows -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body()
  }

  /// Waits for `signal` or `broadcast`, or wakes up without reason. Call it inside `locked`, in a loop that checks the
  /// condition.
  package func wait() { pthread_cond_wait(condition, mutex) }

  /// Waits like `wait()`, but for at most this many milliseconds.
  package func wait(milliseconds: Int64) {
    #if canImport(Glibc)
      let now = Monotonic.milliseconds
    #else
      let now = Timestamp.now.milliseconds
    #endif
    let until = now + max(0, milliseconds)
    var time = timespec(tv_sec: Int(until / 1000), tv_nsec: Int(until % 1000) * 1_000_000)
    pthread_cond_timedwait(condition, mutex, &time)
  }

  /// Wakes one waiting thread. The caller need not hold the lock.
  package func signal() { pthread_cond_signal(condition) }
  /// Wakes all waiting threads. The caller need not hold the lock.
  package func broadcast() { pthread_cond_broadcast(condition) }
}
