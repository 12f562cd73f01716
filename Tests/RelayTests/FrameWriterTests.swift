import Basics
import Events
import Testing
import Web

@testable import Relay

@Suite struct FrameWriterTests {
  private func entry(_ data: String, clientID: String?) -> Entry {
    Entry(
      roomID: RoomID(7), seq: 3, id: .make(), from: .make(), channelID: "7",
      ts: Timestamp(milliseconds: 0), clientID: clientID, ordinal: 3,
      body: .message(MessageContent(type: .text, data: data)))
  }

  /// Returns the object in a complete text frame. Also checks the length in its header.
  private func object(_ frame: [UInt8]) throws -> JSONObject {
    let header = WebSocketFrames.headerBytes(of: frame)
    var expected: [UInt8] = []
    WebSocketFrames.appendTextHeader(count: frame.count - header, to: &expected)
    #expect(Array(frame[..<header]) == expected)
    return try #require(try JSONParser.parse(Array(frame[header...])).object)
  }

  /// Short frames, and lengths around 65,536 bytes, where the frame's header grows.
  @Test(arguments: [0, 1, 40, 60, 65_200, 65_300, 65_400, 70_000], [true, false])
  func `the sender sees the same with its client id`(count: Int, isShared: Bool) throws {
    for extra in 0..<40 {
      var frames = FrameWriter()
      let entry = entry(String(repeating: "x", count: count + extra), clientID: "a\"b\u{1F600}")
      let frame = frames.relayEntry(entry, isShared: isShared)
      let others = try object(frame)
      let own = try object(frames.forSender(frame, of: entry))
      #expect(others["client_id"] == nil)
      #expect(own["client_id"]?.string == entry.clientID)
      for name in ["type", "channel_id", "room_id", "seq", "id", "from", "to", "data", "ts"] {
        #expect(others[name] != nil && others[name] == own[name])
      }
      #expect((entry.encodedFrame != nil) == isShared)
    }
  }

  @Test func `who has no client id sees what all see`() {
    var frames = FrameWriter()
    let entry = entry("x", clientID: nil)
    let frame = frames.relayEntry(entry, isShared: true)
    #expect(frames.forSender(frame, of: entry) == frame)
  }
}
