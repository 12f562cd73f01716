// For ThreadSanitizer: what it must know of Swift's Mutex.
//
// Synchronization.Mutex locks with an atomic operation in our own code, which ThreadSanitizer sees, or, where another
// thread holds the lock, inside Swift's library, which is not instrumented: then it would take the two critical sections
// for a race. These functions stand in front of the library's own and say what happens there. Linked into the sanitized
// build only, by scripts/sanitize.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *self

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define TRY_LOCK "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

SWIFT void martlet_lock(uint32_t thread, SELF) __asm__(LOCK);
SWIFT bool martlet_try_lock(SELF) __asm__(TRY_LOCK);
SWIFT void martlet_unlock(SELF) __asm__(UNLOCK);

SWIFT void martlet_lock(uint32_t thread, SELF) {
  SWIFT void (*original)(uint32_t, SELF) = dlsym(RTLD_NEXT, LOCK);
  original(thread, self);
  __tsan_acquire(self);
}

SWIFT bool martlet_try_lock(SELF) {
  SWIFT bool (*original)(SELF) = dlsym(RTLD_NEXT, TRY_LOCK);
  bool locked = original(self);
  if (locked) __tsan_acquire(self);
  return locked;
}

SWIFT void martlet_unlock(SELF) {
  SWIFT void (*original)(SELF) = dlsym(RTLD_NEXT, UNLOCK);
  __tsan_release(self);
  original(self);
}
