#include <uv.h>

#ifdef __linux__
/* epoll(7), whose header Swift does not see. */
#include <sys/epoll.h>

/* sendfile(2), whose header Swift does not see. */
long martlet_sendfile(int out, int in, long *offset, unsigned long count) __asm__("sendfile");

/* preadv2(2) and its flag for "not if that has to wait", which <sys/uio.h> shows with _GNU_SOURCE only. */
long martlet_preadv2(int file, const struct iovec *parts, int count, long offset, int flags)
    __asm__("preadv2");
enum { MARTLET_RWF_NOWAIT = 8 };

/* sched_setaffinity(2) and sched_getaffinity(2), which <sched.h> shows with _GNU_SOURCE only. A mask has a bit
   for each processor; `size` is in bytes. */
int martlet_set_affinity(int thread, unsigned long size, const unsigned long long *mask)
    __asm__("sched_setaffinity");
int martlet_get_affinity(int thread, unsigned long size, unsigned long long *mask)
    __asm__("sched_getaffinity");

/* accept4(2), which <sys/socket.h> shows with _GNU_SOURCE only. */
int martlet_accept4(int descriptor, struct sockaddr *peer, socklen_t *length, int flags)
    __asm__("accept4");
#endif
