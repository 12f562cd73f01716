import Basics
import Testing

@testable import Crypto

@Suite struct CryptoTests {
  private func hex(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  @Test func `digests give the published values`() {
    // RFC 4231, test case 2.
    #expect(
      hex(Hash.hmacSHA256(Array("what do ya want for nothing?".utf8), key: Array("Jefe".utf8)))
        == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
  }

  @Test func `a fingerprint is the same for the same, and another under another key`() {
    let (one, other) = (Fingerprints(), Fingerprints())
    let texts = [[], [0], [1], [0, 0], [UInt8](repeating: 7, count: 400)] as [[UInt8]]
    let prints = texts.map { one.fingerprint($0) }
    #expect(prints == texts.map { one.fingerprint($0) } && Set(prints).count == texts.count)
    #expect(Set(texts.map { other.fingerprint($0) }).isDisjoint(with: prints))
  }

  @Test func `base64url has one text per value`() {
    for text in ["", "f", "fo", "foo", "foob", "fooba", "foobar"] {
      #expect(Base64URL.decode(Base64URL.encode(Array(text.utf8))) == Array(text.utf8))
    }
    for text in ["A", "Zh", "Zg==", "Z+", "Z/", "Zm9=", " Zg"] {
      #expect(Base64URL.decode(text) == nil)
    }
  }

  @Test func `passwords match their own hash only`() throws {
    let hash = try #require(PasswordHash.make("correct horse"))
    #expect(hash.hasPrefix("$argon2id$v=19$m=19456,t=2,p=1$"))
    #expect(PasswordHash.matches("correct horse", hash: hash))
    #expect(!PasswordHash.matches("correct horsf", hash: hash))
    #expect(!PasswordHash.matches("", hash: ""))
  }

  @Test func `tokens are what their key signed`() throws {
    let key = try #require(SigningKey(id: "k", seed: SecretBytes.random(32)))
    let other = try #require(SigningKey(id: "k", seed: SecretBytes.random(32)))
    let token = JWT.make(key: key) { $0.member("sub", "x") }
    let parts = try JWT.parse(token)
    #expect(parts.claims["sub"] == .string("x"))
    try JWT.verify(parts, keys: [key])
    #expect(throws: JWT.Failure.badSignature) { try JWT.verify(parts, keys: [other]) }
    #expect(throws: JWT.Failure.unknownKey) { try JWT.verify(parts, keys: []) }
    #expect(throws: JWT.Failure.wrongAlgorithm) {
      try JWT.verify(parts, hmacKey: HMACKey(key.seed))
    }
  }

  @Test func `the example of RFC 7515 verifies`() throws {
    // Appendix A.1.
    let token =
      "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    let key = try #require(
      Base64URL.decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"))
    try JWT.verify(JWT.parse(token), hmacKey: HMACKey(key))
  }
}
