/// The body that a route accepts. Applied as soon as the head is known, before any of the body is read.
package enum BodyPlan: Sendable, Equatable {
  /// No body: a small one is read and dropped, a larger one refused.
  case empty
  /// One JSON object, up to the size in the settings (`Request.json`).
  case json
  /// A body of at most this many bytes, which the handler reads as it arrives (`Request.body`).
  case stream(upTo: Int)

  /// The bytes of a stream that are read before the handler asks for them.
  private static let streamAheadBytes = 256 * 1024

  /// How many bytes the body may have, and how many are read before the handler asks for them.
  func limits(jsonBytes: Int) -> (limit: Int, ahead: Int) {
    switch self {
    case .empty: (HTTPMachine.discardedBytes, HTTPMachine.readAheadBytes)
    case .json: (jsonBytes, HTTPMachine.readAheadBytes)
    case .stream(let bytes): (bytes, Self.streamAheadBytes)
    }
  }

  /// The default for routes with this method.
  static func standard(_ method: Method) -> BodyPlan {
    switch method {
    case .post, .put, .patch: .json
    case .get, .head, .delete, .options: .empty
    }
  }
}
