internal import Basics
internal import COpenSSL

/// The common setup of outgoing TLS connections: the protocol versions, and the authorities whose certificates are
/// trusted.
///
/// TLS 1.2 and newer. The server's certificate must lead to one of the authorities and match the requested host.
// Unchecked: OpenSSL's contexts may be shared by threads once they are set up (SSL_CTX_new(3), "Notes").
package final class TLSClient: @unchecked Sendable {
  private let context: OpaquePointer

  /// Reads the trusted certificates from a PEM file, or those of the system if `authorities` is nil. Throws `TLSError`.
  package init(authorities: String?) throws(TLSError) {
    guard let context = SSL_CTX_new(TLS_client_method()) else {
      throw TLSError.last("no TLS context")
    }
    self.context = context
    guard martlet_ssl_set_minimum_tls_1_2(context) == 1 else {
      throw TLSError.last("TLS 1.2 cannot be asked for")
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
    let status =
      if let authorities {
        SSL_CTX_load_verify_file(context, authorities)
      } else {
        SSL_CTX_set_default_verify_paths(context)
      }
    guard status == 1 else { throw TLSError.last("the authorities cannot be read") }
  }

  deinit { SSL_CTX_free(context) }

  /// Makes a session with a server that has this host name or address. Throws `TLSError`.
  package func session(with host: String, on wire: TLSWire) throws(TLSError) -> TLSSession {
    guard let session = SSL_new(context) else { throw TLSError.last("no TLS session") }
    SSL_set_connect_state(session)
    // An address is not sent as a server name (RFC 6066, 3), and the certificate must name that address.
    let isAccepted =
      if IPAddress(host) != nil {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host) == 1
      } else {
        SSL_set1_host(session, host) == 1 && martlet_ssl_set_server_name(session, host) == 1
      }
    guard isAccepted else {
      SSL_free(session)
      throw TLSError.last("TLS does not take the host \(host)")
    }
    return TLSSession(session, wire: wire, owner: self)
  }
}
