internal import COpenSSL

/// The TLS state of one connection, without its socket: it takes bytes from the network and returns bytes for the
/// network. Used by one thread at a time.
///
/// https://docs.openssl.org/3.0/man7/ssl/
package final class TLSSession {
  private let session: OpaquePointer
  private let wire: TLSWire
  /// The `TLSServer` or `TLSClient`. Retained as long as the session, because OpenSSL asks a server for certificates.
  private let owner: AnyObject
  /// The check of the client's handshake, used until the handshake is complete. Nil in sessions with a server, which is
  /// trusted.
  private var handshakeGuard: HandshakeGuard?
  private var handshakeMessageCount = 0
  private var receivedBytes = 0

  /// The number of handshake messages that a peer may send without any data. For each further message it must have sent
  /// `bytesOfHandshakeMessage` bytes of data. Otherwise it could cheaply make this side compute new keys again and again.
  private static let freeHandshakeMessages = 32
  private static let bytesOfHandshakeMessage = 4096

  /// Whether the handshake is complete, so that `send` may be called.
  package var isEstablished: Bool { SSL_is_init_finished(session) == 1 }

  /// Takes ownership of the OpenSSL session, which must be set to accept or to connect.
  init(
    _ session: OpaquePointer, wire: TLSWire, owner: AnyObject,
    handshakeGuard: HandshakeGuard? = nil
  ) {
    self.handshakeGuard = handshakeGuard
    self.session = session
    self.wire = wire
    self.owner = owner
    // Both directions use one BIO. SSL_set_bio takes over one reference to it (SSL_set_bio(3)).
    BIO_up_ref(wire.bio)
    SSL_set_bio(session, wire.bio, wire.bio)
    // Unretained: OpenSSL calls this only during a call of a method of this object.
    martlet_ssl_on_message(
      session,
      { isSent, _, kind, _, _, _, this in
        guard isSent == 0, kind == SSL3_RT_HANDSHAKE, let this else { return }
        Unmanaged<TLSSession>.fromOpaque(this).takeUnretainedValue().receivedHandshakeMessage()
      }, Unmanaged.passUnretained(self).toOpaque())
  }

  deinit { SSL_free(session) }

  /// Takes bytes from the network, or none to begin the handshake. Calls `deliver` with the decrypted data, piece by
  /// piece, until it returns false. A piece is valid only during that call, which may modify it.
  ///
  /// Whenever `deliver` is called, and when this returns, `wire.output` holds the bytes that must go to the network.
  /// Returns false if the peer has ended its side. Throws `TLSError`; even then there may be output: an alert that tells
  /// the peer the reason.
  package func receive(
    _ bytes: UnsafeRawBufferPointer, _ deliver: (UnsafeMutableRawBufferPointer) -> Bool
  ) throws(TLSError) -> Bool {
    var rest = bytes
    while !rest.isEmpty, !isEstablished, let count = try handshakeGuard?.next(rest) {
      let outcome = try read(UnsafeRawBufferPointer(rebasing: rest[..<count]), deliver)
      guard outcome == .wantsMore else { return outcome != .ended }
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      // In TLS 1.2 everything after ChangeCipherSpec is encrypted.
      if handshakeGuard?.hasChangedCipher == true, SSL_version(session) != TLS1_3_VERSION {
        handshakeGuard = nil
      }
    }
    return try read(rest, deliver) != .ended
  }

  private enum Outcome {
    /// All input was read; more is needed for further data.
    case wantsMore
    /// `deliver` has returned false.
    case isStopped
    /// The peer has ended its side.
    case ended
  }

  private func read(
    _ bytes: UnsafeRawBufferPointer, _ deliver: (UnsafeMutableRawBufferPointer) -> Bool
  ) throws(TLSError) -> Outcome {
    wire.input = bytes
    defer { wire.input = UnsafeRawBufferPointer(start: nil, count: 0) }
    while true {
      ERR_clear_error()
      let count = SSL_read(session, wire.plain.baseAddress, Int32(wire.plain.count))
      guard !isFlooded else { throw TLSError("the peer changes its keys too often") }
      guard count > 0 else { return try needsNetwork(count) ? .wantsMore : .ended }
      receivedBytes &+= Int(count)
      let piece = UnsafeMutableRawBufferPointer(rebasing: wire.plain[..<Int(count)])
      if !deliver(piece) { return .isStopped }
    }
  }

  /// Whether the peer has sent too many handshake messages for the data that it has sent.
  private var isFlooded: Bool {
    handshakeMessageCount
      > Self.freeHandshakeMessages + receivedBytes / Self.bytesOfHandshakeMessage
  }

  /// Counts a handshake message. OpenSSL handles such messages one after the other without returning, so the rest of the
  /// input is taken away from it once there are too many.
  private func receivedHandshakeMessage() {
    handshakeMessageCount += 1
    if isFlooded { wire.input = UnsafeRawBufferPointer(start: nil, count: 0) }
  }

  /// Encrypts bytes for the peer and appends them to `wire.output`. Only if `isEstablished`. Throws `TLSError`.
  package func send(_ bytes: UnsafeRawBufferPointer) throws(TLSError) {
    guard !bytes.isEmpty else { return }
    ERR_clear_error()
    // OpenSSL writes all bytes at once, because the wire accepts everything.
    let count = SSL_write(session, bytes.baseAddress, Int32(clamping: bytes.count))
    guard count == bytes.count else { throw TLSError.last("TLS cannot send") }
  }

  /// Tells the peer that nothing more will be sent (close_notify; RFC 8446, 6.1). The peer may still send.
  package func endSending() {
    ERR_clear_error()
    // The result is not needed: it tells whether the peer has ended its side, too.
    _ = SSL_shutdown(session)
  }

  /// Explains why an OpenSSL call returned no data: true if it needs more network I/O, false if the peer has ended its
  /// side. Throws `TLSError` if the session has failed.
  private func needsNetwork(_ status: Int32) throws(TLSError) -> Bool {
    switch SSL_get_error(session, status) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return true
    case SSL_ERROR_ZERO_RETURN: return false
    default:
      let verification = SSL_get_verify_result(session)
      guard verification == X509_V_OK else {
        ERR_clear_error()
        let reason = X509_verify_cert_error_string(verification).map { String(cString: $0) }
        throw TLSError("the certificate is not accepted: \(reason ?? "\(verification)")")
      }
      throw TLSError.last(isEstablished ? "TLS failed" : "the TLS handshake failed")
    }
  }
}
