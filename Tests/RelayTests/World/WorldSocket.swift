import Basics
import TestSupport
import Web

/// A client of either protocol in `RelayWorld`.
protocol WorldSocket: AnyObject {
  var sink: FakeSink { get }
  /// The server's side of the socket.
  var handler: any WebSocketHandler { get }
  /// Reads the frames that have arrived.
  func read()
}

extension WorldSocket {
  var isOpen: Bool { sink.isOpen }
}

/// An iterator over the text frames that the reader of a sink has taken.
struct SinkFrames {
  private var offset = 0

  /// Returns the next frame; nil if no whole frame has arrived. The inner optional is nil if the text is not one JSON
  /// object.
  mutating func next(of sink: FakeSink) -> JSONObject?? {
    let stream = Array(sink.received[offset...])
    let header = WebSocketFrames.headerBytes(of: stream)
    guard stream.count >= 2 else { return nil }
    let length: Int
    switch stream[1] {
    case 126:
      guard stream.count >= 4 else { return nil }
      length = Int(stream[2]) << 8 | Int(stream[3])
    default: length = Int(stream[1])
    }
    guard stream.count >= header + length else { return nil }
    offset += header + length
    let text = Array(stream[header..<(header + length)])
    return .some((try? JSONParser.parse(text))?.object)
  }
}
