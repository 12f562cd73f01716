internal import Basics
internal import Events

/// Acknowledgements that wait until their socket has been sent the entries that they speak of: the ack of
/// n follows n. A value.
struct AckOrder {
  private var held: [RoomID: [Entry]] = [:]
  /// What is held takes of memory, about.
  private(set) var bytes = 0

  /// Keeps the ack of an entry of a room that the socket is behind in.
  mutating func hold(_ entry: Entry) {
    held[entry.roomID, default: []].append(entry)
    bytes += entry.cost
  }

  /// Whether acks of the room wait.
  func holds(_ room: RoomID) -> Bool { !held.isEmpty && held[room] != nil }

  /// The entries whose acks may leave now: the socket is not behind in the room any more.
  mutating func release(_ room: RoomID) -> [Entry] {
    guard let entries = held.removeValue(forKey: room) else { return [] }
    for entry in entries { bytes -= entry.cost }
    return entries
  }
}
