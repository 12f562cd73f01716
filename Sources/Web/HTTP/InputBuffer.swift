/// Received bytes that have not been read. A value. Reading from its front moves nothing.
struct InputBuffer: Sendable {
  private var bytes: [UInt8] = []
  private var start = 0

  /// Bytes that were read are released once there are this many.
  private static let compactBytes = 64 * 1024

  var count: Int { bytes.count - start }
  /// The memory that it takes.
  var capacity: Int { bytes.capacity }
  var isEmpty: Bool { start == bytes.count }

  mutating func append(_ new: UnsafeRawBufferPointer) {
    if isEmpty {
      bytes = [UInt8](new)
      start = 0
    } else {
      bytes.append(contentsOf: new)
    }
  }

  mutating func append(_ new: [UInt8]) { new.withUnsafeBytes { append($0) } }

  func withUnsafeBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try bytes.span.bytes.withUnsafeBytes { (all) throws(Failure) in
      try body(UnsafeRawBufferPointer(rebasing: all[start...]))
    }
  }

  mutating func removeFirst(_ count: Int) {
    start += min(count, self.count)
    if isEmpty {
      bytes = []
      start = 0
    } else if start >= Self.compactBytes {
      bytes.removeFirst(start)
      start = 0
    }
  }

  /// Removes and returns the first bytes, at most `limit`; without a copy if these are all.
  mutating func take(upTo limit: Int) -> [UInt8] {
    if start == 0, bytes.count <= limit {
      let all = bytes
      bytes = []
      return all
    }
    let taken = Array(bytes[start..<(start + min(limit, count))])
    removeFirst(taken.count)
    return taken
  }
}
