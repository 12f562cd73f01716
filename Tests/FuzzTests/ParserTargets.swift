import Access
import Basics
import Chat
import Crypto
import Events

@testable import Accounts
@testable import RedisFanout
@testable import Relay
@testable import Web

extension ParserTarget {
  /// All parsers of untrusted bytes.
  static let all: [ParserTarget] = [
    frames, tokens, paths, heads, requests, forms, conditions, webSocket, redis, nodes,
  ]

  private static let jsonWords = [
    "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u0000", "\\ud800", "\\udc00\\ud800", "null",
    "true",
    "1e999", "-0", "9007199254740993", "99999999999999999999", "\"type\":", "\"channels\":",
    "\"client_id\":", "[[[[[[[[[[[[[[[[[", "\u{0}", "\u{e9}", "e\u{301}",
  ]

  private static let frames: ParserTarget = {
    let seeds = [
      #"{"type":"text","channel_id":"17","to":"*","data":"h\u00e9\ud83d\ude00","client_id":"c-1"}"#,
      #"{"type":"subscribe","channels":["1","2",3]}"#,
      #"{"type":"unsubscribe","channels":["1"],"client_id":"x"}"#,
      #"{"type":"resume","epoch":"abc","channels":{"1":0,"2":1e2,"3":-1}}"#,
      #"{"type":"auth","token":"a.b.c"}"#, #"{"type":"token","content":"a.b.c"}"#,
      #"{"type":"select_room","room_id":"12"}"#, #"{"type":"message","content":"hello"}"#,
      #"{"type":"quit"}"#, "[[[{}]]]", "\"\\u",
    ]
    return ParserTarget(
      "frames", "frames of both dialects",
      seeds: seeds, words: jsonWords, isOftenGood: true
    ) { _, bytes in
      bytes.withUnsafeBytes { bytes in
        let object = parseObject(bytes, maximumDepth: 16)
        var nano = NanoDialect(maximumContentBytes: 64, readyDue: 10_000)
        _ = nano.tokenAccepted(isSameUser: true)
        _ = nano.selected(RoomID(1))
        _ = nano.receive(object)
        guard let object else { return false }
        return (try? RelayFrame(object, maximumContentBytes: 64)) != nil
      }
    }
  }()

  private static let tokens: ParserTarget = {
    let secret = "a secret of some length for tests"
    let foreign = ForeignTokens(
      ForeignTokens.Configuration(secret: Secret(secret), audience: "chat", issuer: "api"))
    guard let key = SigningKey(id: "k", seed: Array(repeating: 7, count: 32)),
      let local = LocalTokens(keys: [key])
    else { preconditionFailure("this key is right") }
    let ours = local.makeAccessToken(
      user: .make(), session: .make(), now: .now)
    let claims = [
      #"{"aud":"chat","iss":"api","exp":999999999999,"userUUID":"2eb6d5a4-1b1f-4c43-8e0b-5a7f7a1f0f01"}"#,
      #"{"aud":["a","chat"],"iss":"api","exp":1e300,"nbf":-1,"userUUID":"x","levelOnEntity":"100"}"#,
      #"{"aud":"chat","iss":"api","exp":9007199254740992,"nbf":0.5,"levelOnEntity":7,"entityUUID":null}"#,
    ]
    let head = Base64URL.encode(Array(#"{"alg":"HS256","typ":"JWT"}"#.utf8))
    let texts = claims + [ours.token.reveal(), head + ".e30.AAAA", "eyJhbGciOiJub25lIn0.e30."]
    return ParserTarget(
      "tokens", "tokens, also those that are signed well",
      seeds: texts, words: jsonWords + [".", "..", "eyJ", "=", "-_", "\"exp\":", "\"aud\":"],
      isOftenGood: true
    ) { choices, bytes in
      var token = String(decoding: bytes, as: UTF8.self)
      if bytes.first == UInt8(ascii: "{") {
        let signed = head + "." + Base64URL.encode(bytes)
        let code = Hash.hmacSHA256(Array(signed.utf8), key: Array(secret.utf8))
        token = signed + "." + Base64URL.encode(code)
      }
      _ = local.readRefreshToken(token)
      _ = local.readCookie(token)
      guard let parts = try? JWT.parse(token) else { return false }
      // The signatures of local tokens (Ed25519) are slow to verify, so only one in sixteen is verified.
      if choices.pick(16) == 0 { _ = try? local.principal(of: parts, now: .now) }
      return (try? foreign.principal(of: parts, now: .now)) != nil
    }
  }()

  private static let paths: ParserTarget = {
    var router = Router()
    router.on(.get, "/v1/rooms", policy: .caller) { _ in .noContent }
    router.on(.get, "/v1/rooms/{id}", policy: .caller) { (_, _: RoomID) in .noContent }
    router.on(.delete, "/v1/rooms/{id}/members/{subject}", policy: .caller) {
      (_, _: RoomID, _: UserID) in .noContent
    }
    router.on(.delete, "/v1/me/sessions/{id}", policy: .caller) { (_, _: SessionID) in .noContent }
    let routes = router
    return ParserTarget(
      "paths", "paths and queries",
      seeds: [
        "/v1/rooms", "/v1/rooms/17", "/v1/rooms/17/members/2eb6d5a4-1b1f-4c43-8e0b-5a7f7a1f0f01",
        "/v1/me/sessions/2eb6d5a4-1b1f-4c43-8e0b-5a7f7a1f0f01", "/v1/rooms/%31%37",
        "/v1/rooms?limit=5&cursor=%20+a&limit",
      ],
      words: ["/", "//", "%", "%0", "%00", "%2f", "%ff", "?", "&", "=", "+", ".", "..", "\u{e9}"],
      isOftenGood: true
    ) { _, bytes in
      let text = String(decoding: bytes, as: UTF8.self)
      let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
      var fields = Query(parts.count > 1 ? String(parts[1]) : "").fields
      _ = PageRequest(&fields)
      _ = fields.optionalTime("cursor")
      guard case .found(_, let values) = routes.match(.get, parts.first.map(String.init) ?? "")
      else {
        return false
      }
      for value in values { _ = (RoomID(value), UUID(value), SessionID(value)) }
      return true
    }
  }()

  private static let heads = ParserTarget(
    "heads", "heads of requests",
    seeds: [
      "POST /v1/rooms?x=%41 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: upgrade\r\n\r\n",
      "GET http://a/b HTTP/1.0\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4, ::1\r\nCookie: a=b; c\r\n\r\n",
    ],
    words: [
      "\r\n", "\n", "\r", ":", " ", "\t", "Transfer-Encoding: chunked", "Content-Length: 0",
      "Host: b", "HTTP/1.1", "\u{0}", "99999999999999999999",
    ], isOftenGood: true
  ) { _, bytes in
    var parser = RequestHeadParser(maximumBytes: 300)
    let head = bytes.withUnsafeBytes { bytes in
      (try? parser.scan(bytes)).flatMap { try? parser.parse(bytes, length: $0) }
    }
    guard let head else { return false }
    for hop in head.headers.all("x-forwarded-for") { _ = IPAddress(hop) }
    _ = head.keepsAlive
    return true
  }

  private static let requests: ParserTarget = {
    let limits = HTTPMachine.Limits(
      headBytes: 300, headMilliseconds: 10, bodyMilliseconds: 10, workMilliseconds: 10)
    return ParserTarget(
      "requests", "requests with bodies, in pieces",
      seeds: [
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: b\r\n\r\n",
        "PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
      ],
      words: [
        "\r\n", "0\r\n\r\n", "ffffffffffffffff\r\n", "7fffffffffffffff\r\n", ";",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n", "\u{0}", "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
      ], isOftenGood: true
    ) { choices, bytes in
      var machine = HTTPMachine(limits: limits, now: 0)
      var now: Int64 = 0
      var bodies = 0
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = 1 + choices.pick(min(rest.count, 40))
        Array(rest.prefix(count)).withUnsafeBytes { machine.receive($0, now: now) }
        rest = rest.dropFirst(count)
        if choices.pick(50) == 0 { now += 11 }
        _ = machine.tick(now: now)
        while let action = machine.next(now: now) {
          switch action {
          case .request:
            machine.accept(bodyLimit: 100)
            if choices.pick(4) > 0 { machine.wantBody(now: now) } else { answer(&machine, now) }
          case .body: machine.wantBody(now: now)
          case .bodyEnd:
            bodies += 1
            answer(&machine, now)
          case .bodyFailed: answer(&machine, now)
          case .sendContinue, .refuse, .workTimedOut, .close: break
          }
        }
      }
      machine.endInput()
      _ = machine.next(now: now)
      return bodies > 0
    }
  }()

  private static let forms: ParserTarget = {
    let part = "--B\r\nContent-Disposition: form-data; name=\"a\"; filename=\"b\\\"c%22\"\r\n"
    return ParserTarget(
      "forms", "forms, in pieces",
      seeds: [
        "\(part)\r\ncontent\r\n--B--", "\(part)Content-Type: text/plain\r\n\r\n\r\n--B\r\n",
      ],
      words: ["\r\n--B", "--B--", "\r\n", "\r", ";", "\"", "\\", "=", "name=", "\u{0}", "\u{e9}"],
      isOftenGood: true
    ) { choices, bytes in
      var parser = MultipartParser(boundary: "B", maximumParts: 4)
      var rest = bytes[...]
      var parts = 0
      do {
        while true {
          while let event = try parser.next(isComplete: rest.isEmpty) {
            if case .partEnd = event { parts += 1 }
            if case .end = event { return parts > 0 }
          }
          let count = 1 + choices.pick(40)
          parser.append(Array(rest.prefix(count)))
          rest = rest.dropFirst(count)
        }
      } catch {
        return false
      }
    }
  }()

  private static let conditions = ParserTarget(
    "conditions", "conditions and ranges",
    seeds: [
      "bytes=0-5", "\"a\", W/\"b\", *", "Sun, 06 Nov 1994 08:49:37 GMT", "gzip;q=0.5, br, *;q=0",
    ],
    words: ["-", ",", "\"", "W/", "bytes=", "99999999999999999999", ";q=", "GMT", ":", " "],
    isOftenGood: true
  ) { choices, bytes in
    let clean = bytes.filter { $0 >= 0x20 && $0 != 0x7F }
    let names = ["range", "if-none-match", "if-range", "if-modified-since", "accept-encoding"]
    let name = names[choices.pick(names.count)]
    let text =
      Array("GET / HTTP/1.1\r\nHost: x\r\n\(name): ".utf8) + clean + Array("\r\n\r\n".utf8)
    var parser = RequestHeadParser(maximumBytes: 4096)
    let head = text.withUnsafeBytes { bytes in
      (try? parser.scan(bytes)).flatMap { try? parser.parse(bytes, length: $0) }
    }
    guard let head else { return false }
    let conditions = Conditions(head.headers, method: .get)
    let verdict = conditions.verdict(tag: EntityTag("a"), modified: .now)
    let range = conditions.range(of: 10, tag: EntityTag("a"), modified: .now)
    _ = AcceptEncoding(head.headers).takesGzip
    if case .part(let part) = range, part.lowerBound < 0 || part.upperBound > 10 || part.isEmpty {
      preconditionFailure("a part beyond the file")
    }
    return verdict == .notModified || range != .whole
  }

  private static let webSocket: ParserTarget = {
    let seeds = [
      "\u{1}\u{2}", String(repeating: "a", count: 130), "h\u{e9}llo",
    ]
    let firsts: [UInt8] = [0x81, 0x82, 0x88, 0x89, 0x8A, 0x01, 0x00, 0x80, 0xC1, 0x83]
    return ParserTarget(
      "webSocket", "WebSocket frames, in pieces",
      seeds: seeds, words: ["\u{0}", "\u{7f}", "\u{e9}"], isOftenGood: true
    ) { choices, payload in
      var decoder = WebSocketDecoder(maximumMessageBytes: 256)
      var bytes: [UInt8] = [firsts[choices.pick(firsts.count)]]
      if payload.count < 126 {
        bytes.append(0x80 | UInt8(payload.count))
      } else {
        bytes += [0x80 | 126, UInt8(payload.count >> 8 & 255), UInt8(payload.count & 255)]
      }
      bytes += [0, 0, 0, 0]
      bytes += payload
      if choices.pick(4) == 0 { bytes[choices.pick(bytes.count)] = UInt8(choices.pick(256)) }
      bytes += bytes
      var messages = 0
      var rest = bytes[...]
      while !rest.isEmpty {
        var piece = Array(rest.prefix(1 + choices.pick(rest.count)))
        rest = rest.dropFirst(piece.count)
        piece.withUnsafeMutableBytes { buffer in
          decoder.receive(buffer) { event in
            if case .text = event { messages += 1 }
            return true
          }
        }
      }
      return messages > 0
    }
  }()

  private static let redis: ParserTarget = {
    let seeds = [
      "+OK\r\n", "-ERR no\r\n", ":12\r\n", "$-1\r\n",
      "*3\r\n$7\r\nmessage\r\n$3\r\ne:9\r\n$5\r\nhello\r\n",
      "*3\r\n$9\r\nsubscribe\r\n$3\r\ne:9\r\n:1\r\n*0\r\n",
    ]
    let words = [
      "\r\n", "*", "$", "*-1", "*99999999", "$2147483648", ":9223372036854775808", "*1\r\n",
    ]
    return ParserTarget(
      "redis", "replies of a Redis, and what they carry",
      seeds: seeds, words: words, isOftenGood: false
    ) { choices, bytes in
      let reader = RedisReplyReader(maximumReplyBytes: 1 << 20)
      let cut = choices.pick(bytes.count + 1)
      do {
        return try !(reader.read(Array(bytes[..<cut])) + reader.read(Array(bytes[cut...]))).isEmpty
      } catch { return false }
    }
  }()

  private static let nodes: ParserTarget = {
    let heartbeat = Heartbeat(
      challenge: 1, answers: [NodeID(2): 3], counters: [.all: 4, Channel(Shard(index: 1)): 5])
    let events = EventCoding.encode([
      .access(.roomChanged(RoomID(1), version: 2)),
      .signal(Signal(to: .room(RoomID(3)), kind: "typing", content: [1])),
    ])
    let seeds = [heartbeat.bytes, events].map {
      String(decoding: $0.map { $0 & 127 }, as: UTF8.self)
    }
    return ParserTarget(
      "nodes", "what nodes tell each other",
      seeds: seeds, words: ["\0\0\0\0", "\u{7f}", "\u{1}"], isOftenGood: false
    ) { _, bytes in
      let isHeartbeat = Heartbeat(bytes[...]) != nil
      return EventCoding.decode(bytes[...]) != nil || isHeartbeat
    }
  }()

  private static func answer(_ machine: inout HTTPMachine, _ now: Int64) {
    _ = machine.beginAnswer()
    machine.endAnswer(now: now)
  }
}
