internal import Basics
internal import EventLoop

/// Where an answer's body is written as it is made (`Response.Body.stream`). For one writer at a time.
// Unchecked: everything is touched on the loop only.
package final class BodyWriter: @unchecked Sendable {
  private let loop: Loop
  /// Nil once the connection is gone.
  private weak var connection: HTTPConnection?
  private let isChunked: Bool
  /// Bytes that are still to come; nil where that is not known.
  private var left: Int64?
  private var waiter: CheckedContinuation<Void, any Error>?
  private var sentInTurn = 0

  /// Bytes that are sent before other connections have their turn.
  private static let turnBytes = 512 * 1024

  /// What became of a piece.
  enum Sent {
    /// It has left.
    case room
    /// Some of it waits: `drained` is called when all has left.
    case full
    case gone
  }

  init(loop: Loop, connection: HTTPConnection, length: Int64?, isChunked: Bool) {
    self.loop = loop
    self.connection = connection
    left = length
    self.isChunked = isChunked
  }

  /// Sends bytes, of which 64 KiB at once are enough, and returns when the next should be made: a reader that is slow has its
  /// writer wait. Throws
  /// `ClientGone` where the client has left.
  package func write(_ bytes: [UInt8]) async throws {
    guard !bytes.isEmpty else { return }
    try await onLoop { self.write(bytes, $0) }
  }

  /// Has a part of a file sent, and returns when it has left. On plain connections only; throws as above.
  func write(_ slice: FileSlice) async throws {
    try await onLoop { self.write(slice, $0) }
  }

  private func onLoop(
    _ body: @escaping @Sendable (CheckedContinuation<Void, any Error>) -> Void
  ) async throws {
    try await withCheckedThrowingContinuation { continuation in
      if loop.isOnLoop { body(continuation) } else { loop.execute { body(continuation) } }
    }
  }

  /// The client closed, or read nothing for too long.
  package struct ClientGone: Error {}

  /// The body is longer than was said before.
  struct TooLong: Error {}

  private func write(_ bytes: [UInt8], _ continuation: CheckedContinuation<Void, any Error>) {
    guard let connection = begin(bytes.count, continuation) else { return }
    switch connection.send(isChunked ? Self.chunk(bytes) : bytes) {
    case .gone: continuation.resume(throwing: ClientGone())
    case .full: waiter = continuation
    case .room:
      sentInTurn += bytes.count
      guard sentInTurn >= Self.turnBytes else {
        continuation.resume()
        return
      }
      // A reader that is as fast as its writer would have the loop for itself.
      sentInTurn = 0
      waiter = continuation
      loop.onNextTurn { self.drained() }
    }
  }

  private func write(_ slice: FileSlice, _ continuation: CheckedContinuation<Void, any Error>) {
    guard let connection = begin(slice.range.count, continuation) else { return }
    switch connection.send(slice) {
    case .gone: continuation.resume(throwing: ClientGone())
    case .full, .room: waiter = continuation
    }
  }

  /// Counts what is written; nil where it may not be, which the writer has been told then.
  private func begin(
    _ count: Int, _ continuation: CheckedContinuation<Void, any Error>
  ) -> HTTPConnection? {
    guard let connection, waiter == nil else {
      continuation.resume(throwing: ClientGone())
      return nil
    }
    if let left {
      guard count <= left else {
        continuation.resume(throwing: TooLong())
        return nil
      }
      self.left = left - Int64(count)
    }
    return connection
  }

  private static func chunk(_ bytes: [UInt8]) -> [UInt8] {
    var chunk: [UInt8] = []
    chunk.reserveCapacity(bytes.count + 16)
    chunk.append(contentsOf: String(bytes.count, radix: 16).utf8)
    chunk.append(contentsOf: [13, 10])
    chunk.append(contentsOf: bytes)
    chunk.append(contentsOf: [13, 10])
    return chunk
  }

  // MARK: From the connection

  /// What ends the body; nil where less was written than was said before.
  var lastBytes: [UInt8]? {
    if isChunked { return Array("0\r\n\r\n".utf8) }
    return left ?? 0 == 0 ? [] : nil
  }

  /// What was written has left.
  func drained() {
    let waiter = waiter
    self.waiter = nil
    waiter?.resume()
  }

  func connectionClosed() {
    connection = nil
    let waiter = waiter
    self.waiter = nil
    waiter?.resume(throwing: ClientGone())
  }
}
