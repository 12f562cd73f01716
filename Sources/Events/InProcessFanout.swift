package import Basics
internal import Synchronization

/// A fan-out between nodes in one process, without loss. A server that runs alone has a bus of its own, without other
/// nodes.
package final class InProcessFanout: Fanout {
  /// The connection between the nodes of a process.
  package final class Bus: Sendable {
    fileprivate struct Member {
      let number: Int
      weak var fanout: InProcessFanout?
    }
    fileprivate let members = Mutex<[Member]>([])

    private let count = Atomic<Int>(0)

    package init() {}

    fileprivate func number() -> Int { count.wrappingAdd(1, ordering: .relaxed).newValue }

    fileprivate func others(than number: Int) -> [InProcessFanout] {
      members.withLock { members in
        members.compactMap { $0.number == number ? nil : $0.fanout }
      }
    }
  }

  // A struct, because a closure that is stored directly in a Mutex is wrapped once more at each access.
  private struct State {
    var receive: (@Sendable ([Event]) -> Void)?
    /// The number of `follow` calls for each room that were not undone.
    var counts: [RoomID: Int] = [:]
  }

  private let bus: Bus
  private let number: Int
  private let state = Mutex(State())

  package init(on bus: Bus = Bus()) {
    self.bus = bus
    number = bus.number()
    bus.members.withLock { $0.append(Bus.Member(number: number, fanout: self)) }
  }

  package func start(_ receive: @escaping @Sendable ([Event]) -> Void) {
    state.withLock { $0.receive = receive }
  }

  package func publish(_ events: [Event]) {
    guard state.withLock({ $0.receive != nil }) else { return }
    for other in bus.others(than: number) { other.take(events) }
  }

  private func take(_ events: [Event]) {
    let (receive, wanted) = state.withLock { state in
      (
        state.receive,
        events.filter { event in
          guard event.isShared else { return false }
          guard let room = event.room else { return true }
          return state.counts[room] != nil
        }
      )
    }
    if !wanted.isEmpty { receive?(wanted) }
  }

  package func follow(_ rooms: [RoomID]) {
    state.withLock { state in for room in rooms { state.counts[room, default: 0] += 1 } }
  }

  package func unfollow(_ rooms: [RoomID]) {
    state.withLock { state in
      for room in rooms {
        guard let count = state.counts[room] else {
          preconditionFailure("a room was unfollowed that was not followed")
        }
        state.counts[room] = count > 1 ? count - 1 : nil
      }
    }
  }

  package func following(_ rooms: [RoomID]) async {}
  package func epochChanged(to epoch: String) {}

  package func stop() async {
    bus.members.withLock { members in members.removeAll { $0.number == number } }
    state.withLock { $0.receive = nil }
  }
}
