internal import COpenSSL

/// TLS of one connection, without the connection: bytes of the network in, bytes for the network out. For one
/// thread at a time.
///
/// https://docs.openssl.org/3.0/man7/ssl/
package final class TLSSession {
  private let session: OpaquePointer
  private let wire: TLSWire
  /// Kept as long as the session: OpenSSL asks it for certificates.
  private let owner: AnyObject
  /// Until both sides have agreed; nil for clients, which believe their server.
  private var handshakeGuard: HandshakeGuard?
  private var handshakeMessageCount = 0
  private var receivedBytes = 0

  /// Handshake messages that a peer may send without saying anything; each of some more bytes allows one more. New keys for
  /// each byte would cost far more than the byte.
  private static let freeHandshakeMessages = 32
  private static let bytesOfHandshakeMessage = 4096

  /// Whether both sides have agreed, so that `send` can be called.
  package var isEstablished: Bool { SSL_is_init_finished(session) == 1 }

  /// Takes ownership of the session, which has been told whether it accepts or connects.
  init(
    _ session: OpaquePointer, wire: TLSWire, owner: AnyObject,
    handshakeGuard: HandshakeGuard? = nil
  ) {
    self.handshakeGuard = handshakeGuard
    self.session = session
    self.wire = wire
    self.owner = owner
    // Both directions are one BIO, of which the session then owns one reference (SSL_set_bio(3)).
    BIO_up_ref(wire.bio)
    SSL_set_bio(session, wire.bio, wire.bio)
    // Unretained: it is called while this calls OpenSSL only.
    martlet_ssl_on_message(
      session,
      { isSent, _, kind, _, _, _, this in
        guard isSent == 0, kind == SSL3_RT_HANDSHAKE, let this else { return }
        Unmanaged<TLSSession>.fromOpaque(this).takeUnretainedValue().receivedHandshakeMessage()
      }, Unmanaged.passUnretained(self).toOpaque())
  }

  deinit { SSL_free(session) }

  /// Takes bytes of the network, none to begin; calls `deliver` with what the peer said, piece by piece, until it
  /// returns false. A piece is gone after the call, and may be changed in it.
  ///
  /// What is to go to the network is in `wire.output` whenever `deliver` is called, and after this. Returns false where
  /// the peer says no more. Throws `TLSError`; also then there may be output: the alert that says why.
  package func receive(
    _ bytes: UnsafeRawBufferPointer, _ deliver: (UnsafeMutableRawBufferPointer) -> Bool
  ) throws(TLSError) -> Bool {
    var rest = bytes
    while !rest.isEmpty, !isEstablished, let count = try handshakeGuard?.next(rest) {
      let outcome = try read(UnsafeRawBufferPointer(rebasing: rest[..<count]), deliver)
      guard outcome == .wantsMore else { return outcome != .ended }
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      // In TLS 1.2 what follows is encrypted.
      if handshakeGuard?.hasChangedCipher == true, SSL_version(session) != TLS1_3_VERSION {
        handshakeGuard = nil
      }
    }
    return try read(rest, deliver) != .ended
  }

  private enum Outcome {
    case wantsMore
    /// Nobody wants what the peer says.
    case isStopped
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

  private var isFlooded: Bool {
    handshakeMessageCount
      > Self.freeHandshakeMessages + receivedBytes / Self.bytesOfHandshakeMessage
  }

  /// OpenSSL takes them one after the other without coming back.
  private func receivedHandshakeMessage() {
    handshakeMessageCount += 1
    if isFlooded { wire.input = UnsafeRawBufferPointer(start: nil, count: 0) }
  }

  /// Encrypts bytes for the peer, behind what is in `wire.output` already. Once established.
  package func send(_ bytes: UnsafeRawBufferPointer) throws(TLSError) {
    guard !bytes.isEmpty else { return }
    ERR_clear_error()
    // The wire takes all that it is given.
    let count = SSL_write(session, bytes.baseAddress, Int32(clamping: bytes.count))
    guard count == bytes.count else { throw TLSError.last("TLS cannot send") }
  }

  /// Says that nothing more will be sent (RFC 8446, 6.1); the peer may still send.
  package func endSending() {
    ERR_clear_error()
    // Its result tells whether the peer has said so, too.
    _ = SSL_shutdown(session)
  }

  /// What became of a call that gave nothing: false at the peer's end, true where more of the network is needed.
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
