internal import Basics
internal import EventLoop

/// A part of a file on its way to a connection, piece by piece.
///
/// A loop should not wait for a disk: what the kernel does not have in memory is read on threads of their own first. Plain
/// connections then have the kernel send it (sendfile(2)), which waits for what samples did not show to be missing; for TLS it
/// is read here, to be encrypted.
struct FilePieces: Sendable {
  let slice: FileSlice
  let isSecure: Bool
  let pool: ThreadPool
  /// For whom: clients take turns.
  let site: IPAddress.Site

  /// What is sent before others have their turn.
  private static let plainBytes: Int64 = 1024 * 1024
  /// As much again may wait in the connection.
  private static let secureBytes: Int64 = 64 * 1024

  /// Returns early where the file is shorter than it was; the connection is cut then.
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
    // Going to another thread and back costs more than the copy.
    if let cached = slice.file.readCached(piece) {
      bytes = cached
    } else {
      bytes = try await pool.run(for: site) { _ in try slice.file.read(piece) }
    }
    try await writer.write(bytes)
    return bytes.count
  }
}
