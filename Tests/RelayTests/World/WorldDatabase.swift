import Access
import Basics
import Chat
import Events
import TestSupport

@testable import Relay

/// The contents of a simulated server: rooms, their logs, and memberships. What clients have received is compared with
/// it.
final class WorldDatabase {
  struct StoredRoom {
    var room: Room
    /// The rules of every version so far, by version.
    var history: [Int64: [RoomRule]]
    var entries: [Entry] = []
    var isDeleted = false
    var lastSeq: Int64 { Int64(entries.count) }
  }

  private(set) var rooms: [RoomID: StoredRoom] = [:]
  private(set) var affiliations: [UserID: Affiliations] = [:]
  /// All subjects that each user ever belonged to.
  private(set) var everOf: [UserID: Set<UUID>] = [:]
  private var nextID: UInt64 = 1

  static let owner = UserID(UUID(high: 1, low: 1))

  init(rooms count: Int) {
    for number in 1...count {
      let id = RoomID(Int64(number))
      rooms[id] = StoredRoom(room: Self.room(id, [], version: 1), history: [1: []])
    }
  }

  private static func room(_ id: RoomID, _ rules: [RoomRule], version: Int64) -> Room {
    Room(
      id: id,
      Room.Properties(
        name: "r", levelAdmin: 9, ownerUser: owner, createdAt: Timestamp(milliseconds: 0)),
      rules: rules, accessVersion: version)
  }

  /// Returns the present room; nil if it was deleted.
  func room(_ id: RoomID) -> Room? { rooms[id].flatMap { $0.isDeleted ? nil : $0.room } }

  /// Sets a subject's letters, or removes its rule if `permissions` is nil. Returns the room's new version; nil if the
  /// room was deleted.
  func setRule(_ subject: UUID, _ permissions: Permissions?, in id: RoomID) -> Int64? {
    guard let old = room(id) else { return nil }
    var rules = old.rules.filter { $0.subject != subject }
    if let permissions {
      rules.append(
        RoomRule(subject: subject, permissions: permissions, level: 0, isAccepted: true))
    }
    let version = old.accessVersion + 1
    rooms[id]?.room = Self.room(id, rules, version: version)
    rooms[id]?.history[version] = rules
    return version
  }

  func delete(_ id: RoomID) -> Int64? {
    guard let old = room(id) else { return nil }
    rooms[id]?.isDeleted = true
    return old.accessVersion + 1
  }

  /// Sets the account's memberships. Returns them with their version.
  func setAffiliations(_ user: UserID, _ organizations: [UUID]) -> Affiliations {
    let version = (affiliations[user]?.version ?? 0) + 1
    let new = Affiliations(
      version: version,
      organizations: Dictionary(
        uniqueKeysWithValues: organizations.map { (OrganizationID($0), .teamMember) }))
    affiliations[user] = new
    noteEntities(organizations, of: user)
    return new
  }

  func noteEntities(_ entities: [UUID], of user: UserID) {
    everOf[user, default: []].formUnion(entities)
  }

  /// Whether any version of the rules since this one allowed the user to read, with any subject that the user ever
  /// belonged to.
  func mayEverRead(_ user: UserID, _ room: RoomID, since version: Int64) -> Bool {
    rooms[room]?.history.contains { known, rules in
      known >= version
        && rules.contains { rule in
          rule.permissions.contains(.read)
            && (rule.subject == user.uuid || everOf[user]?.contains(rule.subject) == true)
        }
    } ?? false
  }

  // MARK: The log

  /// Commits a draft as the log does: once for each client key, and only if its permission still holds. Returns the
  /// entry or the receipt.
  func commit(_ draft: Draft) -> Event {
    guard let room = room(draft.roomID) else {
      return .receipt(Receipt(draft, .denied(.roomNotFound)))
    }
    let known = rooms[draft.roomID]?.entries.first {
      $0.clientID != nil && $0.clientID == draft.clientID && $0.from == draft.from
    }
    if let known {
      return .receipt(Receipt(draft, known.body == draft.body ? .known(known) : .conflict))
    }
    switch draft.access {
    case .denied(let code): return .receipt(Receipt(draft, .denied(code)))
    case .granted(let grant):
      let account = draft.from.flatMap { affiliations[$0]?.version }
      guard grant.accessVersion == room.accessVersion,
        grant.affiliationsVersion.map({ $0 == account }) ?? true
      else { return .receipt(Receipt(draft, .stale)) }
    case .decided: break
    }
    return .entry(
      append(
        to: draft.roomID, from: draft.from, clientID: draft.clientID, body: draft.body,
        id: draft.id),
      origin: draft.origin)
  }

  /// Appends an entry to a room's log. With the default arguments it is a message from another node.
  func append(
    to id: RoomID, from: UserID? = nil, clientID: String? = nil, body: EntryBody? = nil,
    id entryID: MessageID? = nil
  ) -> Entry {
    let seq = (rooms[id]?.lastSeq ?? 0) + 1
    nextID += 1
    let entry = Entry(
      roomID: id, seq: seq, id: entryID ?? MessageID(UUID(high: 5, low: nextID)),
      from: from ?? Self.owner, channelID: id.description,
      ts: Timestamp(milliseconds: Int64(nextID)), clientID: clientID, ordinal: seq,
      body: body
        ?? .message(MessageContent(type: .text, data: "elsewhere \(nextID)")))
    rooms[id]?.entries.append(entry)
    return entry
  }

  func entries(of id: RoomID, after: Int64, through: Int64) -> [Entry] {
    guard let stored = rooms[id] else { return [] }
    let end = min(through, stored.lastSeq)
    return after < end ? Array(stored.entries[Int(after)..<Int(end)]) : []
  }
}
