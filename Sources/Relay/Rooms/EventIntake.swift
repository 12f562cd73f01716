internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Live

/// Holds back what one event loop must not carry out yet: entries and receipts while its gate is closed,
/// and those of a room while that room's rules are being read. On the loop only.
///
/// What takes access away never comes here: it counts at once. That a message was not stored is told at
/// once, too, unless something of its room waits.
final class EventIntake {
  /// Called with an entry or a receipt whose turn has come.
  var perform: (Event) -> Void = { _ in }
  /// Called where entries of a room were dropped; the log has them, up to this seq.
  var headKnown: (RoomID, Int64) -> Void = { _, _ in }
  /// Called when the gate has opened and what waited is carried out.
  var opened: () -> Void = {}

  private let gate: DeliveryGate
  // Unowned: the feeds own all three.
  private unowned let rooms: Reloads<RoomID, Room>
  private unowned let accounts: Reloads<UserID, Affiliations>
  /// Whether the gate was closed at the last look. It counts as closed until `opened` was called, so that
  /// nothing overtakes what waits.
  private var wasClosed = false
  /// A comparison whose findings are still being read: when it began, and what of it has not been read.
  private var comparison: (begin: Int64, rooms: Set<RoomID>, accounts: Set<UserID>)?
  private var held = HeldEvents()
  private var heldByRoom: [RoomID: HeldEvents] = [:]

  /// `rooms` and `accounts` as they are read again: while some are, the gate stays closed.
  init(
    gate: DeliveryGate, rooms: Reloads<RoomID, Room>, accounts: Reloads<UserID, Affiliations>
  ) {
    self.gate = gate
    self.rooms = rooms
    self.accounts = accounts
  }

  /// Whether clients' frames may be served: not while this node does not know who may do what.
  var isOpen: Bool {
    if !gate.isOpen { wasClosed = true }
    return !wasClosed
  }

  /// Takes an entry, with its origin where that is a socket of this loop, or a receipt for one.
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

  /// A comparison that began at this moment has put all that it found before this.
  func compared(at begin: Int64) {
    // Looked at before it opens: what waits must be let go.
    _ = isOpen
    // Its findings are not waited for where those of an earlier one still are: another comes soon. Nor are
    // changes that came later, or a stream of them would keep the gate closed.
    if comparison == nil { comparison = (begin, rooms.all, accounts.all) }
    openIfKnown()
  }

  /// What the account belongs to is known again.
  func release(_ account: UserID) {
    comparison?.accounts.remove(account)
    openIfKnown()
  }

  /// Opens the gate once all that the comparison found has been read.
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

  /// The room's rules are known again.
  func release(_ room: RoomID) {
    if let waiting = heldByRoom.removeValue(forKey: room) { release(waiting) }
    comparison?.rooms.remove(room)
    openIfKnown()
  }

  /// What waits is of a log that is no more.
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
