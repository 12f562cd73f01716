internal import Basics
internal import EventLoop

/// Writes an answer's body piece by piece, as it is produced (`Response.Body.stream`). Used by one writer at a time.
// Unchecked: everything is touched on the loop only.
package final class BodyWriter: @unchecked Sendable {
  private let loop: Loop
  /// Nil once the connection is gone.
  private weak var connection: HTTPConnection?
  private let isChunked: Bool
  /// Bytes that are still to come; nil if their number is not known.
  private var left: Int64?
  private var waiter: CheckedContinuation<Void, any Error>?
  private var sentInTurn = 0

  /// Bytes that are sent before other connections get a turn.
  private static let turnBytes = 512 * 1024

  /// The outcome of sending a piece.
  enum Sent {
    /// The piece has been sent.
    case room
    /// A part of it is queued. `drained` is called when everything has been sent.
    case full
    case gone
  }

  init(loop: Loop, connection: HTTPConnection, length: Int64?, isChunked: Bool) {
    self.loop = loop
    self.connection = connection
    left = length
    self.isChunked = isChunked
  }

  /// Sends bytes; pieces of 64 KiB are large enough. Returns when the next piece should be produced, so a slow reader
  /// makes its writer wait. Throws `ClientGone` if the client has disconnected.
  package func write(_ bytes: [UInt8]) async throws {
    guard !bytes.isEmpty else { return }
    try await onLoop { self.write(bytes, $0) }
  }

  /// Sends a part of a file, and returns when it has been sent. On plain connections only. Throws like the above.
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

  /// The client disconnected, or read nothing for too long.
  package struct ClientGone: Error {}

  /// The body is longer than announced.
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
      // A reader as fast as its writer would otherwise keep the loop to itself.
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

  /// Accounts for bytes to be written. Returns nil if they may not be written; the writer has been told then.
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

  /// The bytes that end the body; nil if less was written than announced.
  var lastBytes: [UInt8]? {
    if isChunked { return Array("0\r\n\r\n".utf8) }
    return left ?? 0 == 0 ? [] : nil
  }

  /// Everything that was written has been sent.
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
