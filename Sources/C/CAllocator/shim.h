// mallopt(3) belongs to glibc. With another C library there is nothing to set.
#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

static inline void martlet_fix_mmap_threshold(int bytes) {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, bytes);
#else
  (void)bytes;
#endif
}
