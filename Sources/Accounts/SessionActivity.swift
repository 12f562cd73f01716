internal import Basics
package import Database
internal import Synchronization

/// Notes when sessions were last used, and writes it down now and then: at most once a minute each, a
/// few hundred in a commit of the chat's.
package final class SessionActivity: GroupCommitWork {
  private struct State {
    var notedAt = BoundedCache<SessionID, Int64>(capacity: SessionActivity.capacity)
    var unwritten = Queue<(id: SessionID, at: Timestamp)>()
  }
  private let state = Mutex(State())

  static let everyMilliseconds: Int64 = 60_000
  private static let capacity = 100_000
  private static let batchSize = 256

  package init() {}

  func touch(_ id: SessionID) {
    let now = Monotonic.milliseconds
    state.withLock { state in
      if let noted = state.notedAt.value(for: id), now - noted < Self.everyMilliseconds { return }
      // What is noted beyond this is noted again in a minute.
      guard state.unwritten.count < Self.capacity else { return }
      state.notedAt.insert(now, for: id)
      state.unwritten.append((id, .now))
    }
  }

  package var isWaiting: Bool { state.withLock { !$0.unwritten.isEmpty } }

  package func takeBatch() -> (any GroupCommitBatch)? {
    let taken = state.withLock { state in
      var count = 0
      return state.unwritten.popWhile { _ in
        count += 1
        return count <= Self.batchSize
      }
    }
    return taken.isEmpty ? nil : Batch(uses: taken)
  }

  private struct Batch: GroupCommitBatch {
    let uses: [(id: SessionID, at: Timestamp)]

    var isEssential: Bool { false }

    func write(in transaction: Transaction) async throws {
      _ = try await transaction.pipeline(uses.map { AccountStore.touch($0.id, at: $0.at) })
    }

    /// No row of these can be refused by itself.
    func divide() -> [any GroupCommitBatch] { [] }

    /// Lost, it is a minute of "last seen".
    func finish(_ failure: (any Error)?) {}
  }
}
