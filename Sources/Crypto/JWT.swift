package import Basics

/// JSON Web Tokens in compact form (RFC 7515, RFC 7519), with the two algorithms that this server supports: HS256 and
/// EdDSA. The verifier chooses the algorithm, never the token. A token with `none`, another algorithm or a critical
/// extension is refused before its signature is checked.
package enum JWT {
  /// The reason why a token is not valid. It is for the log and for tests: clients are not told the reason.
  package enum Failure: Error, Equatable, Sendable {
    case malformed, wrongAlgorithm, unknownKey, badSignature
  }

  /// The length of the longest token that is accepted. Real tokens are far shorter.
  package static let maximumBytes = 8192

  /// The parts of a token whose signature has not been checked.
  package struct Parts: Sendable {
    package let algorithm: String
    package let keyID: String?
    package let claims: JSONObject
    let signed: [UInt8]
    let signature: [UInt8]
  }

  /// Parses a token, without checking its signature. Throws `malformed` for anything that is not a compact JWS of a
  /// JSON object, and for critical extensions.
  package static func parse(_ token: String) throws(Failure) -> Parts {
    guard token.utf8.count <= maximumBytes else { throw .malformed }
    let bytes = Array(token.utf8)
    let pieces = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard pieces.count == 3, let header = object(pieces[0]), let claims = object(pieces[1]),
      let signature = Base64URL.decode(pieces[2]), let algorithm = header["alg"]?.string,
      header["crit"] == nil
    else { throw .malformed }
    return Parts(
      algorithm: algorithm, keyID: header["kid"]?.string, claims: claims,
      signed: Array(bytes[..<pieces[1].endIndex]),
      signature: signature)
  }

  private static func object(_ piece: ArraySlice<UInt8>) -> JSONObject? {
    guard let bytes = Base64URL.decode(piece) else { return nil }
    // `try?`: whatever is wrong with the JSON, the token is malformed.
    return (try? JSONParser.parse(bytes))?.object
  }

  /// Checks an HS256 signature (RFC 7518, 3.2).
  package static func verify(_ parts: Parts, hmacKey: HMACKey) throws(Failure) {
    guard parts.algorithm == "HS256" else { throw .wrongAlgorithm }
    guard SecretBytes.areEqual(hmacKey.code(of: parts.signed), parts.signature) else {
      throw .badSignature
    }
  }

  /// Checks an EdDSA signature (RFC 8037, 3.1) with the key that the token names.
  package static func verify(_ parts: Parts, keys: [SigningKey]) throws(Failure) {
    guard parts.algorithm == "EdDSA" else { throw .wrongAlgorithm }
    guard let key = keys.first(where: { $0.id == parts.keyID }) else { throw .unknownKey }
    guard key.verifies(parts.signature, of: parts.signed) else { throw .badSignature }
  }

  /// Returns a token that is signed with EdDSA. `claims` writes the members of its payload.
  package static func make(key: SigningKey, _ claims: (inout JSONWriter) -> Void) -> String {
    var header = JSONWriter()
    header.object {
      $0.member("alg", "EdDSA")
      $0.member("typ", "JWT")
      $0.member("kid", key.id)
    }
    var body = JSONWriter()
    body.object(claims)
    let signed = Base64URL.encode(header.bytes) + "." + Base64URL.encode(body.bytes)
    return signed + "." + Base64URL.encode(key.sign(Array(signed.utf8)))
  }
}
