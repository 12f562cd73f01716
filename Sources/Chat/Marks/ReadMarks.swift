package import Access
internal import Accounts
package import Basics
package import Database
package import Events
internal import Synchronization

/// The marks up to which people have read rooms. They only move forward.
///
/// Requests and sockets ask for moves. They are gathered until `writeWaiting` is called, of each person and room the
/// furthest counts, and all go into one commit.
package final class ReadMarks: Sendable {
  private let database: any SQLDatabase
  private let directory: RoomDirectory
  private let moves: WaitingMoves
  private let signal: GroupCommitSignal

  package init(database: any SQLDatabase, directory: RoomDirectory, events: EventStream) {
    self.database = database
    self.directory = directory
    moves = WaitingMoves(events: events)
    signal = database.attach(moves)
  }

  /// Moves the caller's mark in a room to a seq, unless it is there or further already. Returns what is left to read,
  /// after the commit. Throws `room_not_found`, `forbidden`, `validation_failed` for a seq above the head, and
  /// `unavailable`. `origin` is the socket that asks; nil for a request.
  package func move(
    to seq: Int64, in id: RoomID, by caller: Caller, origin: Origin? = nil
  ) async throws -> RoomState {
    let room = try await database.read { try await self.directory.read(id, in: $0) }
    guard let room else { throw AppError(.roomNotFound) }
    let standing = RuleEngine.standing(of: caller, in: room)
    guard standing.isMember else { throw AppError(.roomNotFound) }
    guard standing.permissions.contains(.read) else { throw AppError(.forbidden) }
    let move = Move(user: caller.userID, room: room)
    return try await withCheckedThrowingContinuation {
      moves.add(move, MoveCaller(seq: seq, origin: origin, continuation: $0))
    }
  }

  /// How long moves are gathered, in milliseconds.
  package static let gatherMilliseconds = 250

  /// Has the moves written that wait. To be called every `gatherMilliseconds`.
  package func writeWaiting() {
    if moves.isWaiting { signal.raise() }
  }
}

/// Whose mark in which room is to be moved.
private struct Move: Hashable {
  let user: UserID
  let room: Room

  static func == (left: Move, right: Move) -> Bool {
    left.user == right.user && left.room.id == right.room.id
  }

  func hash(into hasher: inout Hasher) {
    hasher.combine(user)
    hasher.combine(room.id)
  }
}

/// Somebody who waits for a move.
private struct MoveCaller {
  let seq: Int64
  let origin: Origin?
  let continuation: CheckedContinuation<RoomState, any Error>
}

/// The moves that wait for a commit.
private final class WaitingMoves: GroupCommitWork {
  private let waiting = Mutex<[Move: [MoveCaller]]>([:])
  private let events: EventStream

  /// The most moves per commit. More would delay the messages in it.
  private static let batchSize = 500

  init(events: EventStream) { self.events = events }

  func add(_ move: Move, _ caller: MoveCaller) {
    waiting.withLock { $0[move, default: []].append(caller) }
  }

  var isWaiting: Bool { waiting.withLock { !$0.isEmpty } }

  func takeBatch() -> (any GroupCommitBatch)? {
    let taken = waiting.withLock { waiting in
      let taken = waiting.prefix(Self.batchSize)
      for (move, _) in taken { waiting[move] = nil }
      return taken.map { WantedMove(move: $0.key, callers: $0.value) }
    }
    return taken.isEmpty ? nil : MoveBatch(taken, events)
  }
}

/// A move with everyone who waits for it.
private struct WantedMove {
  let move: Move
  let callers: [MoveCaller]
  /// The outcome for each of the callers; set by `MoveBatch`.
  var states: [Result<RoomState, AppError>] = []
  /// The furthest seq that somebody asked for and that exists; nil if there is none. Set by `MoveBatch`.
  var seq: Int64?
  /// The socket that asked; nil if there were several, or a request.
  var origin: Origin? {
    guard let first = callers.first?.origin else { return nil }
    return callers.allSatisfy { $0.origin == first } ? first : nil
  }
}

/// The moves of one commit.
private final class MoveBatch: GroupCommitBatch {
  private struct State {
    var moves: [WantedMove]
    /// What to tell others after the commit.
    var signals: [Signal] = []
  }
  private let state: Mutex<State>
  private let events: EventStream

  init(_ moves: [WantedMove], _ events: EventStream) {
    // In a fixed order, so that two nodes never deadlock.
    let sorted = moves.sorted {
      ($0.move.room.id, $0.move.user.uuid) < ($1.move.room.id, $1.move.user.uuid)
    }
    state = Mutex(State(moves: sorted))
    self.events = events
  }

  var isEssential: Bool { false }

  func write(in transaction: Transaction) async throws {
    var moves = state.withLock(\.moves)
    let now = Timestamp.now
    let found = try await transaction.pipeline(
      moves.map { MarkStore.statement($0.move.user, [$0.move.room.id]) })
    let before = try found.map { try MarkStore.states($0.rows, at: now).values.first }
    for (index, old) in before.enumerated() {
      let head = old?.head ?? 0
      moves[index].seq = moves[index].callers.map(\.seq).filter { $0 <= head }.max()
    }
    let places = try await transaction.pipeline(
      moves.map { MarkStore.place($0.move.user, $0.move.room.id, $0.seq ?? 0) })
    var statements: [Statement] = []
    var moved: [(WantedMove, Int64, RoomState)] = []
    for (index, old) in before.enumerated() {
      let (move, seq) = (moves[index].move, moves[index].seq ?? 0)
      guard let old, let row = places[index].rows.first else {
        moves[index].states = moves[index].callers.map { _ in .failure(AppError(.roomNotFound)) }
        continue
      }
      var new = old
      if moves[index].seq != nil, seq > old.lastReadSeq ?? -1 {
        let ordinal = try row.integer(0)
        new = old.moved(to: seq, ordinal: ordinal, mentions: try row.integer(1))
        statements.append(MarkStore.move(move.user, in: move.room.id, to: seq, ordinal: ordinal))
      }
      // Where the mark began beyond this place, it stays, but the person has seen the messages now.
      if seq > 0, try row.optional(2, row.integer) ?? 0 < seq {
        statements.append(MarkStore.note(move.user, in: move.room.id, read: seq, at: now))
        moved.append((moves[index], seq, new))
      }
      moves[index].states = moves[index].callers.map { caller in
        caller.seq > old.head ? .failure(Self.isAboveHead) : .success(new)
      }
    }
    _ = try await transaction.pipeline(statements)
    let signals = try await signals(for: moved, at: now, transaction)
    state.withLock { $0 = State(moves: moves, signals: signals) }
  }

  private static let isAboveHead = AppError(
    .validationFailed,
    details: [.init(field: "seq", message: "is above the last seq of the room")])

  /// Rooms with more people than this do not hear who has read what.
  private static let maximumAudience = 256

  private func signals(
    for moved: [(WantedMove, Int64, RoomState)], at now: Timestamp, _ transaction: Transaction
  ) async throws -> [Signal] {
    if moved.isEmpty { return [] }
    let hiding = try await People.hidingWhatTheyRead(
      among: Array(Set(moved.map(\.0.move.user))), in: transaction)
    let counts = try await transaction.pipeline(
      moved.map {
        MarkStore.readerCount($0.0.move.room.id, limit: Int64(Self.maximumAudience) + 1)
      })
    var signals: [Signal] = []
    for (index, (wanted, seq, state)) in moved.enumerated() {
      let move = wanted.move
      signals.append(
        ReadSignal(user: move.user, room: move.room.id, state: state, origin: wanted.origin).signal)
      if hiding.contains(move.user) { continue }
      let readers = Int(try counts[index].rows.first?.integer(0) ?? 0)
      signals.append(
        SeenSignal(
          room: move.room.id, user: move.user, seq: seq, ts: now,
          isPrivate: max(readers, move.room.people.count) > Self.maximumAudience
        ).signal)
    }
    return signals
  }

  func divide() -> [any GroupCommitBatch] {
    let moves = state.withLock(\.moves)
    guard moves.count > 1 else { return [] }
    let middle = moves.count / 2
    return [moves[..<middle], moves[middle...]].map { MoveBatch(Array($0), events) }
  }

  func finish(_ failure: (any Error)?) {
    let state = state.withLock(\.self)
    for wanted in state.moves {
      for (index, caller) in wanted.callers.enumerated() {
        if failure == nil, index < wanted.states.count {
          caller.continuation.resume(with: wanted.states[index].mapError { $0 })
        } else {
          caller.continuation.resume(throwing: AppError(.unavailable, underlying: failure))
        }
      }
    }
    if failure == nil { events.publish(state.signals.map { .signal($0) }) }
  }
}
