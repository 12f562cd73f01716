internal import Basics
internal import EventLoop

/// A request's body as it arrives: pieces of up to 64 KiB, for one reader.
///
/// Nothing is read before somebody asks, but for what fits the flow control of its route (`BodyPlan`), so a body that
/// nobody wants costs nothing. A reader that stops early needs to say nothing: the answer ends the body.
///
///     for try await piece in request.body { try await file.write(piece) }
///
/// Throws `AppError`: `request_timeout` where it stands still, `body_too_large`, `bad_request` where it is malformed or
/// ends early.
package struct RequestBody: AsyncSequence, Sendable {
  package typealias Element = [UInt8]

  /// How many bytes it has in all; nil where that is not told before.
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

  /// All of it, at most so many bytes. Throws as above, and `unavailable` where the server or the client's address holds
  /// too much already.
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

  /// Holds so many bytes of the budget, in place of what was held, until the request is answered: what is made of a body.
  /// Throws `unavailable`, or `body_too_large` where there never will be so much for one address.
  func hold(_ bytes: Int) throws(AppError) {
    if case .pipe(let pipe) = source { try pipe.hold(bytes) }
  }
}

/// The way of a body's pieces from their connection to the request's task.
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

  /// Holds so many bytes of the budget for as long as this lives. Throws as `RequestBody.hold`.
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

  /// No more comes: nil at the body's end, else why.
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
