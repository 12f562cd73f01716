internal import Accounts
internal import Basics
internal import Chat
internal import Database
internal import EventLoop
internal import Presence

/// The tasks that a server repeats as long as it runs. They begin on one loop.
struct Upkeep: Sendable {
  let loop: Loop
  let database: any SQLDatabase
  let features: Features
  let presence: Presence
  let reconciler: Reconciler
  let ended: RevokedSessions
  let activity: SessionActivity
  let clientKeys: ClientKeyIndex?
  let health: Health
  let computing: ThreadPool
  let log: Log

  /// An unused room is dropped from memory after at most twice this time.
  private static let forgetRoomsMilliseconds = 300_000
  /// The pause between two small transactions of upkeep.
  private static let sliceMilliseconds = 50
  /// The pause between two transactions of a merge of client keys, which must keep up with the writes.
  private static let mergePauseMilliseconds = 5
  /// How long after a failure a task begins again, if it is usually repeated sooner.
  private static let retryMilliseconds = 2000

  func start() -> [Task<Void, Never>] {
    let (loop, database, features) = (loop, database, features)
    return [
      loop.task { [reconciler] in await reconciler.run(on: loop) },
      `repeat`(every: 3_600_000, "old_sessions_not_removed") {
        try await AccountUpkeep.removeOldSessions(in: database) {
          await loop.sleep(milliseconds: Self.sliceMilliseconds)
        }
      },
      `repeat`(
        every: Self.forgetRoomsMilliseconds, after: Self.forgetRoomsMilliseconds,
        "rooms_not_forgotten"
      ) { [computing] in
        // On a thread, because it may take long. If the pool is full, it happens next time.
        _ = computing.submit { _ in features.directory.forgetUnused() }
      },
      `repeat`(every: 5000, after: 5000, "session_use_not_written") { [ended, activity, health] in
        ended.sweep()
        // For the metric, even if nobody requests `/readyz`.
        _ = await health.condition(of: database)
        try await activity.write(to: database)
      },
      `repeat`(every: ReadMarks.gatherMilliseconds, "marks_not_written") {
        features.marks.writeWaiting()
      },
      `repeat`(every: OwnMarks.everyMilliseconds, "marks_not_moved") {
        try await features.ownMarks.follow()
      },
      `repeat`(every: Presence.tickMilliseconds, "presence_not_told") { [presence] in
        presence.tick()
      },
      `repeat`(every: SearchIndexer.everyMilliseconds, "search_not_indexed") {
        try await features.indexer.follow { await loop.sleep(milliseconds: $0) }
      },
      // What other nodes left behind when they ended, and what nodes of older releases write.
      `repeat`(every: SearchIndexer.searchMilliseconds, "search_not_indexed") {
        if database.isShared { try await features.indexer.load() }
      },
      `repeat`(every: MessageExpiry.everyMilliseconds, "messages_not_destroyed") {
        try await features.expiry.destroyExpired()
      },
      `repeat`(every: MessageExpiry.oldEveryMilliseconds, "old_messages_not_deleted") {
        try await features.expiry.removeOld {
          await loop.sleep(milliseconds: Self.sliceMilliseconds)
        }
      },
      `repeat`(every: AccountErasure.everyMilliseconds, "accounts_not_erased") {
        try await features.erasure.follow {
          await loop.sleep(milliseconds: Self.sliceMilliseconds)
        }
      },
      `repeat`(every: 250, "client_keys_not_merged") { [clientKeys] in
        guard let clientKeys, clientKeys.isMergeDue else { return }
        try await clientKeys.merge {
          await loop.sleep(milliseconds: Self.mergePauseMilliseconds)
        }
      },
    ]
  }

  /// Runs a job again and again, with a pause behind each time, for the first time after `first` milliseconds. Of
  /// failures in a row the first is logged.
  private func `repeat`(
    every milliseconds: Int, after first: Int = 0, _ failure: StaticString,
    _ job: @escaping @Sendable () async throws -> Void
  ) -> Task<Void, Never> {
    loop.task { [loop, log] in
      var isFailing = false
      if first > 0 { await loop.sleep(milliseconds: first) }
      while !Task.isCancelled {
        do {
          try await job()
          isFailing = false
        } catch {
          if !isFailing { log.warnUnlessStopping(failure, error) }
          isFailing = true
        }
        let pause = isFailing ? max(milliseconds, Self.retryMilliseconds) : milliseconds
        await loop.sleep(milliseconds: pause)
      }
    }
  }
}

extension Log {
  /// For tasks that run until the server stops. The database is closed under them then, which needs no warning.
  func warnUnlessStopping(_ event: StaticString, _ error: any Error) {
    if !Task.isCancelled { warning(event, ["cause": .init("\(error)")]) }
  }
}
