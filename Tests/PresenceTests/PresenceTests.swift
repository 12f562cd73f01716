import Accounts
import Basics
import Events
import TestSupport
import Testing

@testable import Presence

private let ada = UserID(UUID(high: 1, low: 1))
private let bob = UserID(UUID(high: 1, low: 2))
private let minute: Int64 = 60_000

/// Times of day are a million seconds ahead of the monotonic ones, so that no test takes one for the other.
private func at(_ now: Int64) -> Timestamp { Timestamp(milliseconds: 1_000_000_000 + now) }

@Suite struct LocalPresenceTests {
  private var local = LocalPresence()

  private mutating func status(_ user: UserID, at now: Int64) -> PresenceStatus {
    local.advance(to: now)
    return local.state(of: user)?.status ?? .offline
  }

  @Test mutating func `online, away and offline`() {
    #expect(status(ada, at: 0) == .offline)
    local.opened(ada, now: 1000, at: at(1000))
    #expect(local.takeChanged() == [PersonPresence(ada, .init(.online, lastSeenAt: at(1000)))])
    #expect(status(ada, at: 5 * minute) == .online)
    #expect(status(ada, at: 5 * minute + 2000) == .away)
    #expect(local.takeChanged() == [PersonPresence(ada, .init(.away, lastSeenAt: at(1000)))])
    local.active(ada, now: 6 * minute, at: at(6 * minute))
    #expect(
      local.takeChanged() == [PersonPresence(ada, .init(.online, lastSeenAt: at(6 * minute)))])
    local.closed(ada, now: 7 * minute, at: at(7 * minute))
    #expect(status(ada, at: 7 * minute + 29_000) == .online)
    #expect(local.takeChanged().isEmpty)
    #expect(status(ada, at: 7 * minute + 31_000) == .offline)
    #expect(
      local.takeChanged() == [PersonPresence(ada, .init(.offline, lastSeenAt: at(7 * minute)))])
    #expect(local.count == 0)
  }

  @Test mutating func `who comes back within 30 s was never away`() {
    for step in 0..<100 {
      local.opened(ada, now: Int64(step) * 20_000, at: at(0))
      local.closed(ada, now: Int64(step) * 20_000 + 1000, at: at(0))
      #expect(status(ada, at: Int64(step) * 20_000 + 15_000) == .online)
    }
    #expect(local.takeChanged().count == 1)
  }

  @Test mutating func `of several sockets the last one counts`() {
    local.opened(ada, now: 0, at: at(0))
    local.opened(ada, now: 0, at: at(0))
    local.closed(ada, now: 1000, at: at(1000))
    #expect(status(ada, at: 2 * minute) == .online)
    local.closed(ada, now: 2 * minute, at: at(2 * minute))
    // More was closed than opened: that changes nothing.
    local.closed(ada, now: 2 * minute + 20_000, at: at(0))
    #expect(status(ada, at: 2 * minute + 31_000) == .offline)
  }

  @Test mutating func `who is away stays so until the grace is over`() {
    local.opened(ada, now: 0, at: at(0))
    #expect(status(ada, at: 10 * minute) == .away)
    local.closed(ada, now: 10 * minute, at: at(0))
    #expect(status(ada, at: 10 * minute + 29_000) == .away)
    local.opened(ada, now: 10 * minute + 29_500, at: at(0))
    #expect(status(ada, at: 10 * minute + 29_600) == .online)
  }

  @Test mutating func `a process that stood still catches up`() {
    for low in 1...100 {
      local.opened(UserID(UUID(high: 2, low: UInt64(low))), now: Int64(low) * 1000, at: at(0))
    }
    _ = local.takeChanged()
    local.advance(to: 24 * 60 * minute)
    #expect(local.takeChanged().map(\.state.status) == Array(repeating: .away, count: 100))
  }

  /// The same as the rules say, computed anew from everything that happened.
  @Test(arguments: 0..<20) func `any history follows the rules`(seed: UInt64) {
    var random = SeededRandom(seed: seed)
    var local = LocalPresence()
    var (now, open, activeAt, closedAt) = (Int64(0), 0, Int64(0), Int64?.none)
    var before = PresenceStatus.offline
    var told = PresenceStatus.offline
    for _ in 0..<3000 {
      now += Int64(random.next() % 40_000)
      local.advance(to: now)
      // The rules, without looking into the value: with a second for what happens on its own.
      if open > 0 {
        if now < activeAt + 300_000 { before = .online }
        if now > activeAt + 301_000 { before = .away }
      } else if let closed = closedAt, now > closed + 31_000 {
        before = .offline
      }
      let isSettled =
        open > 0
        ? !(activeAt + 300_000...activeAt + 301_000).contains(now)
        : closedAt.map { !($0 + 30_000...$0 + 31_000).contains(now) } ?? true
      let status = local.state(of: ada)?.status ?? .offline
      if isSettled { #expect(status == before, "at \(now), \(open) open") }
      before = status
      for person in local.takeChanged() { told = person.state.status }
      #expect(told == status)
      switch random.next() % 6 {
      case 0, 1:
        local.opened(ada, now: now, at: at(now))
        open += 1
        (activeAt, before) = (now, .online)
      case 2, 3:
        local.closed(ada, now: now, at: at(now))
        if open == 1 { closedAt = now }
        open = max(0, open - 1)
      case 4:
        local.active(ada, now: now, at: at(now))
        if open > 0 { (activeAt, before) = (now, .online) }
      default: now += Int64(random.next() % 600_000)
      }
      for person in local.takeChanged() { told = person.state.status }
    }
  }
}

@Suite struct PresenceTableTests {
  /// Nodes that hear each other's signals, unless a test loses some.
  private struct Nodes {
    var tables = (1...3).map { PresenceTable(node: NodeID($0), isShared: true) }
    var now: Int64 = 0
    var sent = 0
    var silent: Set<Int> = []

    /// Passes a second. Returns what the watchers of each node are told. `loses` tells which signals are lost.
    @discardableResult
    mutating func second(_ loses: (Signal) -> Bool = { _ in false }) -> [[PersonPresence]] {
      now += 1000
      var changes: [[PersonPresence]] = []
      for index in tables.indices where !silent.contains(index) {
        let tick = tables[index].tick(now: now)
        changes.append(tick.changes)
        sent += tick.signals.count
        for signal in tick.signals where !loses(signal) {
          for other in tables.indices where other != index {
            tables[other].take(signal, now: now)
          }
        }
      }
      return changes
    }

    mutating func watch(_ user: UserID, on node: Int, hides: Bool = false) -> PresenceState {
      tables[node].watch(
        [user: PresenceFacts(hidesPresence: hides, lastSeenAt: at(1))], readAt: now)[0].state
    }
  }

  private var nodes = Nodes()

  @Test mutating func `a watcher is told what changes, once`() {
    #expect(nodes.watch(ada, on: 0) == PresenceState(.offline, lastSeenAt: at(1)))
    nodes.second()
    nodes.tables[0].local.opened(ada, now: nodes.now, at: at(nodes.now))
    let online = PersonPresence(ada, PresenceState(.online, lastSeenAt: at(nodes.now)))
    #expect(nodes.second()[0] == [online])
    #expect(nodes.second()[0].isEmpty)
    #expect(nodes.watch(ada, on: 0).status == .online)
    nodes.tables[0].unwatch([ada])
    nodes.tables[0].local.closed(ada, now: nodes.now, at: at(nodes.now))
    var told: [PersonPresence] = []
    for _ in 0..<40 { told += nodes.second()[0] }
    #expect(told.map(\.state.status) == [.offline])
    // Nobody watches any more, so nobody is told.
    nodes.tables[0].unwatch([ada])
    nodes.tables[0].local.opened(ada, now: nodes.now, at: at(nodes.now))
    #expect(nodes.second()[0].isEmpty)
  }

  @Test mutating func `people on other nodes`() {
    nodes.tables[1].local.opened(ada, now: 0, at: at(0))
    for _ in 0..<3 { nodes.second() }
    #expect(nodes.watch(ada, on: 0).status == .online)
    #expect(nodes.watch(ada, on: 2).status == .online)
    // They move to another node: nobody notices.
    nodes.tables[2].local.opened(ada, now: nodes.now, at: at(nodes.now))
    nodes.tables[1].local.closed(ada, now: nodes.now, at: at(nodes.now))
    for _ in 0..<60 { #expect(nodes.second().flatMap(\.self) == []) }
    nodes.tables[2].local.closed(ada, now: nodes.now, at: at(nodes.now))
    var told: [PersonPresence] = []
    for _ in 0..<60 { told += nodes.second()[0] }
    #expect(told.map(\.state.status) == [.offline])
  }

  @Test mutating func `lost reports are noticed`() {
    #expect(nodes.watch(ada, on: 0).status == .offline)
    for _ in 0..<10 { nodes.second() }
    nodes.tables[1].local.opened(ada, now: nodes.now, at: at(nodes.now))
    // Whatever node 1 says at first is lost.
    for _ in 0..<3 {
      let changes = nodes.second { PresenceReport($0)?.node == NodeID(2) }
      #expect(changes[0].isEmpty)
    }
    var told: [PersonPresence] = []
    for _ in 0..<15 { told += nodes.second()[0] }
    #expect(told.map(\.state.status) == [.online])
  }

  @Test mutating func `the people of a node that is gone are offline`() {
    nodes.tables[1].local.opened(ada, now: 0, at: at(7))
    for _ in 0..<3 { nodes.second() }
    #expect(nodes.watch(ada, on: 0).status == .online)
    nodes.silent = [1]
    var told: [PersonPresence] = []
    for second in 0..<40 {
      told += nodes.second()[0]
      if second < 20 { #expect(told.isEmpty) }
    }
    #expect(told == [PersonPresence(ada, PresenceState(.offline, lastSeenAt: at(7)))])
    // It starts again, with nobody.
    nodes.silent = []
    nodes.tables[1] = PresenceTable(node: NodeID(22), isShared: true)
    for _ in 0..<5 { #expect(nodes.second()[0].isEmpty) }
  }

  @Test mutating func `very many people in several reports`() {
    let people = (1...2000).map { UserID(UUID(high: 3, low: UInt64($0))) }
    for user in people { nodes.tables[1].local.opened(user, now: 0, at: at(0)) }
    for _ in 0..<3 { nodes.second() }
    for user in people { #expect(nodes.watch(user, on: 0).status == .online) }
    // A second without changes costs nothing.
    let sent = nodes.sent
    for _ in 0..<4 { nodes.second() }
    #expect(nodes.sent - sent <= 3)
  }

  @Test mutating func `who hides is offline to all`() {
    nodes.tables[0].local.opened(ada, now: 0, at: at(0))
    nodes.tables[0].local.opened(bob, now: 0, at: at(0))
    nodes.second()
    #expect(nodes.watch(ada, on: 0, hides: true) == .unknown)
    #expect(nodes.watch(bob, on: 0).status == .online)
    let hides = SettingsSignal(user: bob, settings: Array(#"{"presence":"offline"}"#.utf8)).signal
    let read = nodes.now - 1
    nodes.tables[0].take(hides, now: nodes.now)
    #expect(nodes.second()[0] == [PersonPresence(bob, .unknown)])
    let shows = SettingsSignal(user: ada, settings: Array(#"{"presence":"auto"}"#.utf8)).signal
    nodes.tables[0].take(shows, now: nodes.now)
    #expect(nodes.second()[0].map(\.state.status) == [.online])
    // What was read before somebody hid does not bring them back.
    #expect(
      nodes.tables[0].watch([bob: PresenceFacts()], readAt: read).map(\.state) == [.unknown])
    #expect(
      nodes.tables[0].watch([bob: PresenceFacts()], readAt: nodes.now + 1)[0].state.status
        == .online)
  }

  @Test func `signals read back as they were written`() {
    let report = PresenceReport(
      node: NodeID(7), number: .max, isBeginning: true,
      people: [
        PersonPresence(ada, PresenceState(.away, lastSeenAt: at(5))),
        PersonPresence(bob, PresenceState(.offline)),
      ])
    #expect(PresenceReport(report.signal) == report)
    #expect(
      PresenceRequest(PresenceRequest(to: NodeID(9)).signal) == PresenceRequest(to: NodeID(9)))
    // Bytes of any other length or content are refused.
    for count in 0..<report.signal.content.count {
      let cut = Signal(
        to: .everyone, kind: "presence", content: Array(report.signal.content.prefix(count)))
      let isWhole = count >= 17 && (count - 17) % 25 == 0
      #expect((PresenceReport(cut) != nil) == isWhole)
    }
  }
}
