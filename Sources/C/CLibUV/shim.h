#include <uv.h>

#ifdef __linux__
/* sched_setaffinity(2) and sched_getaffinity(2), which <sched.h> shows with _GNU_SOURCE only. A mask has a bit
   for each processor; `size` is in bytes. */
int martlet_set_affinity(int thread, unsigned long size, const unsigned long long *mask)
    __asm__("sched_setaffinity");
int martlet_get_affinity(int thread, unsigned long size, unsigned long long *mask)
    __asm__("sched_getaffinity");
#endif
