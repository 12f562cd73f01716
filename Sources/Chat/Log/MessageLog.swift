package import Access
package import Basics
package import Database
package import Events
internal import Synchronization

/// The queue of drafts from all loops. With each commit of the database, those that wait are appended to the log.
package final class MessageLog: Ingest {
  private let waiting: WaitingDrafts
  private let signal: GroupCommitSignal

  package init(
    database: any SQLDatabase, events: EventStream, appender: LogAppender,
    authenticator: any Authenticator, freshness: Freshness, metrics: ChatMetrics
  ) {
    waiting = WaitingDrafts(
      events: events, appender: appender, authenticator: authenticator, freshness: freshness,
      metrics: metrics)
    signal = database.attach(waiting)
  }

  package func submit(_ drafts: [Draft]) {
    guard !drafts.isEmpty else { return }
    if waiting.add(drafts) { signal.raise() }
  }

  package func isExpecting(_ room: RoomID) -> Bool { waiting.isExpecting(room) }
}

/// Drafts that wait for a commit, in the order in which they came.
private final class WaitingDrafts: GroupCommitWork {
  private let events: EventStream
  private let appender: LogAppender
  private let authenticator: any Authenticator
  private let freshness: Freshness
  private let metrics: ChatMetrics
  private struct State {
    var drafts = Queue<Draft>()
    var bytes = 0
  }
  private let state = Mutex(State())
  /// Drafts that were taken and whose outcome has not been published.
  private let outstanding = CountsByRoom()
  /// How many more batches look up every draft, because a recent batch contained retries.
  private let carefulBatches = Atomic<Int>(0)

  /// The most drafts per commit. More would only delay the first of them.
  private static let batchSize = 2048
  /// The most bytes that may wait in total. Drafts beyond that are answered with `unavailable`.
  private static let maximumWaitingBytes = 64 * 1024 * 1024
  /// How many batches after one with a retry look up every draft: clients that reconnect tend to retry together.
  private static let carefulBatchesAfterRetry = 16

  init(
    events: EventStream, appender: LogAppender, authenticator: any Authenticator,
    freshness: Freshness, metrics: ChatMetrics
  ) {
    self.events = events
    self.appender = appender
    self.authenticator = authenticator
    self.freshness = freshness
    self.metrics = metrics
  }

  func isExpecting(_ room: RoomID) -> Bool { outstanding.mayHaveAny(in: room) }

  /// Queues drafts. Returns false if too many bytes are waiting already; then the drafts have been answered with
  /// `unavailable`.
  func add(_ drafts: [Draft]) -> Bool {
    let bytes = drafts.reduce(0) { $0 + $1.cost }
    // Counted before they can be published.
    for draft in drafts { outstanding.add(1, in: draft.roomID) }
    let hasRoom = state.withLock { state in
      guard state.bytes + bytes <= Self.maximumWaitingBytes else { return false }
      state.drafts.append(contentsOf: drafts)
      state.bytes += bytes
      return true
    }
    if !hasRoom { fail(drafts) }
    return hasRoom
  }

  /// Removes drafts from `outstanding`, because their outcome is about to be published.
  private func settle(_ drafts: [Draft]) {
    for draft in drafts { outstanding.add(-1, in: draft.roomID) }
  }

  // MARK: GroupCommitWork

  var isWaiting: Bool { state.withLock { !$0.drafts.isEmpty } }

  func takeBatch() -> (any GroupCommitBatch)? {
    let drafts = state.withLock { state in
      let taken = state.drafts.take(atMost: Self.batchSize)
      state.bytes -= taken.reduce(0) { $0 + $1.cost }
      return taken
    }
    return drafts.isEmpty ? nil : DraftBatch(drafts, of: self, isCareful: isNextCareful())
  }

  private func isNextCareful() -> Bool {
    guard carefulBatches.load(ordering: .relaxed) > 0 else { return false }
    carefulBatches.wrappingSubtract(1, ordering: .relaxed)
    return true
  }

  // MARK: For the batches

  /// Writes a batch. Throws `DatabaseError` `expired` if this node's knowledge of who may still write is too old. The
  /// batch is retried a little later.
  func write(
    _ drafts: [Draft], isCareful: Bool, in transaction: Transaction
  ) async throws {
    let left = freshness.millisecondsLeft
    guard left > 0 else {
      throw DatabaseError(kind: .expired, message: "what this node knows of sessions is too old")
    }
    // The limit counts from the beginning of the transaction, which is earlier than now, so it is on the safe side.
    transaction.expire(afterMilliseconds: Int(left))
    // Registered before the appender's own hook, which publishes.
    transaction.afterCommit { [self] in settle(drafts) }
    let authenticator = authenticator
    _ = try await appender.append(
      drafts, at: .now, lookup: isCareful ? .all : .refused,
      hasEnded: { authenticator.hasEnded($0) }, in: transaction)
  }

  func lookUpNextBatches() {
    carefulBatches.store(Self.carefulBatchesAfterRetry, ordering: .relaxed)
  }

  func committed(_ drafts: [Draft]) {
    metrics.messageBatches.observe(drafts.count)
  }

  func fail(_ drafts: [Draft]) {
    settle(drafts)
    answerUnavailable(drafts)
  }

  private func answerUnavailable(_ drafts: [Draft]) {
    events.publish(drafts.map { .receipt(Receipt($0, .unavailable)) })
  }
}

/// A counter per room, used by all threads without a lock. Rooms whose ids differ by a multiple of 4,096 share a
/// counter, so a room may appear to have drafts that belong to another.
private final class CountsByRoom: Sendable {
  // Unsafe: a pointer is not `Sendable`. It never changes, and it points to atomics.
  private nonisolated(unsafe) let counts: UnsafeMutablePointer<Atomic<Int>>

  private static let size = 4096

  init() {
    counts = .allocate(capacity: Self.size)
    for index in 0..<Self.size { (counts + index).initialize(to: Atomic(0)) }
  }

  deinit {
    counts.deinitialize(count: Self.size)
    counts.deallocate()
  }

  func add(_ number: Int, in room: RoomID) {
    counts[index(room)].wrappingAdd(number, ordering: .relaxed)
  }

  func mayHaveAny(in room: RoomID) -> Bool { counts[index(room)].load(ordering: .relaxed) != 0 }

  /// Ids are assigned in order, so rooms of the same period have separate counters.
  private func index(_ room: RoomID) -> Int {
    Int(UInt64(bitPattern: room.value) % UInt64(Self.size))
  }
}

/// The drafts of one commit.
private final class DraftBatch: GroupCommitBatch {
  private let drafts: [Draft]
  private let owner: WaitingDrafts
  private let isCareful: Bool

  init(_ drafts: [Draft], of owner: WaitingDrafts, isCareful: Bool) {
    self.drafts = drafts
    self.owner = owner
    self.isCareful = isCareful
  }

  var isEssential: Bool { false }

  func write(in transaction: Transaction) async throws {
    try await owner.write(drafts, isCareful: isCareful, in: transaction)
  }

  /// If the batch failed without looking up its drafts, it is first retried with look-ups: most likely a draft is in
  /// the log already.
  func divide() -> [any GroupCommitBatch] {
    if !isCareful {
      owner.lookUpNextBatches()
      return [DraftBatch(drafts, of: owner, isCareful: true)]
    }
    guard drafts.count > 1 else { return [] }
    let middle = drafts.count / 2
    return [drafts[..<middle], drafts[middle...]].map {
      DraftBatch(Array($0), of: owner, isCareful: true)
    }
  }

  func finish(_ failure: (any Error)?) {
    if failure == nil { owner.committed(drafts) } else { owner.fail(drafts) }
  }
}

/// The metrics of chat.
package struct ChatMetrics: Sendable {
  package let messageBatches: Histogram

  package init(_ metrics: Metrics) {
    messageBatches = metrics.histogram(
      "martlet_message_batch", "Messages that one commit took into the log."
    ) {
      Histogram(bounds: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048])
    }
  }
}
