package import Access
package import Basics
package import Database
package import Events
internal import Synchronization

/// Writes entries to the log for requests. They take the same way as those of sockets, through `Ingest`, and each
/// request waits for the outcome of its draft.
package final class MessageWriter: Sendable {
  private let database: any SQLDatabase
  private let directory: RoomDirectory
  private let memberships: any Memberships
  private let references: MessageReferences
  private let dialogs: Dialogs
  private let ingest: any Ingest
  private let outcomes: DraftOutcomes

  /// How many times in a row a draft is checked again because access has changed meanwhile.
  private static let maximumRounds = 16

  /// Must be made before the first event is published.
  package init(
    database: any SQLDatabase, directory: RoomDirectory, memberships: any Memberships,
    references: MessageReferences, dialogs: Dialogs, ingest: any Ingest, events: EventStream,
    node: NodeID
  ) {
    self.database = database
    self.directory = directory
    self.memberships = memberships
    self.references = references
    self.dialogs = dialogs
    self.ingest = ingest
    outcomes = DraftOutcomes(node: node)
    events.listen { [outcomes] in outcomes.receive($0) }
  }

  /// An entry that was asked for.
  package enum Written: Sendable {
    case new(Entry)
    /// It was in the log already: by a retry with the same `client_id`, or because nothing would change. Its body is the
    /// one that was asked for.
    case known(Entry)
  }

  /// Writes an entry. Throws `room_not_found`, `forbidden`, `client_id_conflict`, `unavailable`, what
  /// `MessageReferences` throws, and what `MessageChanges` refuses.
  ///
  /// A caller who may not write any more still gets the entry of an earlier request with the same `client_id`.
  package func write(
    _ body: EntryBody, in id: RoomID, clientID: String? = nil, as caller: Caller
  ) async throws -> Written {
    var body = body
    var refusal: AppError?
    do { body = try await references.resolve(body, in: id, as: caller) } catch let error as AppError
    {
      // A retry is acknowledged even if what it refers to has changed.
      if clientID == nil { throw error }
      refusal = error
    }
    var caller = caller
    var room = try await database.read { try await self.directory.read(id, in: $0) }
    for _ in 0..<Self.maximumRounds {
      guard let found = room else { throw AppError(.roomNotFound) }
      let access =
        refusal.map { .denied($0.code) } ?? RuleEngine.access(of: caller, to: body, in: found)
      if case .denied(let code) = access, clientID == nil { throw AppError(code) }
      let outcome = await outcomes.of(
        Draft(
          roomID: id, channelID: found.entryChannelID, from: caller.userID,
          to: found.recipient(of: caller.userID), body: body, clientID: clientID, access: access,
          origin: outcomes.nextOrigin()), submittedTo: ingest)
      switch outcome {
      case .entered(let entry): return .new(entry)
      case .refused(.known(let entry)): return .known(entry)
      case .refused(.conflict): throw AppError(.clientIDConflict)
      case .refused(.denied(let code)):
        throw refusal ?? AppError(code, details: MessageChanges.details(of: code))
      case .refused(.unavailable): throw AppError(.unavailable)
      case .refused(.stale):
        room = try await directory.reload(id)
        if caller.affiliations != nil {
          caller = caller.with(try await memberships.reload(caller.userID))
        }
      }
    }
    throw AppError(.unavailable)
  }

  /// Returns the room that a message to a room is for. `recipient` is one member of the team whose channel the room is,
  /// or the other one of a dialog of a team. Throws `room_not_found`, `recipient_not_in_team` and `forbidden`.
  package func room(
    _ id: RoomID, to recipient: UserID?, as caller: Caller
  ) async throws -> RoomID {
    guard let recipient else { return id }
    guard let room = try await database.read({ try await self.directory.read(id, in: $0) }),
      RuleEngine.standing(of: caller, in: room).isMember
    else { throw AppError(.roomNotFound) }
    if room.recipient(of: caller.userID) == recipient { return id }
    guard room.kind == .channel, let team = room.properties.team else {
      throw AppError(.recipientNotInTeam)
    }
    return try await dialogs.dialog(of: caller.userID, with: recipient, in: team)
  }
}

/// The requests that wait for the outcomes of their drafts.
private final class DraftOutcomes: Sendable {
  private let node: NodeID
  private let waiting = Mutex<[UInt64: CheckedContinuation<LogAppender.Outcome, Never>]>([:])
  private let lastNumber = Atomic<UInt64>(0)

  init(node: NodeID) { self.node = node }

  /// An origin that no other draft has.
  func nextOrigin() -> Origin {
    Origin(
      node: node, loop: Origin.requests,
      socket: lastNumber.wrappingAdd(1, ordering: .relaxed).newValue)
  }

  /// Submits a draft with an origin of `nextOrigin`, and waits for its outcome.
  func of(_ draft: Draft, submittedTo ingest: any Ingest) async -> LogAppender.Outcome {
    guard let number = draft.origin?.socket else { return .refused(.unavailable) }
    return await withCheckedContinuation { continuation in
      waiting.withLock { $0[number] = continuation }
      ingest.submit([draft])
    }
  }

  func receive(_ events: [Event]) {
    for event in events {
      switch event {
      case .entry(let entry, let origin?): settle(origin, .entered(entry))
      case .receipt(let receipt):
        if let origin = receipt.draft.origin { settle(origin, .refused(receipt.outcome)) }
      default: break
      }
    }
  }

  private func settle(_ origin: Origin, _ outcome: LogAppender.Outcome) {
    guard origin.loop == Origin.requests, origin.node == node else { return }
    waiting.withLock { $0.removeValue(forKey: origin.socket) }?.resume(returning: outcome)
  }
}
