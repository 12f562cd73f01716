internal import Basics
internal import Crypto

/// The measured server, and how to enter its rooms and write to them. All targets exchange frames of the same length,
/// with the sequence number at a known position.
struct Target {
  enum Kind: String {
    case martlet
    /// A relay that stores nothing: uWebSockets (through socketify) or nchan.
    case relay
  }

  let kind: Kind
  let port: UInt16
  let secret: String
  let path: String
  /// The credential of every request, if it is not a token of another system.
  let bearer: String?

  static let audience = "chat.nano-messaging.net"
  static let issuer = "api.nano-messaging.net"
  static let entity = UUID(high: 0x1111_1111_1111_4111, low: 0x8111_1111_1111_1111)

  /// A token of another system for the user with this number.
  func token(user: Int) -> String {
    let id = userID(user)
    var body = JSONWriter()
    body.object {
      $0.member("aud", Self.audience)
      $0.member("iss", Self.issuer)
      $0.member("exp", Int64(999_999_999_999))
      $0.member("userUUID", id)
      $0.member("entityUUID", Self.entity)
      $0.member("levelOnEntity", "100")
    }
    let head = Base64URL.encode(Array(#"{"alg":"HS256","typ":"JWT"}"#.utf8))
    let signed = head + "." + Base64URL.encode(body.bytes)
    let code = Hash.hmacSHA256(Array(signed.utf8), key: Array(secret.utf8))
    return signed + "." + Base64URL.encode(code)
  }

  func userID(_ number: Int) -> UUID {
    UUID(high: 0x2222_2222_2222_4222, low: 0x8222_0000_0000_0000 | UInt64(number))
  }

  /// `followsAllRooms` makes Martlet subscribe the socket to all rooms that its user may read.
  func handshake(user: Int, room: Int, followsAllRooms: Bool = false) -> [UInt8] {
    let path =
      switch kind {
      case .martlet: followsAllRooms ? "/v1/relay" : "/v1/relay?subscribe=none"
      case .relay: self.path.replacing("{room}", with: "\(room)")
      }
    var text = "GET \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nUpgrade: websocket\r\n"
    text += "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    text += "Sec-WebSocket-Version: 13\r\n"
    if kind == .martlet { text += "Authorization: Bearer \(token(user: user))\r\n" }
    return Array((text + "\r\n").utf8)
  }

  func request(_ method: String, _ path: String, user: Int, body: String = "") -> [UInt8] {
    var text = "\(method) \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\n"
    if kind == .martlet { text += "Authorization: Bearer \(bearer ?? token(user: user))\r\n" }
    if !body.isEmpty {
      text += "Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
    }
    return Array((text + "\r\n" + body).utf8)
  }
}
