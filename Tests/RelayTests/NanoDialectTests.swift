import Basics
import Testing

@testable import Relay

@Suite struct NanoDialectTests {
  private func object(_ text: String) -> JSONObject? {
    (try? JSONParser.parse(Array(text.utf8)))?.object
  }

  private func ready(in room: Int64? = nil) -> NanoDialect {
    var machine = NanoDialect(maximumContentBytes: 10, readyDue: 10_000)
    _ = machine.tokenAccepted(isSameUser: true)
    if let room { _ = machine.selected(RoomID(room)) }
    return machine
  }

  @Test func `frames before READY are answered TOKEN? and do not count`() {
    var machine = NanoDialect(maximumContentBytes: 10, readyDue: 10_000)
    for _ in 0..<10 {
      #expect(machine.receive(object(#"{"type":"message"}"#)) == [.reply(.tokenNeeded)])
    }
    #expect(machine.tokenRejected() == [.reply(.tokenNeeded)])
    #expect(machine.tokenRejected() == [.reply(.tokenNeeded)])
    #expect(machine.tokenRejected() == [.reply(.badAuth), .close(.unauthenticated)])
  }

  @Test func `each command does its one thing`() {
    var machine = ready()
    #expect(
      machine.receive(object(#"{"type":"token","content":"t"}"#)) == [.authenticate(Secret("t"))])
    #expect(
      machine.receive(object(#"{"type":"select_room","room_id":"7"}"#)) == [.select(RoomID(7))])
    #expect(
      machine.receive(object(#"{"type":"select_room","room_id":0}"#)) == [.reply(.notAuthorized)])
    #expect(machine.receive(object(#"{"type":"message","content":"x"}"#)) == [.reply(.roomNeeded)])
    #expect(machine.receive(object(#"{"type":"quit"}"#)) == [.close(.quit)])
    #expect(machine.receive(object("{}")) == [.reply(.unknownCommand)])
    #expect(machine.receive(nil) == [.reply(.badJSON), .close(.notJSON)])
    var inRoom = ready(in: 7)
    #expect(inRoom.receive(object(#"{"type":"message","content":"x"}"#)) == [.send(content: "x")])
    for content in [#""""#, "5", "null", #""12345678901""#, #""\u0000""#] {
      #expect(
        inRoom.receive(object(#"{"type":"message","content":\#(content)}"#)) == [
          .reply(.badMessage)
        ])
    }
    #expect(inRoom.roomLost() == [.reply(.notAuthorized)])
    #expect(inRoom.receive(object(#"{"type":"message","content":"x"}"#)) == [.reply(.roomNeeded)])
  }

  @Test func `what cannot be served now is refused, and nothing is begun`() {
    let machine = ready(in: 7)
    for frame in [
      #"{"type":"token","content":"t"}"#, #"{"type":"select_room","room_id":7}"#,
      #"{"type":"message","content":"x"}"#,
    ] {
      #expect(machine.refuse(object(frame)) == [.reply(.unavailable)])
    }
    #expect(machine.refuse(object(#"{"type":"quit"}"#)) == [.close(.quit)])
    #expect(machine.refuse(object("{}")) == [.reply(.unknownCommand)])
    #expect(machine.refuse(nil) == [.reply(.badJSON), .close(.notJSON)])
  }

  @Test func `a token renews its own user only`() {
    var machine = ready()
    #expect(machine.tokenAccepted(isSameUser: true) == [.reply(.ready)])
    #expect(
      machine.tokenAccepted(isSameUser: false) == [.reply(.badAuth), .close(.unauthenticated)])
  }
}
