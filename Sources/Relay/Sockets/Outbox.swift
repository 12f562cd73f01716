internal import Basics
internal import Events

/// Keeps one socket's messages to a room in order while access to the room changes: drafts that the log returns as
/// stale are checked again before any later draft is submitted. A value, without clock or database.
struct Outbox {
  private struct Line {
    /// The versions on which the check of the drafts in flight is based.
    let access: Draft.Access
    var inFlight = 0
    /// Drafts that the log returned, in order.
    var stale: [Draft] = []
    /// Later drafts, which were not submitted.
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
  /// How many times in a row a room's drafts were returned as stale, with no other answer in between.
  private var rounds: [RoomID: Int] = [:]

  /// The most drafts that are held for one room, and the most bytes. More are refused. A client may send 200 frames
  /// at once.
  private static let maximumHeld = 256
  private static let maximumHeldBytes = 4 * 1024 * 1024
  /// After this many stale answers in a row the client is told to retry later: either access changes all the time, or
  /// this node's knowledge differs from the database.
  private static let maximumRounds = 16

  enum Decision: Equatable {
    case send
    /// Hold the draft until the fate of earlier ones is known.
    case hold
    case refuse
  }

  /// Decides about a draft that was checked.
  mutating func decide(_ draft: Draft) -> Decision {
    guard let index = lines.index(forKey: draft.roomID) else {
      lines[draft.roomID] = Line(access: draft.access, inFlight: 1)
      return .send
    }
    // In place: copying the line costs more than the change.
    return lines.values[index].decide(draft)
  }

  /// The log has answered a draft; `stale` is the draft itself if its access must be checked again. Returns true if
  /// the room must be read now, followed by a call of `drainForRecheck`.
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

  /// The drafts that wait to be checked again, in order. `isHopeless` means that they must be refused instead.
  mutating func drainForRecheck(_ room: RoomID) -> (drafts: [Draft], isHopeless: Bool) {
    guard let line = lines.removeValue(forKey: room) else { return ([], false) }
    let round = line.stale.isEmpty ? 0 : (rounds[room] ?? 0) + 1
    let isHopeless = round > Self.maximumRounds
    rounds[room] = round == 0 || isHopeless ? nil : round
    return (line.stale + line.held, isHopeless)
  }
}
