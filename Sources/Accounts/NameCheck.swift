internal import Basics
internal import Synchronization

/// Tells whether ids that another system's token names are those of something here.
///
/// One read of the database answers all who have asked since the last one began: when everybody connects at once, as after
/// a restart, that is one read for dozens of tokens.
final class NameCheck: Sendable {
  private struct Question {
    let ids: [UUID]
    let asker: CheckedContinuation<Turn, any Error>
  }

  /// What somebody who asks is told.
  private enum Turn {
    case answer(Bool)
    /// Nobody reads: do it yourself, and for all who wait.
    case reads
  }

  private struct State {
    var waiting: [Question] = []
    var isReading = false
  }

  private let read: @Sendable ([[UUID]]) async throws -> [Bool]
  private let state = Mutex(State())

  /// Questions that one read answers, and that wait.
  private static let maximumAtOnce = 100
  private static let maximumWaiting = 10_000

  /// `read` answers several questions, each some ids, in their order.
  init(read: @escaping @Sendable (_ questions: [[UUID]]) async throws -> [Bool]) {
    self.read = read
  }

  /// How many wait for the next read, for tests.
  var waitingCount: Int { state.withLock(\.waiting.count) }

  /// Whether any of these ids is that of a user, an organization or a team here. Throws what `read` throws, and
  /// `unavailable` where too many wait.
  func namesSomething(_ ids: [UUID]) async throws -> Bool {
    let turn = try await withCheckedThrowingContinuation { continuation in
      let atOnce = state.withLock { state -> Result<Turn, any Error>? in
        guard state.isReading else {
          state.isReading = true
          return .success(.reads)
        }
        guard state.waiting.count < Self.maximumWaiting else {
          return .failure(AppError(.unavailable))
        }
        state.waiting.append(Question(ids: ids, asker: continuation))
        return nil
      }
      if let atOnce { continuation.resume(with: atOnce) }
    }
    switch turn {
    case .answer(let isOurs): return isOurs
    case .reads: return try await readForAll(ids)
    }
  }

  /// Reads for who asks, and for others who wait; then one of those who came meanwhile reads.
  private func readForAll(_ ids: [UUID]) async throws -> Bool {
    let others = state.withLock { state in
      let others = Array(state.waiting.prefix(Self.maximumAtOnce - 1))
      state.waiting.removeFirst(others.count)
      return others
    }
    defer { passOn() }
    do {
      let answers = try await read([ids] + others.map(\.ids))
      for (other, isOurs) in zip(others, answers.dropFirst()) {
        other.asker.resume(returning: .answer(isOurs))
      }
      return answers[0]
    } catch {
      if Task.isCancelled {
        // That is this one's end only.
        state.withLock { $0.waiting.insert(contentsOf: others, at: 0) }
      } else {
        for other in others { other.asker.resume(throwing: error) }
      }
      throw error
    }
  }

  private func passOn() {
    let next = state.withLock { state -> Question? in
      state.isReading = !state.waiting.isEmpty
      return state.isReading ? state.waiting.removeFirst() : nil
    }
    next?.asker.resume(returning: .reads)
  }
}
