package import Basics
internal import CSodium

/// The initialization of libsodium. Code of this target uses `ready` before it first calls libsodium.
///
/// https://doc.libsodium.org/usage
enum Sodium {
  /// Initializes libsodium once. sodium_init returns 0, or 1 if that was done before. Traps if it fails, because a
  /// machine without a random source cannot run the server.
  static let ready: Void = {
    guard sodium_init() >= 0 else { fatalError("libsodium could not start") }
  }()
}

extension UUID {
  /// Makes a version 4 UUID from the secure random source (RFC 9562, 5.4), for things whose id must not tell when they
  /// were made and must not be guessed.
  package static func version4() -> UUID {
    let random = SecretBytes.random(16)
    let high = random[..<8].reduce(0) { $0 << 8 | UInt64($1) }
    let low = random[8...].reduce(0) { $0 << 8 | UInt64($1) }
    return UUID(
      high: high & 0xFFFF_FFFF_FFFF_0FFF | 0x4000,
      low: low & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000)
  }
}

/// Random bytes that are safe to use as secrets.
package enum SecretBytes {
  package static func random(_ count: Int) -> [UInt8] {
    Sodium.ready
    var bytes = [UInt8](repeating: 0, count: count)
    randombytes_buf(&bytes, count)
    return bytes
  }

  /// Whether two byte strings are equal, compared in a time that depends only on their lengths.
  package static func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    Sodium.ready
    return left.count == right.count && sodium_memcmp(left, right, left.count) == 0
  }
}

/// Digests and message authentication.
package enum Hash {
  /// Returns a BLAKE2b digest of 16 bytes (RFC 7693), which identifies contents at a lower cost than SHA-256.
  package static func blake2b128(_ bytes: [UInt8]) -> UUID {
    Sodium.ready
    var digest: (UInt64, UInt64) = (0, 0)
    withUnsafeMutablePointer(to: &digest) { pointer in
      pointer.withMemoryRebound(to: UInt8.self, capacity: 16) {
        // Fails only for lengths out of range; 16 is the smallest that the library calls safe.
        _ = crypto_generichash($0, 16, bytes, UInt64(bytes.count), nil, 0)
      }
    }
    return UUID(high: UInt64(bigEndian: digest.0), low: UInt64(bigEndian: digest.1))
  }

  /// Returns the HMAC-SHA-256 of a message (RFC 2104): 32 bytes. The key may have any length.
  package static func hmacSHA256(_ message: [UInt8], key: [UInt8]) -> [UInt8] {
    HMACKey(key).code(of: message)
  }
}

/// An HMAC-SHA-256 key (RFC 2104) for many messages: the two blocks that depend only on the key are hashed once.
package struct HMACKey: Sendable {
  private let begun: crypto_auth_hmacsha256_state

  /// The key may have any length.
  package init(_ key: [UInt8]) {
    Sodium.ready
    var state = crypto_auth_hmacsha256_state()
    crypto_auth_hmacsha256_init(&state, key, key.count)
    begun = state
  }

  /// Returns the authentication code of a message: 32 bytes.
  package func code(of message: [UInt8]) -> [UInt8] {
    var state = begun
    crypto_auth_hmacsha256_update(&state, message, UInt64(message.count))
    var code = [UInt8](repeating: 0, count: 32)
    crypto_auth_hmacsha256_final(&state, &code)
    return code
  }
}

/// Keyed fingerprints that tell short secrets apart within this process, at a lower cost than BLAKE2b: SipHash-2-4
/// with 16 bytes of output and a random key (Aumasson and Bernstein, 2012). Without the key nobody can construct a
/// collision.
package struct Fingerprints: Sendable {
  private let key = SecretBytes.random(Int(crypto_shorthash_siphashx24_KEYBYTES))

  package init() {}

  package func fingerprint(_ bytes: [UInt8]) -> UUID {
    var digest: (UInt64, UInt64) = (0, 0)
    withUnsafeMutablePointer(to: &digest) { pointer in
      pointer.withMemoryRebound(to: UInt8.self, capacity: 16) {
        // Never fails (libsodium manual: short-input hashing).
        _ = crypto_shorthash_siphashx24($0, bytes, UInt64(bytes.count), key)
      }
    }
    return UUID(high: digest.0, low: digest.1)
  }
}

/// Password hashes: argon2id with 19 MiB and two passes (OWASP's first recommendation). Both functions are slow on
/// purpose, so call them on a thread pool for passwords.
package enum PasswordHash {
  private static let memoryBytes = 19 * 1024 * 1024
  private static let passes: UInt64 = 2

  /// Returns the encoded hash with its salt and parameters. Nil if 19 MiB of memory cannot be allocated.
  package static func make(_ password: String) -> String? {
    Sodium.ready
    var output = [CChar](repeating: 0, count: Int(crypto_pwhash_STRBYTES))
    let bytes = Array(password.utf8).map(CChar.init(bitPattern:))
    let status = crypto_pwhash_str_alg(
      &output, bytes, UInt64(bytes.count), passes, memoryBytes, crypto_pwhash_ALG_ARGON2ID13)
    guard status == 0 else { return nil }
    return String(decoding: output.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  /// Whether the password matches the hash. Also false if the memory for hashing cannot be allocated.
  package static func matches(_ password: String, hash: String) -> Bool {
    Sodium.ready
    let bytes = Array(password.utf8).map(CChar.init(bitPattern:))
    return crypto_pwhash_str_verify(hash, bytes, UInt64(bytes.count)) == 0
  }
}

/// An Ed25519 key (RFC 8032) that signs access tokens of this server.
package struct SigningKey: Sendable {
  /// The key's id in a token's header (`kid`).
  package let id: String
  /// The 32 bytes from which the key pair is derived. They are secret, and stored in the database.
  package let seed: [UInt8]
  private let publicKey: [UInt8]
  private let secretKey: [UInt8]

  /// Derives the key pair from a seed; nil unless the seed has 32 bytes.
  package init?(id: String, seed: [UInt8]) {
    Sodium.ready
    guard seed.count == Int(crypto_sign_SEEDBYTES) else { return nil }
    var publicKey = [UInt8](repeating: 0, count: Int(crypto_sign_PUBLICKEYBYTES))
    var secretKey = [UInt8](repeating: 0, count: Int(crypto_sign_SECRETKEYBYTES))
    crypto_sign_seed_keypair(&publicKey, &secretKey, seed)
    self.id = id
    self.seed = seed
    self.publicKey = publicKey
    self.secretKey = secretKey
  }

  package func sign(_ message: [UInt8]) -> [UInt8] {
    var signature = [UInt8](repeating: 0, count: Int(crypto_sign_BYTES))
    crypto_sign_detached(&signature, nil, message, UInt64(message.count), secretKey)
    return signature
  }

  package func verifies(_ signature: [UInt8], of message: [UInt8]) -> Bool {
    signature.count == Int(crypto_sign_BYTES)
      && crypto_sign_verify_detached(signature, message, UInt64(message.count), publicKey) == 0
  }
}
