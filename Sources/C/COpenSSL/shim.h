#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* Macros, which Swift does not see. */

static inline int martlet_ssl_set_minimum_tls_1_2(SSL_CTX *context) {
  return (int)SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
}

/* The name that the client asks for (RFC 6066, 3). */
static inline int martlet_ssl_set_server_name(SSL *session, const char *name) {
  return (int)SSL_set_tlsext_host_name(session, name);
}

/* Called with the name that a client asked for; `argument` is the callback's last. */
static inline void martlet_ssl_on_server_name(
    SSL_CTX *context, int (*callback)(SSL *, int *, void *), void *argument) {
  SSL_CTX_set_tlsext_servername_callback(context, callback);
  SSL_CTX_set_tlsext_servername_arg(context, argument);
}

/* A client that asks for new keys in the middle of TLS 1.2 is refused. */
static inline void martlet_ssl_no_renegotiation(SSL_CTX *context) {
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
}

/* Gives a context the certificate of another, with its chain and its key; 0 where that fails. */
static inline int martlet_ssl_copy_certificate(SSL_CTX *to, SSL_CTX *from) {
  STACK_OF(X509) *chain = NULL;
  SSL_CTX_get0_chain_certs(from, &chain);
  return SSL_CTX_use_cert_and_key(
      to, SSL_CTX_get0_certificate(from), SSL_CTX_get0_privatekey(from), chain, 1);
}

/* Called with each message of a session's protocol (SSL_set_msg_callback(3)); `argument` is the callback's last. */
static inline void martlet_ssl_on_message(
    SSL *session, void (*callback)(int, int, int, const void *, size_t, SSL *, void *), void *argument) {
  SSL_set_msg_callback(session, callback);
  SSL_set_msg_callback_arg(session, argument);
}

/* Buffers go when nothing is in them: an idle connection keeps none (SSL_CTX_set_mode(3)). */
static inline void martlet_ssl_release_buffers(SSL_CTX *context) {
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
}

/* Sessions go on by tickets, which the clients keep: nothing is remembered here. */
static inline void martlet_ssl_no_session_cache(SSL_CTX *context) {
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

static inline void martlet_bio_retry_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline void martlet_bio_clear_retry(BIO *bio) { BIO_clear_retry_flags(bio); }
