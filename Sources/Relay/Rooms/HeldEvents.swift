internal import Basics
internal import Events

/// Entries and answers that must not be carried out yet, in order.
///
/// Bounded: beyond that, of entries that no socket here waits for only the seqs are kept; the log has
/// the entries. What sockets here wait for is bounded by what they may send.
struct HeldEvents {
  private(set) var events: [Event] = []
  /// Per room, the seq up to which there is more in the log.
  private(set) var heads: [RoomID: Int64] = [:]
  private var bytes = 0

  private static let maximumBytes = 8 * 1024 * 1024
  private static let eventBytes = 64

  mutating func append(_ event: Event) {
    if case .entry(let entry, let origin) = event {
      if bytes > Self.maximumBytes, origin == nil {
        heads[entry.roomID] = max(heads[entry.roomID] ?? 0, entry.seq)
        return
      }
      bytes += entry.cost
    }
    bytes += Self.eventBytes
    events.append(event)
  }
}
