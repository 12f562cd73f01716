package import Basics
package import Database
package import Events

/// Things that a feature attaches to messages, such as files and recordings. A port: features implement it, and Chat
/// imports none of them.
///
/// The bytes were stored before, by a bulk write of their own. The message's commit only claims them.
package protocol Attachments: Sendable {
  /// The message types whose `data` names something of this feature. No two features share a type.
  var types: Set<MessageType> { get }

  /// Decides on all claims of one commit, in order, with one verdict each. It reads, in one pipeline, and writes
  /// nothing itself: the statements of granted claims are written with the messages. It may be called again for the
  /// same message in another transaction, if the first one failed.
  func decide(
    _ claims: [AttachmentClaim], in transaction: Transaction
  ) async throws -> [AttachmentVerdict]
}

/// A message that names an attachment.
package struct AttachmentClaim: Sendable {
  /// The message's position among the drafts of the commit.
  let place: Int
  /// The message's `data`: the attachment's name.
  package let reference: String
  package let type: MessageType
  /// Nil if the server itself is the author.
  package let by: UserID?
  package let room: RoomID
  package let message: MessageID
}

package enum AttachmentVerdict: Sendable {
  /// The message may have the attachment. These statements run in the message's commit. They must be valid in any
  /// state that the commit's other claims leave.
  case granted([Statement])
  /// The message is refused with this code.
  case refused(ErrorCode)
}

/// The attachments of all features, by message type.
struct AttachmentClaims: Sendable {
  private let features: [any Attachments]

  init(_ features: [any Attachments]) { self.features = features }

  /// Returns the verdicts by the positions of the claims. A claim whose type belongs to no feature has none: nothing
  /// can exist under its name.
  func decide(
    _ claims: [AttachmentClaim], in transaction: Transaction
  ) async throws -> [Int: AttachmentVerdict] {
    var verdicts: [Int: AttachmentVerdict] = [:]
    for feature in features {
      let mine = claims.filter { feature.types.contains($0.type) }
      if mine.isEmpty { continue }
      for (claim, verdict) in zip(mine, try await feature.decide(mine, in: transaction)) {
        verdicts[claim.place] = verdict
      }
    }
    return verdicts
  }
}
