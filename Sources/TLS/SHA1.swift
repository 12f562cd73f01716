internal import COpenSSL

/// SHA-1 (FIPS 180-4), for the WebSocket handshake and for entity tags, where nothing depends on its security.
package enum SHA1 {
  /// The algorithm, fetched once, because that takes longer than hashing a short text (EVP_MD_fetch(3)).
  // `nonisolated(unsafe)` because a pointer is not `Sendable`: it never changes, and threads may share it.
  nonisolated(unsafe) private static let algorithm = EVP_MD_fetch(nil, "SHA1", nil)

  /// Returns the digest in base64 (RFC 4648, 4): 28 characters.
  package static func base64(of bytes: [UInt8]) -> String {
    var digest = [UInt8](repeating: 0, count: 20)
    // Fails only if memory runs out.
    let isDone = EVP_Digest(bytes, bytes.count, &digest, nil, algorithm, nil) == 1
    precondition(isDone, "there was no memory for SHA-1")
    // 28 characters and the terminating zero that OpenSSL writes.
    var text = [UInt8](repeating: 0, count: 29)
    let count = EVP_EncodeBlock(&text, digest, Int32(digest.count))
    return String(decoding: text.prefix(Int(count)), as: UTF8.self)
  }
}
