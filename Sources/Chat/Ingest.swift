package import Basics
package import Events

/// Where messages enter. Port: straight to the log here; a broker between at scale.
///
/// Every draft ends in the stream of events, in the order of commits: as an entry, or as a receipt
/// where there is no new entry. A draft may be handed over twice; it enters once.
package protocol Ingest: Sendable {
  /// Takes a turn's drafts. Returns at once, from any thread.
  func submit(_ drafts: [Draft])

  /// Whether drafts of the room were taken whose outcome has not been published: while there are some,
  /// more deliveries of the room are on their way, and gathering them for one write pays. Another room's
  /// may be taken for them. From any thread.
  func isExpecting(_ room: RoomID) -> Bool
}
