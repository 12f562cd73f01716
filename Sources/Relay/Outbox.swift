internal import Basics
internal import Events

/// Keeps one socket's messages to a room in order while access to the room changes: what the log sent
/// back as stale is checked again before anything later goes in. A value, without clock or database.
struct Outbox {
  private struct Line {
    /// The access version that the drafts in flight were checked under.
    let version: Int64
    var inFlight = 0
    /// Sent back by the log, in their order.
    var stale: [Draft] = []
    /// Came after those, and were not sent.
    var held: [Draft] = []
  }

  private var lines: [RoomID: Line] = [:]

  /// Drafts of one room that are held; more are refused.
  private static let maximumHeld = 64

  enum Decision: Equatable {
    case send
    /// Kept until the fate of earlier ones is known.
    case hold
    case refuse
  }

  /// What to do with a draft that was checked under `version`.
  mutating func decide(_ draft: Draft, version: Int64) -> Decision {
    guard var line = lines[draft.roomID] else {
      lines[draft.roomID] = Line(version: version, inFlight: 1)
      return .send
    }
    if line.stale.isEmpty, line.held.isEmpty, line.version == version {
      lines[draft.roomID]?.inFlight += 1
      return .send
    }
    guard line.held.count < Self.maximumHeld else { return .refuse }
    line.held.append(draft)
    lines[draft.roomID] = line
    return .hold
  }

  /// The log has answered a draft, with the draft itself where it is stale. True where the room is now
  /// to be read, and `takeBack` to be asked for what is to be checked again.
  mutating func settled(_ room: RoomID, stale: Draft?) -> Bool {
    guard var line = lines[room], line.inFlight > 0 else { return false }
    line.inFlight -= 1
    if let stale { line.stale.append(stale) }
    let isDone = line.inFlight == 0 && line.stale.isEmpty && line.held.isEmpty
    lines[room] = isDone ? nil : line
    return line.inFlight == 0 && !isDone
  }

  /// What waits for another check, in its order.
  mutating func takeBack(_ room: RoomID) -> [Draft] {
    guard let line = lines.removeValue(forKey: room) else { return [] }
    return line.stale + line.held
  }
}
