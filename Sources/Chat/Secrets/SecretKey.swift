internal import Basics
internal import Crypto

/// The random key of one text of a secret room. The text is stored only sealed with it, so destroying the key
/// destroys the text.
struct SecretKey {
  let bytes: [UInt8]
  private let key: SealingKey

  /// Makes a new key.
  static func make() -> SecretKey {
    guard let key = SecretKey(SecretBytes.random(SealingKey.byteCount)) else {
      preconditionFailure("a key of the right length is one")
    }
    return key
  }

  /// Nil if the bytes are not a key.
  init?(_ bytes: [UInt8]) {
    guard let key = SealingKey(bytes) else { return nil }
    self.bytes = bytes
    self.key = key
  }

  /// Returns a text as it is stored, for the message with this id.
  func seal(_ text: String, of message: MessageID) -> String {
    Base64URL.encode(key.seal(Array(text.utf8), authenticating: message.uuid.bytes))
  }

  /// Returns a stored text; nil if it was not sealed with this key, for this message.
  func open(_ sealed: String, of message: MessageID) -> String? {
    guard let bytes = Base64URL.decode(sealed),
      let text = key.open(bytes[...], authenticating: message.uuid.bytes)
    else { return nil }
    return String(validating: text, as: UTF8.self)
  }

  /// Returns what is stored in place of the digest of a content: without the key nobody can try out contents.
  func keyed(_ digest: UUID) -> UUID? {
    UUID(bytes: Array(Hash.hmacSHA256(digest.bytes, key: bytes).prefix(16)))
  }
}
