internal import Basics
internal import Events

/// Entries and receipts that must not be delivered yet, in order.
///
/// Bounded: beyond the bound, entries that no local socket waits for are dropped and only their seqs are kept, since
/// the log has them. What local sockets wait for is bounded by what they may send.
struct HeldEvents {
  private(set) var events: [Event] = []
  /// For each room with dropped entries, the seq up to which the log has more.
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
