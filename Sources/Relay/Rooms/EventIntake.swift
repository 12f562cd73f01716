internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Live

/// Holds back events that one event loop must not deliver yet: entries and receipts while the loop's gate is closed,
/// and those of a room while the room's rules are being read. Used on the loop only.
///
/// Events that take access away never come here, because they count at once. A failed message is reported at once
/// too, unless something of its room is being held.
final class EventIntake {
  /// Called with each entry or receipt that may be delivered now.
  var perform: (Event) -> Void = { _ in }
  /// Called with a room and a seq if held entries of the room were dropped. The log has them, up to this seq.
  var headKnown: (RoomID, Int64) -> Void = { _, _ in }
  /// Called when the gate has opened, and what was held has been delivered or waits for its room's rules.
  var opened: () -> Void = {}

  private let gate: DeliveryGate
  // Unowned: `RoomFeeds` owns all three.
  private unowned let rooms: Reloads<RoomID, Room>
  private unowned let accounts: Reloads<UserID, Affiliations>
  /// Whether the gate counts as closed. Once it was found closed, it does until the findings of a comparison have been
  /// read, so that nothing is delivered by outdated rules.
  private var wasClosed = false
  /// A comparison with the database whose findings are still being read: when it began, and what remains to be read.
  private var comparison: (begin: Int64, rooms: Set<RoomID>, accounts: Set<UserID>)?
  private var held = HeldEvents()
  private var heldByRoom: [RoomID: HeldEvents] = [:]

  /// `rooms` and `accounts` are being read again. A closed gate opens only when those of them that were being read at
  /// the time of the comparison have been read.
  init(
    gate: DeliveryGate, rooms: Reloads<RoomID, Room>, accounts: Reloads<UserID, Affiliations>
  ) {
    self.gate = gate
    self.rooms = rooms
    self.accounts = accounts
  }

  /// Whether clients' frames may be served. They may not while this node does not know who may do what.
  var isOpen: Bool {
    if !gate.isOpen { wasClosed = true }
    return !wasClosed
  }

  /// Takes an entry, with its origin if that is a socket of this loop, or a receipt for such a socket.
  func take(_ event: Event) {
    if case .receipt(let receipt) = event, case .unavailable = receipt.outcome,
      !holdsAnything(of: receipt.draft.roomID)
    {
      perform(event)
    } else if !isOpen {
      held.append(event)
    } else if let room = Self.room(of: event), rooms.contains(room) {
      heldByRoom[room, default: HeldEvents()].append(event)
    } else {
      perform(event)
    }
  }

  /// Whether an entry of the room need not wait here.
  func mayPass(_ room: RoomID) -> Bool { isOpen && (rooms.isEmpty || !rooms.contains(room)) }

  private func holdsAnything(of room: RoomID) -> Bool {
    heldByRoom[room] != nil || held.events.contains { Self.room(of: $0) == room }
  }

  private static func room(of event: Event) -> RoomID? {
    switch event {
    case .entry(let entry, _): entry.roomID
    case .receipt(let receipt): receipt.draft.roomID
    default: nil
    }
  }

  /// Notes that the comparison that began at this moment is complete: its findings precede this call.
  func compared(at begin: Int64) {
    // Looked at before the gate opens, so that what is held is released.
    _ = isOpen
    // While findings of an earlier comparison are being read, those of this one are not waited for: another one comes
    // soon. Changes that come later are not waited for either. A steady stream of them would keep the gate closed.
    if comparison == nil { comparison = (begin, rooms.all, accounts.all) }
    openIfKnown()
  }

  /// Notes that the account's memberships are known again.
  func release(_ account: UserID) {
    comparison?.accounts.remove(account)
    openIfKnown()
  }

  /// Opens the gate once all findings of the comparison have been read.
  private func openIfKnown() {
    guard let (begin, rooms, accounts) = comparison, rooms.isEmpty, accounts.isEmpty else {
      return
    }
    comparison = nil
    gate.compared(at: begin)
    guard wasClosed, gate.isOpen else { return }
    wasClosed = false
    let waiting = held
    held = HeldEvents()
    release(waiting)
    opened()
  }

  /// Delivers what waited for the room's rules.
  func release(_ room: RoomID) {
    if let waiting = heldByRoom.removeValue(forKey: room) { release(waiting) }
    comparison?.rooms.remove(room)
    openIfKnown()
  }

  /// Drops everything that is held, because it belongs to a log that does not exist any more.
  func forgetAll() {
    held = HeldEvents()
    heldByRoom = [:]
    comparison = nil
  }

  private func release(_ held: HeldEvents) {
    for event in held.events { take(event) }
    for (room, seq) in held.heads.sorted(by: { $0.key < $1.key }) { headKnown(room, seq) }
  }
}
