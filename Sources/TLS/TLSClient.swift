internal import Basics
internal import COpenSSL
internal import Synchronization

/// Why TLS failed, in OpenSSL's words.
package struct TLSError: Error, CustomStringConvertible, Sendable {
  package let description: String

  init(_ what: String) { description = what }

  /// With what OpenSSL says of its last failure on this thread; its list is empty after that.
  static func last(_ what: String) -> TLSError {
    var text = ""
    while case let code = ERR_get_error(), code != 0 {
      var buffer = [CChar](repeating: 0, count: 256)
      ERR_error_string_n(code, &buffer, buffer.count)
      text = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
    return TLSError(text.isEmpty ? what : "\(what): \(text)")
  }
}

/// What TLS connections to servers have in common: who is believed.
///
/// TLS 1.2 and newer; the server's certificate must be signed by one of the authorities and bear the name that was
/// asked for.
// Unchecked: OpenSSL's contexts may be shared by threads once they are set up (SSL_CTX_new(3), "Notes").
package final class TLSClient: @unchecked Sendable {
  private let context: OpaquePointer

  /// `authorities` is a PEM file of the certificates that are believed; nil: the system's. Throws `TLSError`.
  package init(authorities: String?) throws {
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

  /// Begins a session with a server of this name or address.
  package func session(with host: String) throws -> TLSSession {
    guard let session = SSL_new(context) else { throw TLSError.last("no TLS session") }
    return try TLSSession(session, host)
  }
}

/// TLS of one connection, without the connection: bytes of the network in, bytes for the network out. For one
/// thread at a time.
///
/// https://docs.openssl.org/3.0/man7/ssl/, BIO_s_mem(3)
package final class TLSSession {
  private let session: OpaquePointer
  /// Owned by `session`: what came from the network, and what is to go there.
  private let (incoming, outgoing): (OpaquePointer, OpaquePointer)
  /// What was sent before the handshake was done.
  private var waiting: [UInt8] = []

  package private(set) var isEstablished = false

  /// Takes ownership of the session.
  fileprivate init(_ session: OpaquePointer, _ host: String) throws {
    guard let incoming = BIO_new(BIO_s_mem()) else {
      SSL_free(session)
      throw TLSError.last("no TLS session")
    }
    guard let outgoing = BIO_new(BIO_s_mem()) else {
      BIO_free(incoming)
      SSL_free(session)
      throw TLSError.last("no TLS session")
    }
    self.session = session
    self.incoming = incoming
    self.outgoing = outgoing
    SSL_set_bio(session, incoming, outgoing)
    SSL_set_connect_state(session)
    // An address has no name to ask for; the certificate must then bear the address.
    let isAccepted =
      if IPAddress(host) != nil {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host) == 1
      } else {
        SSL_set1_host(session, host) == 1 && martlet_ssl_set_server_name(session, host) == 1
      }
    guard isAccepted else { throw TLSError.last("TLS does not take the host \(host)") }
  }

  deinit { SSL_free(session) }

  /// Takes bytes of the network, none to begin; returns what the server said. Call `takeOutgoing` after.
  /// Throws `TLSError`, also where the server ended the session.
  package func receive(_ bytes: [UInt8]) throws -> [UInt8] {
    ERR_clear_error()
    if !bytes.isEmpty {
      guard BIO_write(incoming, bytes, Int32(clamping: bytes.count)) == Int32(clamping: bytes.count)
      else { throw TLSError.last("TLS takes no more") }
    }
    if !isEstablished {
      let status = SSL_do_handshake(session)
      guard status == 1 else {
        try check(status, "the TLS handshake failed")
        return []
      }
      isEstablished = true
      let first = waiting
      waiting = []
      try send(first)
    }
    var plain: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: Self.recordBytes)
    while true {
      let count = SSL_read(session, &buffer, Int32(buffer.count))
      guard count > 0 else {
        // What came before the end is not lost with it: the end is told at the next call.
        do { try check(count, "TLS failed") } catch { if plain.isEmpty { throw error } }
        return plain
      }
      plain += buffer.prefix(Int(count))
    }
  }

  /// Encrypts bytes for the server. Call `takeOutgoing` after.
  package func send(_ bytes: [UInt8]) throws {
    guard isEstablished else {
      waiting += bytes
      return
    }
    ERR_clear_error()
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes {
        SSL_write(session, $0.baseAddress, Int32(clamping: $0.count))
      }
      guard count > 0 else { throw TLSError.last("TLS failed") }
      rest = rest.dropFirst(Int(count))
    }
  }

  /// Bytes for the network.
  package func takeOutgoing() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: BIO_ctrl_pending(outgoing))
    guard !bytes.isEmpty else { return [] }
    let count = BIO_read(outgoing, &bytes, Int32(clamping: bytes.count))
    return Array(bytes.prefix(max(0, Int(count))))
  }

  /// The largest record holds 16 KiB (RFC 8446, 5.1).
  private static let recordBytes = 16 * 1024

  /// Throws unless OpenSSL only waits for more of the network.
  private func check(_ status: Int32, _ what: String) throws {
    switch SSL_get_error(session, status) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return
    case SSL_ERROR_ZERO_RETURN: throw TLSError("the server ended the TLS session")
    default:
      let verification = SSL_get_verify_result(session)
      guard verification == X509_V_OK else {
        let reason = X509_verify_cert_error_string(verification).map { String(cString: $0) }
        throw TLSError("the server's certificate is not accepted: \(reason ?? "\(verification)")")
      }
      throw TLSError.last(what)
    }
  }
}
