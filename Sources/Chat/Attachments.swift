package import Basics
package import Database
package import Events

/// What a feature attaches to messages: files, recordings. Port; the features implement it, and Chat
/// imports none of them.
///
/// Large bytes were stored before, by a bulk write of their own. The message's commit only claims
/// them.
package protocol Attachments: Sendable {
  /// The types of messages whose `data` names something of this feature's. No other feature has them.
  var types: Set<MessageType> { get }

  /// Decides on all claims of one commit, in order; a verdict each. It looks, in one pipeline, and
  /// writes nothing itself: what a granted message needs is written with it. It may be asked again for
  /// the same message, in another transaction, where the first one failed.
  func decide(
    _ claims: [AttachmentClaim], in transaction: Transaction
  ) async throws -> [AttachmentVerdict]
}

/// A message that names something.
package struct AttachmentClaim: Sendable {
  /// Its place among the drafts of the commit.
  let place: Int
  /// What the message's `data` says: the name of the thing.
  package let reference: String
  package let type: MessageType
  /// Nil where the server itself writes.
  package let by: UserID?
  package let room: RoomID
  package let message: MessageID
}

package enum AttachmentVerdict: Sendable {
  /// The message may have it. These statements run in the message's own commit; they fit any state that
  /// other claims of the same commit leave.
  case granted([Statement])
  /// The message is refused with this code.
  case refused(ErrorCode)
}

/// All features' attachments, by the type of message.
struct AttachmentClaims: Sendable {
  private let features: [any Attachments]

  init(_ features: [any Attachments]) { self.features = features }

  /// Verdicts by the claims' places. What no feature decides on names nothing that exists.
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
