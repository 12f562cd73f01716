internal import Basics
internal import Events

/// Keeps one socket's messages to a room in order while access to the room changes: what the log sent
/// back as stale is checked again before anything later goes in. A value, without clock or database.
struct Outbox {
  private struct Line {
    /// What the drafts in flight were checked to rest on.
    let access: Draft.Access
    var inFlight = 0
    /// Sent back by the log, in their order.
    var stale: [Draft] = []
    /// Came after those, and were not sent.
    var held: [Draft] = []
    var heldBytes = 0

    var isDone: Bool { inFlight == 0 && stale.isEmpty && held.isEmpty }

    mutating func decide(_ draft: Draft) -> Decision {
      if stale.isEmpty, held.isEmpty, access == draft.access {
        inFlight += 1
        return .send
      }
      guard held.count < Outbox.maximumHeld, heldBytes < Outbox.maximumHeldBytes else {
        return .refuse
      }
      held.append(draft)
      heldBytes += draft.cost
      return .hold
    }

    mutating func settle(_ stale: Draft?) {
      inFlight -= 1
      if let stale { self.stale.append(stale) }
    }
  }

  private var lines: [RoomID: Line] = [:]
  /// How often in a row a room's drafts were taken back, and none of them was answered otherwise.
  private var rounds: [RoomID: Int] = [:]

  /// Drafts of one room that are held, and their bytes; more are refused. A client may send 200 frames
  /// at once.
  private static let maximumHeld = 256
  private static let maximumHeldBytes = 4 * 1024 * 1024
  /// Who is stale so often in a row is told to try later: access changes all the time, or what this
  /// node knows of it is not what the database has.
  private static let maximumRounds = 16

  enum Decision: Equatable {
    case send
    /// Kept until the fate of earlier ones is known.
    case hold
    case refuse
  }

  /// What to do with a draft that was checked.
  mutating func decide(_ draft: Draft) -> Decision {
    guard let index = lines.index(forKey: draft.roomID) else {
      lines[draft.roomID] = Line(access: draft.access, inFlight: 1)
      return .send
    }
    // In its place: a copy of the line costs more than what is done to it.
    return lines.values[index].decide(draft)
  }

  /// The log has answered a draft, with the draft itself where it is stale. True where the room is now
  /// to be read, and `takeBack` to be asked for what is to be checked again.
  mutating func settled(_ room: RoomID, stale: Draft?) -> Bool {
    guard let index = lines.index(forKey: room), lines.values[index].inFlight > 0 else {
      return false
    }
    if stale == nil, !rounds.isEmpty { rounds[room] = nil }
    lines.values[index].settle(stale)
    guard lines.values[index].inFlight == 0 else { return false }
    guard lines.values[index].isDone else { return true }
    lines.remove(at: index)
    return false
  }

  /// What waits for another check, in its order; `isHopeless` where it is to be refused instead.
  mutating func drainForRecheck(_ room: RoomID) -> (drafts: [Draft], isHopeless: Bool) {
    guard let line = lines.removeValue(forKey: room) else { return ([], false) }
    let round = line.stale.isEmpty ? 0 : (rounds[room] ?? 0) + 1
    let isHopeless = round > Self.maximumRounds
    rounds[room] = round == 0 || isHopeless ? nil : round
    return (line.stale + line.held, isHopeless)
  }
}
