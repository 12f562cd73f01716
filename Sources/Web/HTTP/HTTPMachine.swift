internal import Basics

/// The server's side of HTTP/1.1 on one connection, without the connection itself (RFC 9112): bytes, the time and the
/// progress of answers go in, actions come out. A value, without a socket.
///
/// Requests are processed one after the other. Each is returned with its head (`Action.request`). Its body is read
/// only as far as the handler asks for it (`wantBody`). The next request is read when the answer has ended.
///
/// After each call that changes the machine, perform what `next` returns until that is nil.
struct HTTPMachine {
  struct Limits: Sendable {
    /// The largest request line with headers.
    let headBytes: Int
    /// The time within which they must arrive.
    let headMilliseconds: Int64
    /// How long a body may stall.
    let bodyMilliseconds: Int64
    /// The time for the work on a request, from its head or the last piece of its body until its answer begins.
    let workMilliseconds: Int64
  }

  enum Action {
    /// A request. The framing of its body was checked, but not its length.
    case request(RequestHead)
    /// The client waits to be told to send the body (RFC 9110, 15.2.1).
    case sendContinue
    /// A piece of the body for the reader; never empty.
    case body([UInt8])
    /// Tells the reader that the body is complete.
    case bodyEnd
    /// Tells the reader that the body cannot be read to its end.
    case bodyFailed(AppError)
    /// The input is not a request that can be served. Send this error and close. `givenID` is the client's request
    /// id.
    case refuse(AppError, givenID: String?)
    /// The work takes too long. Send an error and close.
    case workTimedOut
    case close
  }

  private enum Phase {
    case head
    case exchange
    /// The connection is closing, or belongs to another protocol. Nothing more is read here.
    case over
  }

  /// The remaining part of a body.
  private enum Rest {
    case none
    case length(Int)
    case chunked(ChunkedDecoder)
    /// The body is malformed.
    case broken

    var isNone: Bool { if case .none = self { true } else { false } }
  }

  private enum Reader {
    /// The reader is busy with something else.
    case busy
    /// The reader waits for the next piece.
    case waits
    /// The reader wants no more.
    case gone
  }

  private enum Answer { case awaited, begun, ended }

  private let limits: Limits
  private var phase = Phase.head
  private var parser: RequestHeadParser
  private var buffer = InputBuffer()
  private var hasInputEnded = false
  /// The number of requests that were returned so far.
  private(set) var requestCount = 0

  // The rest of the request's body.
  private var rest = Rest.none
  private var bodyLimit = 0
  private var aheadBytes = 0
  private var bodyBytes = 0
  private var reader = Reader.busy
  private var answer = Answer.ended
  private var isContinueDue = false
  private var clientKeepsAlive = false

  /// When the present wait began: for a head, for a piece of the body, or for an answer.
  private var since: Int64
  /// The present minute, in which at least `leastBytesPerMinute` of a body must arrive, with its bytes so far.
  private var minute: (start: Int64, bytes: Int)?

  /// How much is read ahead of a body before the handler asks for it.
  static let readAheadBytes = 64 * 1024
  /// How much of later requests is read while one is served.
  private static let pipelinedBytes = 16 * 1024
  /// An unwanted body is read to its end if no more than this is left of it.
  static let discardedBytes = 64 * 1024
  /// The size of the largest piece of a body.
  static let pieceBytes = 64 * 1024
  /// How long an idle connection is kept open.
  private static let keepAliveMilliseconds: Int64 = 60_000
  private static let minuteMilliseconds: Int64 = 60_000
  private static let leastBytesPerMinute = 60 * 1024

  init(limits: Limits, now: Int64) {
    self.limits = limits
    parser = RequestHeadParser(maximumBytes: limits.headBytes)
    since = now
  }

  // MARK: Inputs

  mutating func receive(_ bytes: UnsafeRawBufferPointer, now: Int64) {
    guard phase != .over, !bytes.isEmpty else { return }
    // The time for a head starts with its first byte; that for a body starts again whenever bytes arrive.
    if phase == .head ? buffer.isEmpty : reader == .waits { since = now }
    minute?.bytes += bytes.count
    buffer.append(bytes)
  }

  /// The client sends nothing more, but may still read.
  mutating func endInput() { hasInputEnded = true }

  /// The returned request is being served. Its body may have at most `bodyLimit` bytes, of which `ahead` are read
  /// before the handler asks for them.
  mutating func accept(bodyLimit: Int, ahead: Int = Self.readAheadBytes) {
    self.bodyLimit = bodyLimit
    aheadBytes = ahead
  }

  /// The reader waits for the next piece of the body.
  mutating func wantBody(now: Int64) {
    guard phase == .exchange, reader == .busy else { return }
    reader = .waits
    since = now
    if minute == nil { minute = (now, buffer.count) }
  }

  /// The reader will not ask for the body any more.
  mutating func leaveBody() { reader = .gone }

  /// The answer begins now. Returns whether the connection stays open after it.
  mutating func beginAnswer() -> Bool {
    guard phase == .exchange else { return false }
    answer = .begun
    reader = .gone
    discard()
    return clientKeepsAlive && canFinishBody && !(hasInputEnded && buffer.isEmpty)
  }

  /// All of the answer has been sent, or nearly all.
  mutating func endAnswer(now: Int64) {
    guard phase == .exchange else { return }
    answer = .ended
    reader = .gone
    since = now
  }

  /// Another protocol takes over. Returns what the client has already sent for it.
  mutating func upgrade() -> [UInt8] {
    phase = .over
    return buffer.take(upTo: .max)
  }

  /// Nothing more is read.
  mutating func stop() {
    phase = .over
    buffer = InputBuffer()
  }

  // MARK: State

  /// Whether a request was returned and has not been answered completely.
  var isServing: Bool { phase == .exchange && answer != .ended }
  /// When the wait for a request began, or the first byte of an incomplete one arrived; nil while one is served.
  var idleSince: Int64? { phase == .head ? since : nil }
  /// Whether not even a part of a request has arrived.
  var isIdle: Bool { phase == .head && buffer.isEmpty }
  /// The bytes that are held here.
  var bufferedBytes: Int { buffer.capacity }

  /// Whether more of a body should be read for a reader.
  var isInBody: Bool { phase == .exchange && !rest.isNone && wantedBytes > 0 }

  /// How many more bytes may be read from the client; 0 or less if it has to wait.
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
    // A client that has sent its body does not wait for 100.
    isContinueDue = head.expectsContinue && buffer.isEmpty
    clientKeepsAlive = head.keepsAlive
    since = now
    minute = nil
  }

  // MARK: Bodies

  /// The next piece for a waiting reader; nil if it has not arrived.
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

  /// The reader gets what it asked for, and the time for its work starts.
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

  /// Whether little of the body is left, and it will come.
  private var canFinishBody: Bool {
    switch rest {
    case .none: true
    case .length(let length): !isContinueDue && length <= Self.discardedBytes
    case .chunked, .broken: false
    }
  }

  /// Drops what has arrived of an unwanted body.
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

  /// When `tick` must be called, unless something happens before; nil if nothing is awaited here.
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
        // How fast the client reads the answer is not known here.
        case .begun: nil
        case .ended: since + limits.bodyMilliseconds
        }
      }
    }
  }

  /// What to do if something has taken too long.
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
      // Another action follows: the connection sends an answer and stops this machine.
      return answer == .awaited ? .workTimedOut : end(.close)
    }
  }
}
