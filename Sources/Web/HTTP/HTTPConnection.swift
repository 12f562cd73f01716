internal import Access
internal import Basics
internal import EventLoop

/// HTTP/1.1 on one transport: performs what `HTTPMachine` decides, has requests answered, and becomes a WebSocket if
/// an answer says so. Used on its loop only.
final class HTTPConnection: TransportHandler {
  // Unowned: the loop's connections end before it does.
  private unowned let owner: WebLoop
  /// A strong reference although the transport refers to this object too, because a request's task may outlive the
  /// connection. The transport releases its protocol when it is closed, which breaks the cycle.
  private let transport: Transport
  private var machine: HTTPMachine
  /// The request that is being served.
  private var exchange: Exchange?
  private var isAdvancing = false
  /// Whether further requests wait for the next turn.
  private var isResting = false
  /// Whether the budget has no room for more input from this client.
  private var isStarved = false
  /// While draining: when the connection is closed unless a request comes first. Otherwise nil.
  private var drainDue: Int64?
  /// The share of the budget for the answer being sent, for input that was read ahead, and for the next read.
  private var lease: BufferLease?

  /// One request until it is answered. A class, because it is used often and must not be copied.
  private final class Exchange {
    /// The number of the request, by which a late answer is recognized.
    let number: Int
    let record: RequestRecord
    /// Receives the request's body; nil if it has none.
    var pipe: BodyPipe?
    var task: Task<Void, Never>?
    var writer: BodyWriter?
    /// Whether the connection stays open after the answer; nil before the answer has begun.
    var keepsAlive: Bool?
    /// The most memory that the answer takes until it has been sent.
    var answerBytes = 0
    /// The size of the piece of the body that the handler is processing.
    var pieceBytes = 0

    init(number: Int, record: RequestRecord) {
      self.number = number
      self.record = record
    }

    var head: RequestHead { record.head }
  }

  /// Bytes of answers that may be queued before the next request is read.
  private static let queuedAnswerBytes = 256 * 1024
  /// The memory of a stream: one piece with its writer, and what is queued here.
  private static let streamBytes = 128 * 1024
  /// The most requests that are answered in one turn.
  private static let requestsPerTurn = 32
  /// How long a client may still send a request while the server drains.
  private static let drainMilliseconds: Int64 = 500
  /// A client that takes nothing of its answer for this long is disconnected.
  private static let readerMilliseconds: Int64 = 30_000
  private static let readerCheckMilliseconds: Int64 = 1_000

  init(owner: WebLoop, transport: Transport) {
    self.owner = owner
    self.transport = transport
    machine = HTTPMachine(limits: owner.limits.http, now: Monotonic.milliseconds)
  }

  /// When the wait for a request began, or the first byte of an incomplete one arrived; nil while one is served.
  var idleSince: Int64? { transport.queuedBytes == 0 ? machine.idleSince : nil }

  // MARK: TransportHandler

  func received(_ bytes: UnsafeMutableRawBufferPointer) {
    machine.receive(UnsafeRawBufferPointer(bytes), now: Monotonic.milliseconds)
    advance()
  }

  func inputEnded() {
    machine.endInput()
    advance()
  }

  var mayWrite: Bool { true }

  func drained() {
    if let writer = exchange?.writer { writer.drained() } else { endAnswerWhenSent() }
    advance()
  }

  func closed() {
    endExchange(because: BodyWriter.ClientGone())
    lease = nil
    machine.stop()
    owner.forget(transport)
  }

  var tickDue: Int64 {
    let machineDue = min(machine.due ?? .max / 2, drainDue ?? .max / 2)
    guard exchange?.keepsAlive != nil || isStarved else { return machineDue }
    return min(machineDue, Monotonic.milliseconds + Self.readerCheckMilliseconds)
  }

  func tick(now: Int64) {
    if exchange?.keepsAlive != nil,
      transport.stalledMilliseconds(now: now) >= Self.readerMilliseconds
    {
      transport.abort()
      return
    }
    if let drainDue, now >= drainDue, machine.isIdle {
      close()
      return
    }
    if let action = machine.tick(now: now) { perform(action) }
    advance()
  }

  // MARK: The machine

  /// Performs all actions that the machine returns.
  private func advance() {
    // An action may change the machine. The outer call continues with that.
    guard !isAdvancing, !isResting else { return }
    isAdvancing = true
    let last = machine.requestCount + Self.requestsPerTurn
    while transport.isAlive, machine.requestCount < last,
      let action = machine.next(now: Monotonic.milliseconds)
    {
      perform(action)
    }
    isAdvancing = false
    guard transport.isAlive, transport.handler === self else { return }
    if machine.requestCount == last { rest() }
    let room = roomToRead()
    isStarved = room == 0
    let wanted = isResting ? 0 : min(room, machine.wantedBytes)
    transport.setReading(wanted > 0, atMost: wanted)
    transport.tick(by: tickDue)
  }

  /// Lets other connections work before this client's further requests.
  private func rest() {
    isResting = true
    owner.loop.onNextTurn { [weak self] in
      self?.isResting = false
      self?.advance()
    }
  }

  /// Adjusts the budget for what was read ahead, what is queued, and what may be read next. Returns the bytes to
  /// read; 0 if there is no room, in which case nothing is read until there is.
  private func roomToRead() -> Int {
    let bytes = bytesInHand
    let free = max(0, BufferLease.freeBytes - bytes)
    guard free == 0 || machine.isInBody else {
      lease = nil
      return free
    }
    if held().resize(to: bytes + WebLoop.readBufferBytes) { return WebLoop.readBufferBytes }
    _ = held().resize(to: bytes)
    return free
  }

  private var bytesInHand: Int {
    machine.bufferedBytes + (exchange?.pieceBytes ?? 0)
      + max(transport.queuedBytes, exchange?.answerBytes ?? 0)
  }

  private func held() -> BufferLease {
    if let lease { return lease }
    let origin = exchange?.record.origin.address ?? transport.peer
    let made = BufferLease(owner.budget, site: origin.site)
    lease = made
    return made
  }

  private func perform(_ action: HTTPMachine.Action) {
    switch action {
    case .request(let head): serve(head)
    case .sendContinue: transport.write(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8))
    case .body(let piece):
      exchange?.pieceBytes = piece.count
      exchange?.pipe?.deliver(piece)
    case .bodyEnd: exchange?.pipe?.end(nil)
    case .bodyFailed(let error): exchange?.pipe?.end(error)
    case .refuse(let error, let givenID): refuse(error, requestID: RequestIDs.choose(givenID))
    case .workTimedOut: refuse(AppError(.timedOut))
    case .close: close()
    }
  }

  func wantBody() {
    exchange?.pieceBytes = 0
    machine.wantBody(now: Monotonic.milliseconds)
    advance()
  }

  // MARK: Requests

  private func serve(_ head: RequestHead) {
    let application = owner.application
    let number = machine.requestCount
    var record = RequestRecord(
      id: RequestIDs.choose(head.givenID),
      origin: application.origin(of: head, peer: transport.peer, isSecure: transport.isSecure),
      begun: Monotonic.nanoseconds, head: head, route: nil)
    let decision = application.decide(head, &record)
    exchange = Exchange(number: number, record: record)
    switch decision {
    case .answer(let response):
      // If the method is unknown, it is also unknown whether its request has a body.
      begin(response, mayStay: head.method != nil)
    case .prepared(let answer): send(answer)
    case .work(let match, let bodyLimit, let ahead):
      // An unknown method has no route.
      guard let method = head.method else { return }
      machine.accept(bodyLimit: bodyLimit, ahead: ahead)
      var body = RequestBody.none
      if head.framing != .none {
        let lease = BufferLease(owner.budget, site: record.origin.address.site)
        let pipe = BodyPipe(loop: owner.loop, connection: self, lease: lease)
        exchange?.pipe = pipe
        body = RequestBody(length: head.bodyLength, pipe: pipe)
      }
      let request = application.request(head, method, record, body: body, loop: owner.loop)
      let connection = LoopBound(self, on: owner.loop)
      let finalRecord = record
      let work: @Sendable () async -> Void = {
        let response = await application.respond(to: request, match, finalRecord)
        await connection.value.answer(number, with: response)
      }
      // If the task never suspends, the answer has been sent when this returns.
      let task =
        owner.mayAnswerAtOnce() ? owner.loop.immediateTask(work) : owner.loop.task(work)
      if let exchange, exchange.number == number { exchange.task = task }
    }
  }

  /// Ends the request being served: cancels its task, and fails the reader of its body.
  private func endExchange(because reason: any Error) {
    guard let exchange else { return }
    self.exchange = nil
    exchange.pipe?.end(reason)
    exchange.writer?.connectionClosed()
    exchange.task?.cancel()
  }

  // MARK: Answers

  /// Receives the answer of the request's task.
  private func answer(_ number: Int, with response: Response) async {
    guard let exchange, exchange.number == number, exchange.keepsAlive == nil else {
      owner.application.log.abandonedAnswer()
      return
    }
    var response = response
    if let upgrade = response.upgrade {
      do throws(AppError) {
        let permit = try owner.admitWebSocket(exchange.record.origin)
        becomeWebSocket(upgrade, exchange, permit, headers: response.headers)
        return
      } catch {
        response = .failure(error, requestID: exchange.record.id)
      }
    }
    begin(response, mayStay: true)
    advance()
    guard let writer = self.exchange?.writer, self.exchange?.number == number else { return }
    do {
      switch response.body {
      case .bytes, .shared: break
      case .file(let slice):
        let pieces = owner.pieces(
          of: slice, isSecure: transport.isSecure, for: exchange.record.origin.address.site)
        try await pieces.write(to: writer)
      case .stream(_, let write): try await write(writer)
      }
      endStream(number, writer.lastBytes)
    } catch {
      // If the client has disconnected, there is nothing to log.
      if self.exchange?.number == number {
        owner.streamFailed(error, requestID: exchange.record.id)
      }
      endStream(number, nil)
    }
  }

  /// Sends an answer from memory, without a task. The hot path of public pages (benchmark `http`).
  private func send(_ answer: PreparedAnswer) {
    guard let exchange, let method = exchange.head.method else { return }
    let (variant, verdict) = answer.choose(for: exchange.head.headers, method: method)
    guard verdict != .failed else {
      begin(
        .failure(AppError(.preconditionFailed), requestID: exchange.record.id), mayStay: true)
      return
    }
    let isKnown = verdict == .notModified
    let keepsAlive = machine.beginAnswer() && !owner.isDraining
    let hasBody = method != .head && !isKnown
    owner.application.log.answered(
      exchange.record, status: isKnown ? 304 : 200, bytes: hasBody ? Int64(variant.body.count) : 0)
    self.exchange?.keepsAlive = keepsAlive
    transport.watchReader()
    // One buffer for all answers of the loop, which keeps its capacity.
    owner.scratch.removeAll(keepingCapacity: true)
    owner.scratch.append(contentsOf: isKnown ? variant.notModifiedHead : variant.head)
    ResponseHead.appendEnd(
      to: &owner.scratch, date: owner.httpDate(), requestID: exchange.record.id,
      keepsAlive: keepsAlive, isVersion10: exchange.head.isVersion10)
    transport.write(&owner.scratch, then: hasBody ? variant.body : nil)
    endAnswerWhenSent()
  }

  /// Sends an answer, or the beginning of one. `mayStay` tells whether what follows on the connection can be trusted.
  private func begin(_ response: Response, mayStay: Bool) {
    guard let exchange, exchange.keepsAlive == nil else { return }
    exchange.answerBytes = bytesHeld(by: response.body)
    if exchange.answerBytes > BufferLease.freeBytes, !held().resize(to: bytesInHand) {
      exchange.answerBytes = 0
      begin(
        Response.failure(
          AppError(.unavailable, "Too many large answers are under way; try again."),
          requestID: exchange.record.id), mayStay: mayStay)
      return
    }
    let hasBody =
      exchange.head.method != .head && ResponseHead.mayHaveBody(response.status)
    let length = response.body.length
    var keepsAlive = machine.beginAnswer() && mayStay && !owner.isDraining
    // HTTP/1.0 clients do not know chunked encoding. For them the end of the connection ends the body.
    if length == nil, hasBody, exchange.head.isVersion10 { keepsAlive = false }
    let isChunked = length == nil && hasBody && !exchange.head.isVersion10
    let head = ResponseHead(
      status: response.status,
      contentLength: ResponseHead.mayHaveBody(response.status) ? length : nil,
      isChunked: isChunked, keepsAlive: keepsAlive, isVersion10: exchange.head.isVersion10)
    owner.application.log.answered(
      exchange.record, status: response.status, bytes: hasBody ? length : 0)
    self.exchange?.keepsAlive = keepsAlive
    // The body is not read any more, so its reader must not wait for it.
    exchange.pipe?.end(BodyWriter.ClientGone())
    transport.watchReader()
    send(response, head, hasBody: hasBody, requestID: exchange.record.id)
    if self.exchange?.writer == nil { endAnswerWhenSent() }
  }

  private func send(
    _ response: Response, _ head: ResponseHead, hasBody: Bool, requestID: String
  ) {
    let date = owner.httpDate()
    switch response.body {
    case .bytes(let body) where hasBody:
      var bytes = head.encode(
        response.headers, requestID: requestID, date: date, reserving: body.count)
      bytes.append(contentsOf: body)
      transport.write(bytes)
    case .bytes, .shared, .file, .stream:
      transport.write(head.encode(response.headers, requestID: requestID, date: date))
      if hasBody { sendBody(response.body, isChunked: head.isChunked) }
    }
  }

  private func sendBody(_ body: Response.Body, isChunked: Bool) {
    switch body {
    case .bytes(let bytes): transport.write(bytes)
    case .shared(let bytes): transport.write(bytes, in: 0..<bytes.count, hasBegun: false)
    case .file, .stream:
      exchange?.writer = BodyWriter(
        loop: owner.loop, connection: self, length: body.length, isChunked: isChunked)
    }
  }

  /// The most memory that an answer takes, besides what exists anyway.
  private func bytesHeld(by body: Response.Body) -> Int {
    switch body {
    case .bytes(let bytes): bytes.count
    case .shared: 0
    case .file: transport.isSecure ? Self.streamBytes : 0
    case .stream: Self.streamBytes
    }
  }

  /// Sends a piece of a stream.
  func send(_ piece: [UInt8]) -> BodyWriter.Sent {
    guard transport.canWrite else { return .gone }
    transport.write(piece)
    guard transport.canWrite else { return .gone }
    return transport.queuedBytes == 0 ? .room : .full
  }

  /// Sends a part of a file. The writer is told when it has been sent.
  func send(_ slice: FileSlice) -> BodyWriter.Sent {
    transport.write(slice)
    return transport.canWrite ? .full : .gone
  }

  /// Ends a stream: completely, or as broken if `lastBytes` is nil.
  private func endStream(_ number: Int, _ lastBytes: [UInt8]?) {
    guard exchange?.number == number else { return }
    exchange?.writer = nil
    guard let lastBytes else {
      // The client notices, because the body is incomplete.
      transport.abort()
      return
    }
    transport.write(lastBytes)
    endAnswerWhenSent()
    advance()
  }

  /// Ends the answer when little of it is still queued.
  private func endAnswerWhenSent() {
    guard let exchange, let keepsAlive = exchange.keepsAlive, exchange.writer == nil else { return }
    guard keepsAlive else {
      close()
      return
    }
    guard transport.queuedBytes <= Self.queuedAnswerBytes else { return }
    self.exchange = nil
    if owner.isDraining {
      close()
    } else {
      machine.endAnswer(now: Monotonic.milliseconds)
    }
  }

  /// Sends an answer that does not come from the application, and closes: what follows on the connection cannot be
  /// trusted.
  private func refuse(_ error: AppError, requestID: String? = nil) {
    let requestID = requestID ?? exchange?.record.id ?? RequestIDs.make()
    guard exchange?.keepsAlive == nil else {
      // After an answer has begun, nothing else can be sent.
      transport.abort()
      return
    }
    owner.refused(error, requestID: requestID, peer: transport.peer)
    let omitsBody = exchange?.head.method == .head
    endExchange(because: error)
    let response = Response.failure(error, requestID: requestID)
    let head = ResponseHead(
      status: response.status, contentLength: response.body.length, isChunked: false,
      keepsAlive: false, isVersion10: false)
    send(response, head, hasBody: !omitsBody, requestID: requestID)
    close()
  }

  private func close() {
    exchange = nil
    machine.stop()
    transport.close(patience: Self.readerMilliseconds)
  }

  // MARK: Other

  private func becomeWebSocket(
    _ upgrade: WebSocketUpgrade, _ exchange: Exchange, _ permit: ConnectionCounter.Permit?,
    headers: [(name: String, value: String)]
  ) {
    owner.application.log.answered(exchange.record, status: 101, bytes: 0)
    self.exchange = nil
    let early = machine.upgrade()
    let connection = WebSocketConnection(
      owner: owner, transport: transport, permit: permit, requestID: exchange.record.id)
    // The transport releases this object, which lives until its caller returns.
    lease = nil
    transport.handler = connection
    transport.setReading(true)
    connection.open(
      upgrade, key: exchange.head.headers["sec-websocket-key"] ?? "",
      headers: headers, early: early)
    // The upgrade was requested before the drain began, but completes during it.
    if owner.isDraining { connection.drain() }
    if transport.hasInputEnded { connection.inputEnded() }
  }

  /// Ends the connection for the drain: after the request that it is serving, or after one that arrives soon;
  /// otherwise by closing it.
  func drain() {
    guard machine.isIdle else { return }
    if machine.requestCount == 0 {
      close()
    } else {
      drainDue = Monotonic.milliseconds + Self.drainMilliseconds
      transport.tick(by: tickDue)
    }
  }

  /// Answers what is unfinished at the end of the drain.
  func abandonRequests() {
    if exchange != nil { refuse(AppError(.unavailable, "The server is shutting down.")) }
  }
}
