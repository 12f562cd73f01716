internal import Basics
internal import EventLoop

/// Parses bodies that consist of one JSON object, for all requests of an application.
///
/// A class, because every request refers to it.
final class JSONBodies: Sendable {
  /// The largest body, in bytes.
  let maximumBytes: Int
  /// The deepest nesting.
  let maximumDepth: Int
  /// Where large bodies are parsed; nil means on the loop.
  let pool: ThreadPool?

  init(maximumBytes: Int, maximumDepth: Int, pool: ThreadPool?) {
    self.maximumBytes = maximumBytes
    self.maximumDepth = maximumDepth
    self.pool = pool
  }

  /// Larger bodies would block the loop for more than a millisecond.
  private static let largestOnLoopBytes = 16 * 1024

  /// The object in `body`. Its memory counts in the budget until the request is answered. Throws `AppError`: 400 if
  /// it is not one object, 413 if its values take more memory than one client may have, 503 if the budget has no room
  /// now, and what `RequestBody` throws. With `mayBeAbsent` no body counts as an empty object.
  func object(
    of body: RequestBody, mayBeAbsent: Bool, from site: IPAddress.Site
  ) async throws -> JSONObject {
    let bytes = try await body.collect(upTo: maximumBytes)
    if mayBeAbsent, bytes.isEmpty { return JSONObject() }
    guard let pool, bytes.count > Self.largestOnLoopBytes else {
      try body.hold(Self.memory(for: bytes))
      return try parse(bytes)
    }
    do {
      try body.hold(try await pool.run(for: site) { _ in Self.memory(for: bytes) })
      return try await pool.run(for: site) { _ in try self.parse(bytes) }
    } catch is ThreadPool.Full {
      throw AppError(
        .unavailable, "Too many large requests are under way; try again.",
        underlying: BufferBudget.Exhausted())
    }
  }

  /// The memory that a text and its values take.
  private static func memory(for bytes: [UInt8]) -> Int {
    bytes.count + JSONParser.memoryEstimate(of: bytes)
  }

  private func parse(_ bytes: [UInt8]) throws(AppError) -> JSONObject {
    let value: JSON
    do { value = try JSONParser.parse(bytes, maximumDepth: maximumDepth) } catch {
      throw AppError(.invalidJSON, "The body is not JSON: \(error).")
    }
    guard let object = value.object else { throw AppError(.invalidJSON) }
    return object
  }
}
