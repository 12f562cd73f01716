internal import CSodium

/// A symmetric key that several server processes share, to protect messages that pass through other systems. Without
/// the key nobody can read, create or change a message. XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), with a random
/// nonce for each message.
///
/// Does not detect replayed messages.
package struct SealingKey: Sendable {
  private let bytes: [UInt8]

  package static let byteCount = 32
  /// The number of bytes that sealing adds to a message: the nonce and the authentication tag.
  package static let overheadBytes = nonceBytes + 16
  private static let nonceBytes = 24

  /// Makes a key of 32 bytes; nil for any other number of bytes.
  package init?(_ bytes: [UInt8]) {
    Sodium.ready
    guard bytes.count == Self.byteCount else { return nil }
    self.bytes = bytes
  }

  /// Derives a separate key for one purpose: BLAKE2b of the purpose's name, keyed with this key (RFC 7693, 2.9).
  package func derived(for use: String) -> SealingKey {
    var key = [UInt8](repeating: 0, count: Self.byteCount)
    let name = Array(use.utf8)
    // Fails only for lengths out of range, which these are not.
    _ = crypto_generichash(&key, key.count, name, UInt64(name.count), bytes, bytes.count)
    return SealingKey(bytes: key)
  }

  private init(bytes: [UInt8]) { self.bytes = bytes }

  /// Encrypts and authenticates a message. The additional data is authenticated, too, but it is not part of the result;
  /// `open` needs the same data.
  package func seal(_ message: [UInt8], authenticating: [UInt8]) -> [UInt8] {
    let nonce = SecretBytes.random(Self.nonceBytes)
    var cipher = [UInt8](repeating: 0, count: message.count + 16)
    // Never fails (libsodium's manual, crypto_aead_xchacha20poly1305_ietf_encrypt).
    _ = crypto_aead_xchacha20poly1305_ietf_encrypt(
      &cipher, nil, message, UInt64(message.count), authenticating, UInt64(authenticating.count),
      nil, nonce, bytes)
    return nonce + cipher
  }

  /// Returns the message if it was sealed with this key and the same additional data; otherwise nil.
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
