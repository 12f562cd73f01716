internal import Basics
internal import CZlib
package import EventLoop

/// gzip (RFC 1952) for text of more than 1 KB, where the client takes it.
package struct Compression: Middleware {
  private static let smallestBytes = 1024
  /// Larger bodies would hold up the loop.
  private static let largestOnLoopBytes = 16 * 1024

  private let lane: Lane

  /// Large bodies are compressed on `lane`.
  package init(lane: Lane) { self.lane = lane }

  package func respond(
    to request: Request, on route: MatchedRoute, next: Next
  ) async throws -> Response {
    var response = try await next(request)
    guard response.body.count > Self.smallestBytes, accepts(request),
      let type = response.header("content-type"),
      type.hasPrefix("text/") || type.hasPrefix("application/json"),
      let compressed = await compress(response.body), compressed.count < response.body.count
    else { return response }
    response.body = compressed
    response.add("content-encoding", "gzip")
    return response
  }

  private func accepts(_ request: Request) -> Bool {
    request.headers.all("accept-encoding").contains { value in
      value.split(separator: ",").contains { offer in
        let parts = offer.split(separator: ";").map { $0.trimmingBlanks().lowercased() }
        return parts.first == "gzip"
          && !parts.dropFirst().contains { $0.hasPrefix("q=") && Double($0.dropFirst(2)) == 0 }
      }
    }
  }

  /// Nil where there is no room for it now: the body leaves as it is.
  private func compress(_ body: [UInt8]) async -> [UInt8]? {
    if body.count <= Self.largestOnLoopBytes { return gzip(body) }
    do { return try await lane.run { _ in gzip(body) } } catch { return nil }
  }

  /// Nil where that would be no smaller, or zlib has no memory.
  private func gzip(_ body: [UInt8]) -> [UInt8]? {
    var stream = z_stream()
    guard martlet_deflate_init_gzip(&stream, 5) == Z_OK else { return nil }
    defer { deflateEnd(&stream) }
    // What would be larger than the body is of no use.
    let output = [UInt8](unsafeUninitializedCapacity: body.count) { target, count in
      body.withUnsafeBufferPointer { source in
        // zlib only reads its input, whatever its header says.
        stream.next_in = UnsafeMutablePointer(mutating: source.baseAddress)
        stream.avail_in = UInt32(source.count)
        stream.next_out = target.baseAddress
        stream.avail_out = UInt32(target.count)
        count = deflate(&stream, Z_FINISH) == Z_STREAM_END ? Int(stream.total_out) : 0
      }
    }
    if output.isEmpty { return nil }
    // A copy of its own size: the other has room for the body.
    return output.withUnsafeBufferPointer { Array($0) }
  }
}
