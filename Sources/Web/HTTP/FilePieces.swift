internal import Basics
internal import EventLoop

/// A part of a file on its way to a connection with TLS, piece by piece. What is not in memory is read on threads that may
/// wait for the disk.
struct FilePieces: Sendable {
  let slice: FileSlice
  let lane: Lane
  /// For whom: clients take turns.
  let site: IPAddress.Site

  /// As much may wait in the connection.
  private static let pieceBytes: Int64 = 64 * 1024

  func write(to writer: BodyWriter) async throws {
    var offset = slice.range.lowerBound
    while offset < slice.range.upperBound {
      let piece = try await read(at: offset)
      // The file is shorter than it was: the connection is cut.
      guard !piece.isEmpty else { return }
      offset += Int64(piece.count)
      try await writer.write(piece)
    }
  }

  private func read(at offset: Int64) async throws -> [UInt8] {
    let count = Int(min(Self.pieceBytes, slice.range.upperBound - offset))
    // Going to another thread and back costs more than the copy.
    if let cached = slice.file.readCached(at: offset, upTo: count) { return cached }
    return try await lane.run(for: site) { _ in try slice.file.read(at: offset, upTo: count) }
  }
}
