#include <string.h>
#include <libwebsockets.h>

// The creation structure is large and versioned by its size: C zeroes it.
static inline struct lws_context_creation_info martlet_lws_info(void) {
  struct lws_context_creation_info info;
  memset(&info, 0, sizeof(info));
  return info;
}

// Options are single bits of 64; the larger ones do not fit the enum that Swift imports.
static inline uint64_t martlet_lws_option_libuv(void) { return LWS_SERVER_OPTION_LIBUV; }
static inline uint64_t martlet_lws_option_tls(void) {
  return LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
}
static inline uint64_t martlet_lws_option_explicit_vhosts(void) {
  return LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
}
