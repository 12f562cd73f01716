/// Who may use a route or a frame. Every one names its policy where it is declared: the router's
/// and the dialects' tables take no entry without.
///
/// The requirement is checked before the handler runs; what depends on a room is checked by the
/// room's rules (`Chat`), on the state the operation itself reads.
package struct Policy: Sendable, Equatable {
  package enum Requirement: String, Sendable {
    /// No credential needed; one that is sent is not even read.
    case anyone
    /// Any valid credential.
    case caller
    /// A session of this server; tokens of another system are 403.
    case localUser
  }

  package let requirement: Requirement
  /// What is needed in the room that is named, as `martlet routes` prints it; nil where no room is.
  package let room: RoomRight?

  /// What an operation needs in its room (CONTRACT section 4).
  package enum RoomRight: String, Sendable {
    case read = "r"
    case write = "w"
    /// `a`, or a level of at least the room's `level_admin`.
    case manage = "a or level_admin"
    /// Any accepted rule that matches.
    case member = "an accepted rule"
    /// A rule of one's own, or of one's entity, that waits for its answer.
    case invited = "a waiting rule"
    /// Creating one: `levelOnEntity` of at least the setting.
    case create = "level to create"
  }

  private init(_ requirement: Requirement, room: RoomRight? = nil) {
    self.requirement = requirement
    self.room = room
  }

  package static let anyone = Policy(.anyone)
  package static let caller = Policy(.caller)
  package static let localUser = Policy(.localUser)

  /// Any caller who has this right in the room.
  package static func room(_ right: RoomRight) -> Policy { Policy(.caller, room: right) }

  /// As `martlet routes` prints it.
  package var description: String {
    room.map { "\(requirement.rawValue), room: \($0.rawValue)" } ?? requirement.rawValue
  }
}
