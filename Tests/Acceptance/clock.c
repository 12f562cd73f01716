/* Preloaded into a server by the tests: moves its wall clock by as many milliseconds as stand in the file
   that CLOCK_SHIFT_FILE names, also while it runs. The clocks that nobody can set are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int (*original)(clockid_t, struct timespec *);
static volatile long long *shift;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("CLOCK_SHIFT_FILE");
  int descriptor = path ? open(path, O_RDONLY) : -1;
  original = dlsym(RTLD_NEXT, "clock_gettime");
  if (descriptor < 0) return;
  void *mapped = mmap(0, sizeof(long long), PROT_READ, MAP_SHARED, descriptor, 0);
  close(descriptor);
  if (mapped != MAP_FAILED) shift = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (!original) original = dlsym(RTLD_NEXT, "clock_gettime");
  int status = original(clock, time);
  if (status == 0 && clock == CLOCK_REALTIME && shift) {
    long long moved = time->tv_sec * 1000000000LL + time->tv_nsec + *shift * 1000000LL;
    time->tv_sec = moved / 1000000000LL;
    time->tv_nsec = moved % 1000000000LL;
  }
  return status;
}
