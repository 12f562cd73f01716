internal import Basics

/// HTTP/1.1 of one connection from the server's side, without the connection (RFC 9112): bytes, the clock and what
/// becomes of the answers go in, actions come out. A value, without a socket.
///
/// Requests are read one after the other. Each is given out with its head (`Action.request`); its body is read only as
/// far as somebody asks for it (`wantBody`). The next request is looked at when the answer has ended.
///
/// After each call that changes it, carry out what `next` returns until that is nil.
struct HTTPMachine {
  struct Limits: Sendable {
    /// Of a request line with its headers.
    let headBytes: Int
    /// Time for these.
    let headMilliseconds: Int64
    /// So long a body may stand still.
    let bodyMilliseconds: Int64
    /// Time for the work on a request, from its head or the last piece of its body on, until its answer begins.
    let workMilliseconds: Int64
  }

  enum Action {
    /// A request; how its body comes is checked, its length is not.
    case request(RequestHead)
    /// The client waits to be told that its body is wanted (RFC 9110, 15.2.1).
    case sendContinue
    /// A piece of the body for who asked, never empty.
    case body([UInt8])
    /// The body is complete, for who asked.
    case bodyEnd
    /// The body cannot be read to its end, for who asked.
    case bodyFailed(AppError)
    /// What came is no request that can be served: answer that, and close. With what the client called the request.
    case refuse(AppError, givenID: String?)
    /// The work takes too long: answer that, and close.
    case workTimedOut
    case close
  }

  private enum Phase {
    case head
    case exchange
    /// Another protocol has the connection, or it closes: nothing is read here any more.
    case over
  }

  /// What is left of a body.
  private enum Rest {
    case none
    case length(Int)
    case chunked(ChunkedDecoder)
    /// What comes is no body.
    case broken

    var isNone: Bool { if case .none = self { true } else { false } }
  }

  private enum Reader {
    /// Does something else.
    case busy
    /// Waits for the next piece.
    case waits
    /// Wants no more.
    case gone
  }

  private enum Answer { case awaited, begun, ended }

  private let limits: Limits
  private var phase = Phase.head
  private var parser: RequestHeadParser
  private var buffer = InputBuffer()
  private var hasInputEnded = false
  /// Requests that were given out.
  private(set) var requestCount = 0

  // Of the request that is served.
  private var rest = Rest.none
  private var bodyLimit = 0
  private var aheadBytes = 0
  private var bodyBytes = 0
  private var reader = Reader.busy
  private var answer = Answer.ended
  private var isContinueDue = false
  private var clientKeepsAlive = false

  /// Since when what is awaited now is awaited: a head, a piece of the body, an answer.
  private var since: Int64
  /// The minute in which a body has to bring so much.
  private var minute: (start: Int64, bytes: Int)?

  /// Bytes of later requests that are read while one is answered, and of a body that nobody asks for yet.
  static let readAheadBytes = 64 * 1024
  /// Bytes of later requests that are read while one is served.
  private static let pipelinedBytes = 16 * 1024
  /// What is left of a body that nobody wants is read to its end where it is no more than this.
  static let discardedBytes = 64 * 1024
  /// A piece of a body has at most so many bytes.
  static let pieceBytes = 64 * 1024
  /// How long an idle connection is kept for another request.
  private static let keepAliveMilliseconds: Int64 = 60_000
  private static let minuteMilliseconds: Int64 = 60_000
  private static let leastBytesPerMinute = 60 * 1024

  init(limits: Limits, now: Int64) {
    self.limits = limits
    parser = RequestHeadParser(maximumBytes: limits.headBytes)
    since = now
  }

  // MARK: What happens

  mutating func receive(_ bytes: UnsafeRawBufferPointer, now: Int64) {
    guard phase != .over, !bytes.isEmpty else { return }
    // The time for a head starts with its first byte, that for a piece of a body with each.
    if phase == .head ? buffer.isEmpty : reader == .waits { since = now }
    minute?.bytes += bytes.count
    buffer.append(bytes)
  }

  /// The client sends nothing more; it may still read.
  mutating func endInput() { hasInputEnded = true }

  /// The request that was given out is served: its body may have so many bytes, of which `ahead` are read before
  /// somebody asks.
  mutating func accept(bodyLimit: Int, ahead: Int = Self.readAheadBytes) {
    self.bodyLimit = bodyLimit
    aheadBytes = ahead
  }

  /// Somebody waits for the next piece of the body.
  mutating func wantBody(now: Int64) {
    guard phase == .exchange, reader == .busy else { return }
    reader = .waits
    since = now
    if minute == nil { minute = (now, buffer.count) }
  }

  /// Nobody will ask for the body any more.
  mutating func leaveBody() { reader = .gone }

  /// The answer begins now; returns whether the connection stays for another request after it.
  mutating func beginAnswer() -> Bool {
    guard phase == .exchange else { return false }
    answer = .begun
    reader = .gone
    discard()
    return clientKeepsAlive && canFinishBody && !(hasInputEnded && buffer.isEmpty)
  }

  /// All of the answer was sent, or what is left of it is little.
  mutating func endAnswer(now: Int64) {
    guard phase == .exchange else { return }
    answer = .ended
    reader = .gone
    since = now
  }

  /// Another protocol takes over: what it has sent already.
  mutating func upgrade() -> [UInt8] {
    phase = .over
    return buffer.take(upTo: .max)
  }

  /// Nothing more is read.
  mutating func stop() {
    phase = .over
    buffer = InputBuffer()
  }

  // MARK: What it is about

  /// Whether a request was given out and not answered to its end.
  var isServing: Bool { phase == .exchange && answer != .ended }
  /// Since when it has not sent a request, or waits for the next one; nil while one is served.
  var idleSince: Int64? { phase == .head ? since : nil }
  /// Whether no part of a request is here.
  var isIdle: Bool { phase == .head && buffer.isEmpty }
  /// Bytes that are held here.
  var bufferedBytes: Int { buffer.capacity }

  /// Whether the rest of a body should be read that somebody takes.
  var isInBody: Bool { phase == .exchange && !rest.isNone && wantedBytes > 0 }

  /// How many bytes more may be read from the client; below 1 where it has to wait.
  var wantedBytes: Int {
    guard !hasInputEnded else { return 0 }
    switch phase {
    case .over: return .max
    case .head: return Self.readAheadBytes - buffer.count
    case .exchange: return (rest.isNone ? Self.pipelinedBytes : aheadBytes) - buffer.count
    }
  }

  // MARK: Actions

  mutating func next(now: Int64) -> Action? {
    while true {
      switch phase {
      case .over: return nil
      case .head: return readHead(now: now)
      case .exchange:
        if reader == .waits { return readBody(now: now) }
        guard answer == .ended else { return nil }
        discard()
        switch rest {
        case .none: startHead(now: now)
        case .length, .chunked:
          guard !hasInputEnded, canFinishBody else { return end(.close) }
          return nil
        case .broken: return end(.close)
        }
      }
    }
  }

  private mutating func end(_ action: Action) -> Action {
    stop()
    return action
  }

  private mutating func startHead(now: Int64) {
    phase = .head
    parser = RequestHeadParser(maximumBytes: limits.headBytes)
    since = now
  }

  private mutating func readHead(now: Int64) -> Action? {
    do {
      var scanning = parser
      let head = try buffer.withUnsafeBytes {
        (bytes) throws(RequestHeadParser.Failure) -> (RequestHead, Int)? in
        guard let length = try scanning.scan(bytes) else { return nil }
        return (try scanning.parse(bytes, length: length), length)
      }
      parser = scanning
      guard let (head, length) = head else { return hasInputEnded ? end(.close) : nil }
      buffer.removeFirst(length)
      begin(head, now: now)
      return .request(head)
    } catch {
      return end(.refuse(AppError(error.code, error.message), givenID: error.givenID))
    }
  }

  private mutating func begin(_ head: RequestHead, now: Int64) {
    phase = .exchange
    requestCount += 1
    rest =
      switch head.framing {
      case .none: .none
      case .length(let length): .length(length)
      case .chunked: .chunked(ChunkedDecoder())
      }
    bodyLimit = 0
    aheadBytes = Self.readAheadBytes
    bodyBytes = 0
    reader = .busy
    answer = .awaited
    // Who has sent its body does not wait.
    isContinueDue = head.expectsContinue && buffer.isEmpty
    clientKeepsAlive = head.keepsAlive
    since = now
    minute = nil
  }

  // MARK: Bodies

  /// The next piece for who waits; nil where it has to come first.
  private mutating func readBody(now: Int64) -> Action? {
    switch rest {
    case .none: return emit(.bodyEnd, now: now)
    case .broken:
      return emit(.bodyFailed(AppError(.badRequest, "The body is malformed.")), now: now)
    case .length(let length):
      guard !buffer.isEmpty else { return waitForBody(now: now) }
      let piece = buffer.take(upTo: min(length, Self.pieceBytes))
      rest = piece.count == length ? .none : .length(length - piece.count)
      bodyBytes += piece.count
      return emit(.body(piece), now: now)
    case .chunked(var decoder):
      var piece: [UInt8] = []
      do {
        try decode(&decoder) { bytes in
          piece.append(contentsOf: bytes)
          return piece.count < Self.pieceBytes
        }
      } catch {
        rest = .broken
        return emit(.bodyFailed(AppError(.badRequest, error.message)), now: now)
      }
      rest = decoder.isDone ? .none : .chunked(decoder)
      bodyBytes += piece.count
      if bodyBytes > bodyLimit {
        rest = .broken
        return emit(.bodyFailed(Self.tooLarge(limit: bodyLimit)), now: now)
      }
      if !piece.isEmpty { return emit(.body(piece), now: now) }
      return decoder.isDone ? emit(.bodyEnd, now: now) : waitForBody(now: now)
    }
  }

  static func tooLarge(limit: Int) -> AppError {
    AppError(.bodyTooLarge, "A body may have \(limit) bytes.")
  }

  private mutating func decode(
    _ decoder: inout ChunkedDecoder, _ emit: (UnsafeRawBufferPointer) -> Bool
  ) throws(ChunkedDecoder.Failure) {
    while !buffer.isEmpty, !decoder.isDone {
      var goesOn = true
      let used = try buffer.withUnsafeBytes { (bytes) throws(ChunkedDecoder.Failure) -> Int in
        try decoder.decode(bytes) { piece in
          goesOn = emit(piece)
          return goesOn
        }
      }
      buffer.removeFirst(used)
      if !goesOn { return }
    }
  }

  /// What was asked for is given; the work goes on from here.
  private mutating func emit(_ action: Action, now: Int64) -> Action {
    if case .body = action { reader = .busy } else { reader = .gone }
    since = now
    return action
  }

  private mutating func waitForBody(now: Int64) -> Action? {
    if isContinueDue {
      isContinueDue = false
      return .sendContinue
    }
    guard hasInputEnded else { return nil }
    rest = .broken
    return emit(
      .bodyFailed(AppError(.badRequest, "The body ended before it was complete.")), now: now)
  }

  /// Whether what is left of the body is little, and will come.
  private var canFinishBody: Bool {
    switch rest {
    case .none: true
    case .length(let length): !isContinueDue && length <= Self.discardedBytes
    case .chunked, .broken: false
    }
  }

  /// Drops what is here of a body that nobody wants.
  private mutating func discard() {
    switch rest {
    case .none, .broken: break
    case .length(let length):
      let count = min(length, buffer.count)
      buffer.removeFirst(count)
      rest = count == length ? .none : .length(length - count)
    case .chunked(var decoder):
      do {
        try decode(&decoder) { _ in true }
        rest = decoder.isDone ? .none : .chunked(decoder)
      } catch {
        rest = .broken
      }
    }
  }

  // MARK: Time

  /// When `tick` has something to say, if nothing happens before; nil where nothing is awaited here.
  var due: Int64? {
    switch phase {
    case .over: nil
    case .head:
      since
        + (buffer.isEmpty && requestCount > 0
          ? Self.keepAliveMilliseconds : limits.headMilliseconds)
    case .exchange:
      if reader == .waits {
        min(
          since + limits.bodyMilliseconds, (minute?.start ?? since) + Self.minuteMilliseconds)
      } else {
        switch answer {
        case .awaited: since + limits.workMilliseconds
        // How its reader takes it is not seen from here.
        case .begun: nil
        case .ended: since + limits.bodyMilliseconds
        }
      }
    }
  }

  /// What is to be done because something has taken too long.
  mutating func tick(now: Int64) -> Action? {
    guard let due, now >= due else { return nil }
    switch phase {
    case .over: return nil
    case .head:
      if buffer.isEmpty { return end(.close) }
      return end(.refuse(AppError(.requestTimeout), givenID: nil))
    case .exchange:
      if reader == .waits {
        let isFast = minute.map { $0.bytes >= Self.leastBytesPerMinute } ?? true
        if isFast, now < since + limits.bodyMilliseconds {
          minute = (now, 0)
          return nil
        }
        rest = .broken
        return emit(.bodyFailed(AppError(.requestTimeout)), now: now)
      }
      // Another action follows: the connection answers, and stops this.
      return answer == .awaited ? .workTimedOut : end(.close)
    }
  }
}
