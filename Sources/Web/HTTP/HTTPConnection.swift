internal import Access
internal import Basics
internal import EventLoop

/// HTTP/1.1 on one transport: carries out what `HTTPMachine` decides, has requests answered, and turns into a WebSocket
/// where the answer says so. On its loop only.
final class HTTPConnection: TransportHandler {
  // Unowned: the loop's connections end before it.
  private unowned let owner: WebLoop
  /// Held, although it holds this: a request's task may be longer here than the connection. The transport lets go of its
  /// protocol when it is closed, which ends the circle.
  private let transport: Transport
  private var machine: HTTPMachine
  /// The request that is served.
  private var exchange: Exchange?
  private var isAdvancing = false
  /// The rest is looked at in the next turn.
  private var isResting = false
  /// Whether there is no room in the budget for more of what its client sends.
  private var isStarved = false
  /// When it is closed, unless a request comes before; nil but for draining.
  private var drainDue: Int64?
  /// What the answer that is sent, what was read ahead, and what may be read next hold of the budget.
  private var lease: BufferLease?

  /// One request on its way to its answer. A class: it is looked at often, and copied never.
  private final class Exchange {
    /// Counts requests, so that an answer that comes too late is known as such.
    let number: Int
    let record: RequestRecord
    /// Where its body goes; nil without one.
    var pipe: BodyPipe?
    var task: Task<Void, Never>?
    var writer: BodyWriter?
    /// Whether the answer has begun, and the connection stays after it.
    var keepsAlive: Bool?
    /// What its answer may take of memory at most, until it has left.
    var answerBytes = 0
    /// The piece of its body that its reader has in hand.
    var pieceBytes = 0

    init(number: Int, record: RequestRecord) {
      self.number = number
      self.record = record
    }

    var head: RequestHead { record.head }
  }

  /// Bytes of answers that may wait for the client before its next request is looked at.
  private static let queuedAnswerBytes = 256 * 1024
  /// What a stream takes: a piece with its writer, and what waits of it here.
  private static let streamBytes = 128 * 1024
  /// Requests that are answered in one turn.
  private static let requestsPerTurn = 32
  /// How long a client may still send a request when the server drains.
  private static let drainMilliseconds: Int64 = 500
  /// A reader that takes nothing of its answer for so long is cut.
  private static let readerMilliseconds: Int64 = 30_000
  private static let readerCheckMilliseconds: Int64 = 1_000

  init(owner: WebLoop, transport: Transport) {
    self.owner = owner
    self.transport = transport
    machine = HTTPMachine(limits: owner.limits.http, now: Monotonic.milliseconds)
  }

  /// Since when it has not sent a request, or waits for the next one; nil while one is served.
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

  /// Carries out all that the machine has to say.
  private func advance() {
    // What is carried out may change the machine: the outer call goes on with that.
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

  /// Whoever sends many requests at once leaves room for others.
  private func rest() {
    isResting = true
    owner.loop.onNextTurn { [weak self] in
      self?.isResting = false
      self?.advance()
    }
  }

  /// Holds what was read ahead, what waits to leave, and what may be read next, of the budget; returns how much that is. 0
  /// where there is no room for more: nothing is read until there is.
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
      // What a method means that nobody knows, nobody knows of its body either.
      begin(response, mayStay: head.method != nil)
    case .prepared(let answer): send(answer)
    case .work(let match, let bodyLimit, let ahead):
      // There is no route for a method that is unknown.
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
      // Where it never waits, the answer has been sent when this returns.
      let task =
        owner.mayAnswerAtOnce() ? owner.loop.immediateTask(work) : owner.loop.task(work)
      if let exchange, exchange.number == number { exchange.task = task }
    }
  }

  /// Lets go of the request that was served; its task and whoever waits for its body are told.
  private func endExchange(because reason: any Error) {
    guard let exchange else { return }
    self.exchange = nil
    exchange.pipe?.end(reason)
    exchange.writer?.connectionClosed()
    exchange.task?.cancel()
  }

  // MARK: Answers

  /// The request's task has an answer.
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
      // Of a client that has left there is nothing to say.
      if self.exchange?.number == number {
        owner.streamFailed(error, requestID: exchange.record.id)
      }
      endStream(number, nil)
    }
  }

  /// Sends what is in memory, without a task. The hot path of public pages (`http` benchmark).
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
    // One buffer for all answers of the loop: it keeps its memory.
    owner.scratch.removeAll(keepingCapacity: true)
    owner.scratch.append(contentsOf: isKnown ? variant.notModifiedHead : variant.head)
    ResponseHead.appendEnd(
      to: &owner.scratch, date: owner.httpDate(), requestID: exchange.record.id,
      keepsAlive: keepsAlive, isVersion10: exchange.head.isVersion10)
    transport.write(&owner.scratch, then: hasBody ? variant.body : nil)
    endAnswerWhenSent()
  }

  /// Sends an answer, or the beginning of one. `mayStay` where what follows on the connection can be trusted.
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
    // Clients of HTTP/1.0 do not know chunks: the connection's end is the body's.
    if length == nil, hasBody, exchange.head.isVersion10 { keepsAlive = false }
    let isChunked = length == nil && hasBody && !exchange.head.isVersion10
    let head = ResponseHead(
      status: response.status,
      contentLength: ResponseHead.mayHaveBody(response.status) ? length : nil,
      isChunked: isChunked, keepsAlive: keepsAlive, isVersion10: exchange.head.isVersion10)
    owner.application.log.answered(
      exchange.record, status: response.status, bytes: hasBody ? length : 0)
    self.exchange?.keepsAlive = keepsAlive
    // Nobody may wait for a body that is not read any more.
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

  /// What an answer takes of memory at most, beside what is there anyway.
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

  /// Has a part of a file sent; the writer is told when it has left.
  func send(_ slice: FileSlice) -> BodyWriter.Sent {
    transport.write(slice)
    return transport.canWrite ? .full : .gone
  }

  /// A stream is complete, or broken where `lastBytes` is nil.
  private func endStream(_ number: Int, _ lastBytes: [UInt8]?) {
    guard exchange?.number == number else { return }
    exchange?.writer = nil
    guard let lastBytes else {
      // The client finds out by what is missing.
      transport.abort()
      return
    }
    transport.write(lastBytes)
    endAnswerWhenSent()
    advance()
  }

  /// Ends the answer once little of it waits here.
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

  /// Answers outside the application and closes: what follows on the connection cannot be trusted.
  private func refuse(_ error: AppError, requestID: String? = nil) {
    let requestID = requestID ?? exchange?.record.id ?? RequestIDs.make()
    guard exchange?.keepsAlive == nil else {
      // In the middle of an answer nothing can be said.
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
    // The transport lets go of this object, which lives until its caller is done.
    lease = nil
    transport.handler = connection
    transport.setReading(true)
    connection.open(
      upgrade, key: exchange.head.headers["sec-websocket-key"] ?? "",
      headers: headers, early: early)
    // Asked for before the drain began, and too late for it.
    if owner.isDraining { connection.drain() }
    if transport.hasInputEnded { connection.inputEnded() }
  }

  /// Ends the connection, for draining: behind the request that it serves, or the one that is on its way. Where none
  /// comes soon, it is closed.
  func drain() {
    guard machine.isIdle else { return }
    if machine.requestCount == 0 {
      close()
    } else {
      drainDue = Monotonic.milliseconds + Self.drainMilliseconds
      transport.tick(by: tickDue)
    }
  }

  /// Answers what is still under way at the end of draining.
  func abandonRequests() {
    if exchange != nil { refuse(AppError(.unavailable, "The server is shutting down.")) }
  }
}
