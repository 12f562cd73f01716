internal import CSodium

/// A key that several of our own share, for messages that others carry: whoever has not the key can neither read,
/// make nor change one. XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), with a random nonce for each message.
///
/// That a message was carried twice is not seen here.
package struct SealingKey: Sendable {
  private let bytes: [UInt8]

  package static let byteCount = 32
  /// What sealing adds.
  package static let overheadBytes = nonceBytes + 16
  private static let nonceBytes = 24

  /// Nil unless it has 32 bytes.
  package init?(_ bytes: [UInt8]) {
    Sodium.ready
    guard bytes.count == Self.byteCount else { return nil }
    self.bytes = bytes
  }

  /// A key for one of several uses of this one: BLAKE2b with this key (RFC 7693, 2.9), of the use's name.
  package func derived(for use: String) -> SealingKey {
    var key = [UInt8](repeating: 0, count: Self.byteCount)
    let name = Array(use.utf8)
    // Fails only for lengths out of range.
    _ = crypto_generichash(&key, key.count, name, UInt64(name.count), bytes, bytes.count)
    return SealingKey(bytes: key)
  }

  private init(bytes: [UInt8]) { self.bytes = bytes }

  /// Seals a message together with additional data, which is authenticated but not in the result: it opens only
  /// with the same.
  package func seal(_ message: [UInt8], authenticating: [UInt8]) -> [UInt8] {
    let nonce = SecretBytes.random(Self.nonceBytes)
    var cipher = [UInt8](repeating: 0, count: message.count + 16)
    // Fails for no input (libsodium's manual, crypto_aead_xchacha20poly1305_ietf_encrypt).
    _ = crypto_aead_xchacha20poly1305_ietf_encrypt(
      &cipher, nil, message, UInt64(message.count), authenticating, UInt64(authenticating.count),
      nil, nonce, bytes)
    return nonce + cipher
  }

  /// What `seal` sealed with this key and the same additional data; else nil.
  package func open(_ sealed: ArraySlice<UInt8>, authenticating: [UInt8]) -> [UInt8]? {
    guard sealed.count >= Self.overheadBytes else { return nil }
    let cipher = Array(sealed.dropFirst(Self.nonceBytes))
    var message = [UInt8](repeating: 0, count: sealed.count - Self.overheadBytes)
    let status = crypto_aead_xchacha20poly1305_ietf_decrypt(
      &message, nil, nil, cipher, UInt64(cipher.count), authenticating,
      UInt64(authenticating.count),
      Array(sealed.prefix(Self.nonceBytes)), bytes)
    return status == 0 ? message : nil
  }
}
