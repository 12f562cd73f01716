import Access
import Basics
import Chat
import Events
import TestSupport
import Testing
import Web

@testable import Relay

/// The decisions of relay v1, input by input, without a socket that performs its actions.
@Suite struct RelayDialectTests {
  private final class View: SocketView {
    var now: Int64 = 1000
    var caller: Caller? = .foreign(UUID(high: 1, low: 1))
    var epoch: String { "e" }
    var mayServe = true
    var unserved: Set<RoomID> = []
    var subscribed: Set<RoomID> = []
    var headMark = HeadMark.beginning
    var heads: [RoomHead] = []
    func isServed(_ id: RoomID) -> Bool { !unserved.contains(id) }
    func isSubscribed(to id: RoomID) -> Bool { subscribed.contains(id) }
    func isBehind(in id: RoomID) -> Bool { false }
    func channelID(of id: RoomID) -> String { id.description }
    /// The rooms that names mean, as far as they are known without asking.
    var named: [ChannelName: RoomID] = [:]
    func team(ofChannel id: RoomID) -> TeamID? {
      named.first { $0.value == id && $0.key.member == nil }?.key.team
    }
    func room(named name: ChannelName) -> RoomID? { named[name] }
    func movedHeads(of rooms: Set<RoomID>, since mark: HeadMark) -> [RoomHead] {
      heads.filter { rooms.contains($0.key) }
    }
  }

  /// The dialect of one socket. Each call returns the resulting actions, each in a few words.
  private final class Machine {
    private var dialect: RelayDialect
    let view = View()

    init(followsAllRooms: Bool = true) {
      dialect = RelayDialect(
        followsAllRooms: followsAllRooms, maximumContentBytes: 10, maximumHeldBytes: 1000,
        openingMilliseconds: 10_000, now: 1000)
    }

    func callAsFunction(_ input: SocketInput) -> [String] {
      dialect.handle(input, view).map(Self.words)
    }

    func frame(_ text: String) -> [String] {
      // A text that is not JSON becomes nil, as in `RelaySocket`.
      self(.frame((try? JSONParser.parse(Array(text.utf8)))?.object))
    }

    /// Opens the dialect with these rooms subscribed, and returns itself.
    func open(_ rooms: [Int64]) -> Machine {
      _ = self(.opened)
      let ids = rooms.map { RoomID($0) }
      _ = self(.listed(ids, hasMore: false))
      _ = self(.loaded(nil))
      for id in ids {
        _ = self(.room(.admitted(RelayDialectTests.room(id.value), .listed, seq: 1)))
      }
      return self
    }

    var rooms: [Int64] { dialect.rooms.map(\.value).sorted() }
    var tickDue: Int64? { dialect.tickDue }
    var isBusy: Bool { dialect.isBusy }

    private static func words(_ action: SocketAction) -> String {
      switch action {
      case .send(.relay(let answer), _, _): words(answer)
      case .answer(.relay(let answer), _): "answer \(words(answer))"
      case .send, .answer: "nano"
      case .replay(let entry): "replay \(entry.seq)"
      case .sendHeads(let heads): "heads \(heads.map { "\($0.key.value):\($0.value)" })"
      case .cork: "cork"
      case .uncork(.relay(let answer)): "uncork \(words(answer))"
      case .uncork: "nano"
      case .close(let code): "close \(code.reason)"
      case .authenticate: "authenticate"
      case .list: "list"
      case .load(let ids): "load \(ids.map(\.value))"
      case .prepare(let ids): "prepare \(ids.map(\.value))"
      case .attach(let ids, let purpose):
        switch purpose {
        case .listed: "attach \(ids.map(\.value)) listed"
        case .subscribe: "attach \(ids.map(\.value)) subscribe"
        case .became: "attach \(ids.map(\.value)) became"
        case .resume(let last, _, _): "attach \(ids.map(\.value)) resume \(last)"
        }
      case .leave(let ids, _): "leave \(ids.map(\.value))"
      case .detach(let id): "detach \(id)"
      case .resolve(let names):
        "resolve \(names.map { "\($0.team.uuid.low)\($0.member.map { "-\($0.uuid.low)" } ?? "")" })"
      case .examine(let entry): "examine \(text(of: entry.body)) to \(entry.roomID)"
      case .write(let entry):
        "write \(text(of: entry.body)) to \(entry.roomID)"
          + (entry.recipient.map { " for \($0.uuid.low)" } ?? "")
      case .markRead(let id, let seq, _, _): "read \(id) to \(seq)"
      case .typing(let id, _, _): "typing in \(id)"
      case .watch(let users, _): "watch \(users.count)"
      case .charge(let frames): "charge \(frames)"
      }
    }

    private static func text(of body: EntryBody) -> String {
      switch body {
      case .message(let content): content.data
      case .edit(let of, let data, _): "\(data ?? "nothing") instead of \(of)"
      case .deletion(let of): "the end of \(of)"
      case .reaction(let to, let emoji, let isRemoved):
        "\(isRemoved ? "no " : "")\(emoji) at \(to)"
      default: "\(body)"
      }
    }

    private static func words(_ answer: RelayAnswer) -> String {
      var writer = FrameWriter()
      return String(decoding: writer.frame(.relay(answer)).drop { $0 != 0x7b }, as: UTF8.self)
        .split(separator: ",").prefix(2).joined(separator: ",").filter { !"{}\"".contains($0) }
    }
  }

  fileprivate static func room(_ id: Int64) -> Room {
    Room(
      id: RoomID(id),
      Room.Properties(
        name: "r", levelAdmin: 9, ownerUser: UserID(UUID(high: 1, low: 1)),
        createdAt: Timestamp(milliseconds: 0)), accessVersion: 1)
  }

  @Test func `a team names its channel and dialogs, and what is not known is asked for once`() {
    let machine = Machine(followsAllRooms: false)
    _ = machine(.opened)
    let team = UUID(high: 3, low: 7)
    let bob = UUID(high: 1, low: 2)
    let channel = ChannelName(team: TeamID(team), member: nil)
    let dialog = ChannelName(team: TeamID(team), member: UserID(bob))
    func text(_ channel: String, _ to: String) -> String {
      #"{"type":"text","channel_id":"\#(channel)","to":"\#(to)","data":"x","client_id":"c"}"#
    }
    // Later frames wait while the first one is being resolved.
    #expect(machine.frame(text("\(team)", "*")) == ["resolve [\"7\"]"])
    #expect(machine.isBusy)
    #expect(machine(.resolved([channel: .room(RoomID(4))])) == ["write x to 4"])
    #expect(!machine.isBusy)
    #expect(machine.frame(text("\(team)", "\(bob)")) == ["resolve [\"7-2\"]"])
    #expect(
      machine(.resolved([dialog: .refused(.recipientNotInTeam)]))
        == ["answer type:error,code:recipient_not_in_team"])
    // What is known is not asked for.
    machine.view.named = [channel: RoomID(4), dialog: RoomID(5)]
    #expect(machine.frame(text("\(team)", "*")) == ["write x to 4"])
    #expect(machine.frame(text("\(team)", "\(bob)")) == ["write x to 5"])
    #expect(machine.frame(text("4", "\(bob)")) == ["write x to 5"])
    #expect(
      machine.frame(text("9", "\(bob)")) == ["write x to 9 for 2"])
    #expect(
      machine.frame(text("\(team)", "bob")) == ["answer type:error,code:recipient_not_in_team"])
    #expect(
      machine.frame(#"{"type":"subscribe","channels":["\#(team)","8"]}"#)
        == ["prepare [4, 8]", "attach [4, 8] subscribe"])
    // A team of others is none.
    let other = UUID(high: 3, low: 9)
    #expect(
      machine.frame(#"{"type":"resume","channels":{"\#(other)":0}}"#) == ["resolve [\"9\"]"])
    #expect(
      machine(.resolved([ChannelName(team: TeamID(other), member: nil): .refused(.roomNotFound)]))
        == ["answer type:error,code:room_not_found"])
  }

  @Test func `it opens with the rooms that may be read, and ready comes before all else`() {
    let machine = Machine()
    #expect(machine(.opened) == ["list"])
    #expect(machine(.listed([RoomID(1), RoomID(2)], hasMore: false)) == ["load [1, 2]"])
    // A room that became readable meanwhile is loaded too, but not announced before `ready`.
    #expect(machine(.room(.becameReadable(RoomID(3)))) == [])
    #expect(machine(.loaded(nil)) == ["load [1, 2, 3]"])
    machine.view.unserved = [RoomID(2)]
    #expect(machine(.loaded(nil)) == ["cork", "attach [1, 3] listed"])
    #expect(machine(.room(.admitted(Self.room(1), .listed, seq: 5))) == [])
    let ready = machine(.room(.refused(RoomID(3), .listed, .forbidden)))
    #expect(ready.first == "uncork type:ready,user_id:\(UUID(high: 1, low: 1))")
    #expect(machine.rooms == [1, 3] || machine.rooms == [1])
  }

  @Test func `what cannot be listed or loaded at first closes it`() {
    let machine = Machine()
    _ = machine(.opened)
    #expect(machine(.notListed) == ["close unavailable"])
    let other = Machine()
    _ = other(.opened)
    _ = other(.listed([], hasMore: false))
    #expect(other(.loaded(AppError(.unavailable))) == ["close unavailable"])
    let slow = Machine()
    _ = slow(.opened)
    slow.view.now = 11_000
    #expect(slow(.tick) == ["close unavailable"])
  }

  @Test func `frames of rooms are asked for in their order, read together`() {
    let machine = Machine(followsAllRooms: false).open([])
    #expect(
      machine.frame(#"{"type":"subscribe","channels":["3","x",1],"client_id":"c"}"#).first
        == "answer type:error,code:invalid_frame")
    #expect(
      machine.frame(#"{"type":"subscribe","channels":["3","x","1"],"client_id":"c"}"#) == [
        "answer type:error,code:room_not_found", "prepare [3, 1]",
        "attach [3, 1] subscribe",
      ])
    #expect(
      machine.frame(#"{"type":"resume","epoch":"e","channels":{"1":7}}"#) == ["attach [1] resume 7"]
    )
    #expect(
      machine.frame(#"{"type":"resume","epoch":"other","channels":{"1":7}}"#) == [
        "attach [1] resume -1"
      ])
    #expect(machine.frame(#"{"type":"unsubscribe","channels":["1"]}"#) == ["leave [1]"])
  }

  @Test func `a room that became readable is followed, unless it was left`() {
    let machine = Machine().open([1])
    #expect(machine(.room(.becameReadable(RoomID(2)))) == ["attach [2] became"])
    #expect(machine(.room(.becameReadable(RoomID(2)))) == [])
    #expect(
      machine(.room(.admitted(Self.room(2), .became, seq: 4))) == ["type:channel,channel_id:2"])
    _ = machine.frame(#"{"type":"unsubscribe","channels":["2"]}"#)
    #expect(
      machine(.room(.left(RoomID(2), seq: 4, clientID: nil))) == ["type:unsubscribed,channel_id:2"])
    #expect(machine(.room(.becameReadable(RoomID(2)))) == [])
    #expect(machine.rooms == [1])
    // The room was revoked and given back, without an `unsubscribe` of the client.
    _ = machine(.room(.revoked(RoomID(1), channelID: "1", .revoked)))
    #expect(machine(.room(.becameReadable(RoomID(1)))) == ["attach [1] became"])
  }

  @Test func `a room that became readable and could not be read is looked for again`() {
    let machine = Machine().open([])
    _ = machine(.room(.becameReadable(RoomID(2))))
    #expect(machine(.room(.refused(RoomID(2), .became, .unavailable))) == [])
    #expect(machine.rooms == [])
    machine.view.now = machine.tickDue ?? 0
    #expect(machine(.tick).first == "list")
    #expect(machine(.listed([RoomID(2)], hasMore: false)) == ["attach [2] became"])
  }

  @Test func `new claims look for rooms once more where they change while that goes on`() {
    let machine = Machine().open([1])
    #expect(machine(.claimsChanged) == ["list"])
    #expect(machine(.claimsChanged) == [])
    #expect(
      machine(.listed([1, 2, 3].map { RoomID($0) }, hasMore: false)) == [
        "prepare [2, 3]", "attach [2, 3] became", "list",
      ])
    #expect(machine(.listed([], hasMore: false)) == [])
  }

  @Test func `a heartbeat names what moved, and no rooms while nothing may be said`() {
    let machine = Machine().open([1, 2])
    machine.view.heads = [(RoomID(1), 9), (RoomID(7), 3)]
    machine.view.now += 24_999
    #expect(machine(.tick) == [])
    machine.view.now += 1
    #expect(machine(.tick) == [#"heads ["1:9"]"#])
    machine.view.now += 25_000
    machine.view.mayServe = false
    #expect(machine(.tick) == ["answer type:heartbeat,channels:[]"])
  }

  @Test func `a message is written, or its fault is named`() {
    let machine = Machine().open([1])
    func say(_ data: String) -> [String] {
      machine.frame(#"{"type":"text","channel_id":"1","to":"*","data":"\#(data)","client_id":"c"}"#)
    }
    #expect(say("hello") == ["write hello to 1"])
    #expect(say("eleven byte") == ["answer type:error,code:message_too_large"])
    #expect(machine.frame("{}") == ["answer type:error,code:invalid_frame"])
    #expect(machine(.frame(nil)).count == 1)
  }
}
