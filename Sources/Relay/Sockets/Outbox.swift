internal import Basics
internal import Events

/// The unsettled messages of one socket, kept in order for each room while access to the room changes. Drafts that the
/// log returns as stale are checked again before any later draft is submitted. A value, without clock or database.
struct Outbox {
  private struct Line {
    /// The versions on which the permission of the drafts in flight is based.
    let access: Draft.Access
    var inFlight = 0
    /// Drafts that the log returned, in order.
    var stale: [Draft] = []
    /// Later drafts, which were not submitted yet.
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
  /// How many times in a row each room's drafts were returned as stale and checked again, with no other answer in
  /// between.
  private var rounds: [RoomID: Int] = [:]

  /// The maximum number of drafts held for one room, and their maximum size in bytes. Further drafts are refused. By
  /// default a client may send 200 frames at once.
  private static let maximumHeld = 256
  private static let maximumHeldBytes = 4 * 1024 * 1024
  /// How many times in a row drafts are checked again. After that the client is told to retry later: either access
  /// changes all the time, or this node's knowledge differs from the database.
  private static let maximumRounds = 16

  enum Decision: Equatable {
    case send
    /// Hold the draft until the outcome of earlier ones is known.
    case hold
    case refuse
  }

  /// Decides what happens to a draft whose access was checked.
  mutating func decide(_ draft: Draft) -> Decision {
    guard let index = lines.index(forKey: draft.roomID) else {
      lines[draft.roomID] = Line(access: draft.access, inFlight: 1)
      return .send
    }
    // In place, because copying the line costs more than the change.
    return lines.values[index].decide(draft)
  }

  /// Notes that the log has answered a draft. `stale` is the draft itself if its access must be checked again,
  /// otherwise nil. Returns true if the room must be read now and `drainForRecheck` called afterwards.
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

  /// Removes and returns the drafts that wait to be checked again, in order. If `isHopeless`, they must be refused
  /// instead.
  mutating func drainForRecheck(_ room: RoomID) -> (drafts: [Draft], isHopeless: Bool) {
    guard let line = lines.removeValue(forKey: room) else { return ([], false) }
    let round = line.stale.isEmpty ? 0 : (rounds[room] ?? 0) + 1
    let isHopeless = round > Self.maximumRounds
    rounds[room] = round == 0 || isHopeless ? nil : round
    return (line.stale + line.held, isHopeless)
  }
}
