internal import Basics
internal import Events

/// The held acknowledgements of one socket. Each is held until the socket has been sent the entry that it refers to,
/// because the ack of seq n must follow entry n. A value.
struct AckOrder {
  private var held: [RoomID: [Entry]] = [:]
  /// The approximate memory of the held acks, in bytes.
  private(set) var bytes = 0

  /// Holds the ack of an entry in a room in which the socket is behind.
  mutating func hold(_ entry: Entry) {
    held[entry.roomID, default: []].append(entry)
    bytes += entry.cost
  }

  /// Whether acks of the room are held.
  func holds(_ room: RoomID) -> Bool { !held.isEmpty && held[room] != nil }

  /// Removes and returns the entries of a room whose acks may be sent now, because the socket is not behind in the
  /// room any more.
  mutating func release(_ room: RoomID) -> [Entry] {
    guard let entries = held.removeValue(forKey: room) else { return [] }
    for entry in entries { bytes -= entry.cost }
    return entries
  }
}
