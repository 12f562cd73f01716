internal import Basics
internal import EventLoop

/// A request's body as it arrives: pieces of up to 64 KiB, for one reader.
///
/// Nothing is read before the reader asks, except for what the route's flow control allows (`BodyPlan`), so a body
/// that nobody wants costs nothing. A reader may simply stop early: the answer ends the body.
///
///     for try await piece in request.body { try await file.write(piece) }
///
/// Throws `AppError`: `request_timeout` if the body stalls, `body_too_large`, and `bad_request` if it is malformed or
/// ends early.
package struct RequestBody: AsyncSequence, Sendable {
  package typealias Element = [UInt8]

  /// The length of the body in bytes; nil if it is not announced.
  package let length: Int?
  private let source: Source

  fileprivate enum Source: Sendable {
    case none
    case pipe(BodyPipe)
  }

  static let none = RequestBody(length: 0, source: .none)

  init(length: Int?, pipe: BodyPipe) { self.init(length: length, source: .pipe(pipe)) }

  private init(length: Int?, source: Source) {
    self.length = length
    self.source = source
  }

  package struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate let source: Source

    package mutating func next() async throws -> [UInt8]? {
      switch source {
      case .none: nil
      case .pipe(let pipe): try await pipe.next()
      }
    }
  }

  package func makeAsyncIterator() -> AsyncIterator { AsyncIterator(source: source) }

  /// Reads the whole body, of at most `limit` bytes. Throws the same, and `unavailable` if the server or the client's
  /// address holds too much already.
  package func collect(upTo limit: Int) async throws -> [UInt8] {
    guard case .pipe(let pipe) = source else { return [] }
    if let length, length > limit { throw HTTPMachine.tooLarge(limit: limit) }
    var bytes: [UInt8] = []
    while bytes.count != length, let piece = try await pipe.next() {
      guard bytes.count + piece.count <= limit else { throw HTTPMachine.tooLarge(limit: limit) }
      try pipe.hold(bytes.count + piece.count)
      if bytes.isEmpty { bytes = piece } else { bytes.append(contentsOf: piece) }
    }
    return bytes
  }

  /// Changes this body's share of the budget to `bytes`, for what is made from it, until the request is answered.
  /// Throws `unavailable`, or `body_too_large` if one address may never hold that much.
  func hold(_ bytes: Int) throws(AppError) {
    if case .pipe(let pipe) = source { try pipe.hold(bytes) }
  }
}

/// Passes the pieces of a body from the connection to the task of the request.
// Unchecked: everything is touched on the loop only.
final class BodyPipe: @unchecked Sendable {
  private let loop: Loop
  private let lease: BufferLease
  /// Nil once the request is over.
  private weak var connection: HTTPConnection?
  private var waiter: CheckedContinuation<[UInt8]?, any Error>?
  private var outcome: Result<[UInt8]?, any Error>?

  init(loop: Loop, connection: HTTPConnection, lease: BufferLease) {
    self.loop = loop
    self.connection = connection
    self.lease = lease
  }

  /// The next piece, or nil at the end.
  func next() async throws -> [UInt8]? {
    try await withCheckedThrowingContinuation { continuation in
      if loop.isOnLoop {
        ask(continuation)
      } else {
        loop.execute { self.ask(continuation) }
      }
    }
  }

  private func ask(_ continuation: CheckedContinuation<[UInt8]?, any Error>) {
    if let outcome {
      continuation.resume(with: outcome)
      return
    }
    guard waiter == nil, let connection else {
      continuation.resume(throwing: AppError(.internalError))
      return
    }
    waiter = continuation
    connection.wantBody()
  }

  /// Holds this many bytes of the budget as long as this object exists. Throws like `RequestBody.hold`.
  func hold(_ bytes: Int) throws(AppError) {
    guard lease.isPossible(bytes) else {
      throw AppError(
        .bodyTooLarge, "What this body holds takes more memory than one client may have.")
    }
    guard lease.resize(to: bytes) else {
      throw AppError(
        .unavailable, "Too many large requests are under way; try again.",
        underlying: BufferBudget.Exhausted())
    }
  }

  // MARK: From the connection

  func deliver(_ piece: [UInt8]) {
    let waiter = waiter
    self.waiter = nil
    waiter?.resume(returning: piece)
  }

  /// Ends the body: nil if it is complete, otherwise the reason.
  func end(_ failure: (any Error)?) {
    guard outcome == nil else { return }
    let outcome: Result<[UInt8]?, any Error> = failure.map { .failure($0) } ?? .success(nil)
    self.outcome = outcome
    connection = nil
    let waiter = waiter
    self.waiter = nil
    waiter?.resume(with: outcome)
  }
}
