package import Basics
package import Events

/// The port through which drafts enter the log. `MessageLog` writes them to the log itself; another implementation
/// could pass them through a message broker.
///
/// Every draft ends in the event stream, in commit order: as an entry, or as a receipt if there is no new entry. A
/// draft that is submitted twice enters once.
package protocol Ingest: Sendable {
  /// Takes the drafts of a turn. Returns at once. May be called from any thread.
  func submit(_ drafts: [Draft])

  /// Whether drafts of the room were taken whose outcome has not been published. In that case more deliveries of the
  /// room are on their way, and gathering them into one write is worthwhile. May be true because of another room's
  /// drafts. May be called from any thread.
  func isExpecting(_ room: RoomID) -> Bool
}
