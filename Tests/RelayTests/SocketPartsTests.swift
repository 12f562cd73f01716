import Access
import Basics
import Chat
import Events
import TestSupport
import Testing

@testable import Relay

/// The value types that a socket consists of, each tested by itself.
@Suite struct SocketPartsTests {
  /// Calls `body`, which may call mutating functions. `#expect` cannot call them on the value that it inspects.
  private func result<Value>(_ body: () -> Value) -> Value { body() }

  // MARK: FrameIntake

  private func intake(burst: Int = 1000) -> FrameIntake {
    FrameIntake(FrameAllowance(Rate(burst: burst, perSecond: 10), now: 0))
  }

  private func wait(_ text: String, _ intake: inout FrameIntake, now: Int64 = 0) {
    Array(text.utf8).withUnsafeBytes { intake.wait($0, now: now) }
  }

  @Test func `reading stops when much waits, and goes on once`() {
    var intake = intake()
    var changes: [Bool?] = []
    for _ in 0..<513 {
      wait("x", &intake)
      if let change = intake.changeOfReading() { changes.append(change) }
    }
    #expect(changes == [false])
    for _ in 0..<513 {
      _ = intake.next()
      if let change = intake.changeOfReading() { changes.append(change) }
    }
    #expect(changes == [false, true])
    #expect(!intake.hasWaiting)
  }

  @Test func `a frame that ends the connection waits half a second, and the first counts`() {
    var intake = intake()
    intake.willEnd(JSONObject(), now: 100)
    intake.willEnd(nil, now: 200)
    #expect(result({ intake.takeEnding(now: 599) }) == nil)
    #expect(result({ intake.takeEnding(now: 600) })?.object == JSONObject())
    #expect(result({ intake.takeEnding(now: 10_000) }) == nil)
  }

  @Test func `a refusal of the user's share counts, and a share that came back ends the row`() {
    var intake = intake(burst: 2)
    var asked = 0
    func take(_ now: UInt64, _ isWithin: Bool = true) -> Bool {
      intake.take(now: now) {
        asked += 1
        return isWithin
      }
    }
    #expect(take(0) && !take(0, false))
    #expect(intake.refusals == 1)
    // The connection's own limit is used up, so the user's limit is not asked.
    #expect(!take(0))
    #expect(asked == 2 && intake.refusals == 2)
    #expect(take(1_000_000_000))
    #expect(intake.refusals == 1)
    #expect(take(5_000_000_000))
    #expect(intake.refusals == 0)
  }

  @Test func `what waits is looked at again, and nothing else is`() {
    var intake = intake()
    #expect(intake.due(now: 5) == nil)
    wait("x", &intake)
    #expect(intake.due(now: 5) == 255)
    intake.removeAll()
    #expect(intake.due(now: 5) == nil)
  }

  // MARK: CredentialWatch

  private func caller(_ low: UInt64, expiresAt: Int64?, session: UInt64? = nil) -> Caller {
    Caller(
      principal: Principal(
        userID: UserID(UUID(high: 9, low: low)),
        origin: session.map { .session(SessionID(UUID(high: 7, low: $0))) }
          ?? .foreignToken(entities: [], level: 0),
        expiresAt: expiresAt.map { Timestamp(milliseconds: $0) }),
      affiliations: session == nil ? nil : Affiliations(version: 1))
  }

  @Test func `the end is announced once for each credential, a minute before`() {
    var watch = CredentialWatch(caller(1, expiresAt: 100_000), now: 0)
    func expiry(_ time: Int64, _ mayAnnounce: Bool = true) -> CredentialWatch.Expiry {
      watch.expiry(at: Timestamp(milliseconds: time), mayAnnounce: mayAnnounce)
    }
    #expect(expiry(39_999) == .notYet)
    #expect(expiry(40_500, false) == .notYet)
    #expect(expiry(40_500) == .soon(inSeconds: 60))
    #expect(expiry(41_000) == .notYet)
    #expect(result({ watch.use(caller(1, expiresAt: 200_000)) }) == false)
    #expect(expiry(100_000) == .notYet)
    #expect(expiry(150_000) == .soon(inSeconds: 50))
    #expect(expiry(200_000) == .over)
  }

  @Test func `another user's token changes nothing, a cookie's socket keeps its life`() {
    var watch = CredentialWatch(caller(1, expiresAt: nil, session: 5), now: 0)
    guard case .otherUser = watch.judge(caller(2, expiresAt: 1)) else {
      Issue.record("took another user's token")
      return
    }
    guard case .renewed(let renewed) = watch.judge(caller(1, expiresAt: 1, session: 5)) else {
      Issue.record("not renewed")
      return
    }
    #expect(renewed.expiresAt == nil)
    guard case .renewed(let other) = watch.judge(caller(1, expiresAt: 1, session: 6)) else {
      Issue.record("not renewed")
      return
    }
    #expect(other.expiresAt == Timestamp(milliseconds: 1))
    #expect(watch.joined(Affiliations(version: 1)) == nil)
    let entity = OrganizationID(UUID(high: 7, low: 1))
    let new = watch.joined(Affiliations(version: 2, organizations: [entity: .teamMember]))
    #expect(result({ new.map { watch.use($0) } }) == true)
  }

  @Test func `its use is noted every 25 seconds`() {
    var watch = CredentialWatch(caller(1, expiresAt: nil), now: 0)
    #expect(watch.due(now: 0, at: Timestamp(milliseconds: 0)) == 25_000)
    #expect(!result({ watch.takeUseDue(now: 24_999) }))
    #expect(result({ watch.takeUseDue(now: 25_000) }))
    #expect(!result({ watch.takeUseDue(now: 49_999) }))
    var nobody = CredentialWatch(nil, now: 0)
    #expect(!result({ nobody.takeUseDue(now: 100_000) }))
  }

  // MARK: AckOrder

  private func entry(_ room: Int64, _ seq: Int64, bytes: Int = 1) -> Entry {
    Entry(
      roomID: RoomID(room), seq: seq, id: .make(), from: nil, channelID: "\(room)", ts: .now,
      clientID: "c", ordinal: seq,
      body: .message(
        MessageContent(type: .text, data: String(repeating: "x", count: bytes))))
  }

  @Test func `acks wait by room, in their order, and are counted in bytes`() {
    var acks = AckOrder()
    for seq in 1...3 { acks.hold(entry(1, Int64(seq), bytes: 1000)) }
    acks.hold(entry(2, 1))
    #expect(acks.bytes > 3000)
    #expect(result({ acks.release(RoomID(1)) }).map(\.seq) == [1, 2, 3])
    #expect(!acks.holds(RoomID(1)) && acks.holds(RoomID(2)))
    #expect(result({ acks.release(RoomID(2)) }).count == 1)
    #expect(acks.bytes == 0)
  }

  // MARK: ReplayQueue

  private func piece(_ room: Int64, _ after: Int64) -> ReplayQueue.Piece {
    ReplayQueue.Piece(
      replay: .init(room: RoomID(room), number: 1), after: after, through: after + 100)
  }

  private func words(_ step: ReplayQueue.Step?) -> String {
    switch step {
    case .taken(let replay)?: "taken \(replay.room)"
    case .read(let piece)?: "read \(piece.replay.room) \(piece.after) \(piece.through)"
    case nil: "nothing"
    }
  }

  @Test func `rooms are made whole one after the other`() {
    var queue = ReplayQueue()
    queue.add(piece(1, 0))
    queue.add(piece(2, 0))
    #expect(words(result({ queue.next() })) == "read 1 0 32")
    #expect(words(result({ queue.next() })) == "nothing")
    #expect(result({ queue.read((1...32).map { entry(1, $0) }) })?.count == 32)
    queue.sent(.init(room: RoomID(1), number: 1))
    #expect(words(result({ queue.next() })) == "taken 1")
    // The room that was sent last continues before the other room begins.
    queue.add(piece(1, 32))
    #expect(words(result({ queue.next() })).hasPrefix("read 1 32"))
    #expect(result({ queue.read([])?.count }) == 0)
    #expect(words(result({ queue.next() })).hasPrefix("read 2 0"))
    #expect(result({ queue.read(nil) == nil }))
    #expect(queue.isDone)
  }

  @Test func `a piece is 64 KiB, or one entry that is larger`() {
    var queue = ReplayQueue()
    queue.add(piece(1, 0))
    _ = queue.next()
    #expect(result({ queue.read((1...10).map { entry(1, $0, bytes: 20_000) }) })?.count == 3)
    queue.add(piece(1, 3))
    // The number of entries is estimated from the size of the last ones.
    #expect(words(result({ queue.next() })) == "read 1 3 6")
    #expect(result({ queue.read((1...2).map { entry(1, $0, bytes: 100_000) }) })?.count == 1)
  }

  // MARK: MovedHeads

  @Test(arguments: 1...50)
  func `every room that moved is a candidate, and few others`(seed: UInt64) {
    var random = SeededRandom(seed: seed)
    func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
    var moved = MovedHeads()
    var last: [RoomID: HeadMark] = [:]
    var marks: [(HeadMark, Set<RoomID>)] = []
    for _ in 0..<300 {
      switch pick(6) {
      case 0: moved.beginPeriod()
      case 1: marks.append((moved.mark, []))
      default:
        let room = RoomID(Int64(1 + pick(20)))
        last[room] = moved.move(room, last: last[room] ?? .beginning)
        for index in marks.indices { marks[index].1.insert(room) }
      }
    }
    for (mark, rooms) in marks {
      // Nil means that the mark is too old, so all rooms must be checked.
      guard let found = moved.candidates(since: mark, limit: 10_000) else { continue }
      #expect(rooms.isSubset(of: found))
      #expect(Set(found.filter { (last[$0] ?? .beginning) > mark }) == rooms)
      #expect(moved.candidates(since: mark, limit: found.count - 1) == nil || found.isEmpty)
    }
  }

  // MARK: PendingActions

  private func words(_ actions: [SocketAction]) -> [String] {
    actions.map { action in
      switch action {
      case .attach(let ids, _): "attach \(ids.map(\.value))"
      case .leave(let ids, _): "leave \(ids.map(\.value))"
      case .cork: "cork"
      default: "?"
      }
    }
  }

  @Test func `what names many rooms is done in parts, in order`() {
    let rooms = (1...5).map { RoomID($0) }
    var pending = PendingActions()
    let actions: [SocketAction] = [
      .cork, .attach(rooms[...], .listed), .leave(rooms[..<2], clientID: nil),
    ]
    #expect(PendingActions.size(of: actions) == 8)
    pending.append(actions)
    var steps: [[String]] = []
    while !pending.isEmpty {
      steps.append(words(pending.next(3)))
      // The queue is not empty before these actions were performed. More may be added meanwhile, and come after them.
      #expect(!pending.isEmpty)
      if steps.count == 1 { pending.append([.cork]) }
      pending.performed()
    }
    #expect(
      steps == [["cork", "attach [1, 2]"], ["attach [3, 4, 5]"], ["leave [1, 2]", "cork"]])
  }

  @Test func `nothing is left of what a socket had to do when it closes`() {
    var pending = PendingActions()
    pending.append([.attach([RoomID(1), RoomID(2)], .listed), .cork])
    _ = pending.next(1)
    pending.removeAll()
    pending.performed()
    #expect(pending.isEmpty)
    #expect(words(pending.next(9)) == [])
  }
}
