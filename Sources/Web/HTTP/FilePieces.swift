internal import Basics
internal import EventLoop

/// A part of a file on its way to a connection with TLS: read piece by piece, on threads that may wait for the disk.
struct FilePieces: Sendable {
  let slice: FileSlice
  let lane: Lane
  /// For whom: clients take turns.
  let site: IPAddress.Site

  /// One leaves, one waits to be read, and as much waits in the connection.
  private static let pieceBytes: Int64 = 64 * 1024

  func write(to writer: BodyWriter) async throws {
    var offset = slice.range.lowerBound
    var piece = try await read(at: offset)
    // Empty at its end, or where the file is shorter than it was: the connection is cut then.
    while !piece.isEmpty {
      offset += Int64(piece.count)
      piece = try await write(piece, to: writer, whileReadingAt: offset)
    }
  }

  /// While one piece leaves, the next is read.
  private func write(
    _ piece: [UInt8], to writer: BodyWriter, whileReadingAt offset: Int64
  ) async throws -> [UInt8] {
    async let next = read(at: offset)
    try await writer.write(piece)
    return try await next
  }

  private func read(at offset: Int64) async throws -> [UInt8] {
    let count = Int(min(Self.pieceBytes, slice.range.upperBound - offset))
    guard count > 0 else { return [] }
    return try await lane.run(for: site) { _ in try slice.file.read(at: offset, upTo: count) }
  }
}
