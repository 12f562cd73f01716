import Basics
import Events
import TestSupport
import Testing

@testable import Relay

@Suite struct RoomReplaysTests {
  private static func entry(_ seq: Int64, bytes: Int = 1) -> Entry {
    Entry(
      roomID: RoomID(1), seq: seq, id: .make(), from: UserID(UUID(high: 1, low: 1)), channelID: "1",
      ts: .now, clientID: nil, ordinal: seq,
      body: .message(MessageContent(type: .text, data: String(repeating: "x", count: bytes))))
  }

  private func words(_ step: RoomReplays.Step?) -> String {
    switch step {
    case .read(let after, let through)?: "read \(after) \(through)"
    case .end(let entries)?: "end \(entries.map(\.seq))"
    case nil: "nothing"
    }
  }

  /// Publishes, reads and takes in random order, and checks what each subscriber was sent.
  @Test(arguments: 1...UInt64(200))
  func `each is sent every entry once and in order`(seed: UInt64) {
    var random = SeededRandom(seed: seed)
    func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
    var replays = RoomReplays()
    var log = (1...Int64(5)).map { Self.entry($0) }
    var asked: [UInt64: (number: Int, after: Int64, through: Int64)] = [:]
    var sent: [UInt64: [Int64]] = [:]
    var didBegin: [UInt64: (last: Int64, promised: Int64)] = [:]
    var whole: [UInt64: Int64] = [:]

    func next(_ id: UInt64) {
      let step = replays.next(id, lastSeq: Int64(log.count))
      switch step {
      case .read(let after, let through)?: asked[id] = (asked[id]?.number ?? 0, after, through)
      case .end(let later)?:
        sent[id, default: []] += later.map(\.seq)
        #expect(sent[id] ?? [] == Array((didBegin[id]?.last ?? 0) + 1..<Int64(log.count) + 1))
        #expect(whole[id] == didBegin[id]?.promised)
        #expect(!replays.contains(id))
        asked[id] = nil
      case nil: Issue.record("\(id) is in no replay")
      }
    }

    func read(_ id: UInt64) {
      guard let (number, after, through) = asked[id] else { return }
      #expect(replays.isCurrent(number, of: id))
      let end = min(through, after + 1 + Int64(pick(3)))
      let piece = Array(log[Int(after)..<Int(end)])
      guard let progress = replays.take(piece, for: id) else {
        Issue.record("\(piece.map(\.seq)) was asked for")
        return
      }
      sent[id, default: []] += piece.map(\.seq)
      if let promised = progress.promised {
        #expect(whole[id] == nil && promised <= end)
        whole[id] = promised
      }
      next(id)
    }

    for _ in 0..<300 {
      let id = UInt64(pick(4))
      switch pick(8) {
      case 0, 1, 2:
        log.append(Self.entry(Int64(log.count + 1), bytes: pick(10) == 0 ? 40_000 : 10))
        replays.keep(log[log.count - 1])
      case 3 where !replays.contains(id):
        let last = Int64(pick(log.count))
        let head = Int64(log.count)
        (sent[id], whole[id], didBegin[id]) = ([], nil, (last, head))
        asked[id] = (replays.begin(id, after: last, through: head), last, head)
      case 4 where pick(20) == 0:
        replays.end(id)
        asked[id] = nil
      default: read(id)
      }
    }
    for id in replays.subscribers.sorted() { while replays.contains(id) { read(id) } }
    #expect(replays.subscribers.isEmpty)
  }

  @Test func `what comes behind the end of the log is kept for all, and not without end`() {
    var replays = RoomReplays()
    for id: UInt64 in 1...3 { _ = replays.begin(id, after: 0, through: 1) }
    for id: UInt64 in 1...3 { #expect(replays.take([Self.entry(1)], for: id)?.promised == 1) }
    for seq: Int64 in 2...3 { replays.keep(Self.entry(seq)) }
    #expect(words(replays.next(1, lastSeq: 3)) == "end [2, 3]")
    for seq: Int64 in 4...6 { replays.keep(Self.entry(seq, bytes: 40_000)) }
    // Entries 2 to 5 exceeded the limit and are not kept any more. Only 6 is.
    #expect(words(replays.next(2, lastSeq: 6)) == "read 1 6")
    // Entry 2 is the next one, so a piece that begins with 3 is refused.
    let early = replays.take([Self.entry(3)], for: 2)
    #expect(early == nil)
    #expect(replays.take((2...5).map { Self.entry($0) }, for: 2)?.promised == nil)
    #expect(words(replays.next(2, lastSeq: 6)) == "read 5 6")
    #expect(words(replays.next(3, lastSeq: 6)) == "read 1 6")
    replays.endAll()
    #expect(words(replays.next(3, lastSeq: 6)) == "nothing")
  }

  // MARK: ReplayReads

  @Test func `pieces are read some at a time, first come first served`() {
    var reads = ReplayReads()
    reads.maximum = 2
    func begin() -> [UInt64] {
      var didBegin: [UInt64] = []
      while let (_, number) = reads.next() {
        didBegin.append(number)
        // A subscriber that has left takes no place.
        if number != 2 { reads.didBegin() }
      }
      return didBegin
    }
    for number: UInt64 in 1...5 {
      let replay = ReplayQueue.Replay(room: RoomID(1), number: Int(number))
      reads.add(ReplayQueue.Piece(replay: replay, after: 0, through: 1), for: number)
    }
    #expect(begin() == [1, 2, 3])
    #expect(begin() == [])
    reads.ended()
    #expect(begin() == [4])
    reads.forgetAll()
    #expect(begin() == [])
  }
}
