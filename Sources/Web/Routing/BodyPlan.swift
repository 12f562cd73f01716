/// What body a route takes. Looked at when a request's head is here, before anything of the body is read.
package enum BodyPlan: Sendable, Equatable {
  /// None is wanted: a small one is read and dropped, a larger one refused.
  case empty
  /// One JSON object, as large as the settings say (`Request.json`).
  case json
  /// A body of at most so many bytes, which the handler reads as it arrives (`Request.body`).
  case stream(upTo: Int)

  /// Bytes of a stream that are read before the handler asks.
  private static let streamAheadBytes = 256 * 1024

  /// How many bytes the body may have, and how many are read before the handler asks.
  func limits(jsonBytes: Int) -> (limit: Int, ahead: Int) {
    switch self {
    case .empty: (HTTPMachine.discardedBytes, HTTPMachine.readAheadBytes)
    case .json: (jsonBytes, HTTPMachine.readAheadBytes)
    case .stream(let bytes): (bytes, Self.streamAheadBytes)
    }
  }

  /// What routes of a method take that say nothing else.
  static func standard(_ method: Method) -> BodyPlan {
    switch method {
    case .post, .put, .patch: .json
    case .get, .head, .delete, .options: .empty
    }
  }
}
