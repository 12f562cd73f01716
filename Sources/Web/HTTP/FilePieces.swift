internal import Basics
internal import EventLoop

/// Sends a part of a file to a connection, piece by piece.
///
/// A loop should not wait for a disk, so what the kernel has not cached is read on separate threads first. On plain
/// connections the kernel then sends it (sendfile(2)); that may still wait for pages that the samples missed. For TLS
/// it is read here, to be encrypted.
struct FilePieces: Sendable {
  let slice: FileSlice
  let isSecure: Bool
  let pool: ThreadPool
  /// The client's address: clients take turns.
  let site: IPAddress.Site

  /// How much is sent before other connections get a turn.
  private static let plainBytes: Int64 = 1024 * 1024
  /// The same for TLS. As much again may be queued in the connection.
  private static let secureBytes: Int64 = 64 * 1024

  /// Returns early if the file has become shorter; the connection is cut then.
  func write(to writer: BodyWriter) async throws {
    var rest = slice.range
    while !rest.isEmpty {
      let piece = rest.prefix(Int(isSecure ? Self.secureBytes : Self.plainBytes))
      let count = isSecure ? try await read(piece, to: writer) : try await send(piece, to: writer)
      guard count > 0 else { return }
      rest = rest.dropFirst(count)
    }
  }

  private func send(_ piece: Range<Int64>, to writer: BodyWriter) async throws -> Int {
    if !slice.file.isCached(piece) {
      try await pool.run(for: site) { _ in try slice.file.load(piece) }
    }
    try await writer.write(FileSlice(slice.file, piece))
    return piece.count
  }

  private func read(_ piece: Range<Int64>, to writer: BodyWriter) async throws -> Int {
    let bytes: [UInt8]
    // Switching threads costs more than the copy.
    if let cached = slice.file.readCached(piece) {
      bytes = cached
    } else {
      bytes = try await pool.run(for: site) { _ in try slice.file.read(piece) }
    }
    try await writer.write(bytes)
    return bytes.count
  }
}
