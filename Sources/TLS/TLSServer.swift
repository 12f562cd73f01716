internal import Basics
internal import COpenSSL

/// The common setup of incoming TLS connections: certificates, protocols and ciphers.
///
/// TLS 1.2 with forward secrecy and TLS 1.3, `http/1.1` by ALPN (RFC 7301), no renegotiation. Of several certificates
/// a client gets the first that matches the server name it asks for (RFC 6066, 3), or the first of all if none does.
/// Sessions are resumed by session tickets, on any thread. The ticket keys exist as long as this object.
// Unchecked: OpenSSL's contexts may be shared by threads once they are set up (SSL_CTX_new(3), "Notes").
package final class TLSServer: @unchecked Sendable {
  /// A certificate chain with its private key, both PEM files.
  package struct Files: Sendable, Equatable {
    package let chain: String
    package let key: String

    package init(chain: String, key: String) {
      self.chain = chain
      self.key = key
    }
  }

  /// A certificate that was read from its files.
  package struct Certificate: Sendable {
    package let files: Files
    /// The seconds from the moment when the certificate was read until it expires; negative if it had expired.
    package let expiresInSeconds: Int
  }

  package let certificates: [Certificate]
  /// The OpenSSL contexts, one per certificate. Every session begins with the first.
  private let contexts: [OpaquePointer]

  /// The ciphers that TLS 1.2 may use, all with forward secrecy. OpenSSL's defaults for TLS 1.3 need no selection.
  private static let ciphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    + "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

  /// Reads certificates from their files. There must be at least one. Throws `TLSError`, which names the file at fault.
  package convenience init(_ files: [Files]) throws(TLSError) {
    guard !files.isEmpty else { throw TLSError("there is no certificate") }
    try self.init(count: files.count) { index, context throws(TLSError) in
      try Self.load(files[index], into: context)
    }
  }

  /// Copies another server's certificates without reading the files again, and makes new ticket keys. Throws `TLSError`.
  package convenience init(renewing old: TLSServer) throws(TLSError) {
    try self.init(count: old.contexts.count) { index, context throws(TLSError) in
      ERR_clear_error()
      guard martlet_ssl_copy_certificate(context, old.contexts[index]) == 1 else {
        throw TLSError.last("a certificate cannot be used again")
      }
      return old.certificates[index]
    }
  }

  /// Makes `count` contexts. `fill` sets each context's certificate.
  private init(
    count: Int, fill: (_ index: Int, _ context: OpaquePointer) throws(TLSError) -> Certificate
  ) throws(TLSError) {
    var contexts: [OpaquePointer] = []
    var certificates: [Certificate] = []
    do throws(TLSError) {
      for index in 0..<count {
        let context = try Self.makeContext()
        contexts.append(context)
        certificates.append(try fill(index, context))
      }
    } catch {
      for context in contexts { SSL_CTX_free(context) }
      throw error
    }
    self.contexts = contexts
    self.certificates = certificates
    // Unretained: every session retains this server, so it exists whenever OpenSSL calls.
    martlet_ssl_on_server_name(
      contexts[0],
      { session, _, server in
        guard let session, let server else { return SSL_TLSEXT_ERR_NOACK }
        Unmanaged<TLSServer>.fromOpaque(server).takeUnretainedValue().chooseCertificate(session)
        return SSL_TLSEXT_ERR_OK
      }, Unmanaged.passUnretained(self).toOpaque())
  }

  deinit { for context in contexts { SSL_CTX_free(context) } }

  /// Makes a session with a client that has connected. Throws `TLSError` if memory runs out.
  package func session(on wire: TLSWire) throws(TLSError) -> TLSSession {
    guard let session = SSL_new(contexts[0]) else { throw TLSError.last("no TLS session") }
    SSL_set_accept_state(session)
    return TLSSession(session, wire: wire, owner: self, handshakeGuard: HandshakeGuard())
  }

  // MARK: Setup

  private static func makeContext() throws(TLSError) -> OpaquePointer {
    guard let context = SSL_CTX_new(TLS_server_method()) else {
      throw TLSError.last("no TLS context")
    }
    guard martlet_ssl_set_minimum_tls_1_2(context) == 1,
      SSL_CTX_set_cipher_list(context, ciphers) == 1
    else {
      let error = TLSError.last("the protocol and its ciphers cannot be set")
      SSL_CTX_free(context)
      throw error
    }
    martlet_ssl_no_renegotiation(context)
    martlet_ssl_release_buffers(context)
    martlet_ssl_no_session_cache(context)
    let name = Array("martlet".utf8)
    SSL_CTX_set_session_id_context(context, name, UInt32(name.count))
    SSL_CTX_set_alpn_select_cb(
      context,
      { _, chosen, chosenLength, offered, offeredLength, _ in
        guard let offered, let chosen, let chosenLength else { return SSL_TLSEXT_ERR_NOACK }
        let list = UnsafeBufferPointer(start: offered, count: Int(offeredLength))
        guard let place = TLSServer.rangeOfHTTP1(in: list) else {
          return SSL_TLSEXT_ERR_ALERT_FATAL
        }
        chosen.pointee = offered + place.lowerBound
        chosenLength.pointee = UInt8(place.count)
        return SSL_TLSEXT_ERR_OK
      }, nil)
    return context
  }

  /// Returns the range of `http/1.1` in a client's list of protocols, each of which is preceded by its length. Nil if it
  /// is not offered.
  static func rangeOfHTTP1(in list: UnsafeBufferPointer<UInt8>) -> Range<Int>? {
    var position = 0
    while position < list.count {
      let start = position + 1
      let end = start + Int(list[position])
      guard end <= list.count else { return nil }
      if list[start..<end].elementsEqual("http/1.1".utf8) { return start..<end }
      position = end
    }
    return nil
  }

  private static func load(
    _ files: Files, into context: OpaquePointer
  ) throws(TLSError) -> Certificate {
    ERR_clear_error()
    // An empty passphrase, so that an encrypted key is refused: nobody could enter its passphrase.
    SSL_CTX_set_default_passwd_cb(context) { _, _, _, _ in 0 }
    guard SSL_CTX_use_certificate_chain_file(context, files.chain) == 1 else {
      throw TLSError.last("the certificate \(files.chain) cannot be read")
    }
    guard SSL_CTX_use_PrivateKey_file(context, files.key, SSL_FILETYPE_PEM) == 1 else {
      // Also the error for a key that belongs to another certificate.
      throw TLSError.last("the key \(files.key) cannot be used with \(files.chain)")
    }
    guard SSL_CTX_check_private_key(context) == 1 else {
      throw TLSError.last("the key \(files.key) does not fit the certificate \(files.chain)")
    }
    var days: Int32 = 0
    var seconds: Int32 = 0
    guard let certificate = SSL_CTX_get0_certificate(context),
      ASN1_TIME_diff(&days, &seconds, nil, X509_get0_notAfter(certificate)) == 1
    else { throw TLSError.last("the certificate \(files.chain) has no time of expiry") }
    return Certificate(files: files, expiresInSeconds: Int(days) * 86_400 + Int(seconds))
  }

  // MARK: Choice of the certificate

  /// Sets the session's certificate to the first that matches the name that the client asks for, if there is one.
  private func chooseCertificate(_ session: OpaquePointer) {
    guard contexts.count > 1,
      let name = SSL_get_servername(session, TLSEXT_NAMETYPE_host_name)
    else { return }
    for context in contexts {
      guard let certificate = SSL_CTX_get0_certificate(context),
        X509_check_host(certificate, name, 0, 0, nil) == 1
      else { continue }
      SSL_set_SSL_CTX(session, context)
      return
    }
  }
}
