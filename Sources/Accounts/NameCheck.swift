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
    /// To read for all who wait, this one included, which has waited longest.
    case reads
  }

  private struct State {
    var waiting: [Question] = []
    var isReading = false
  }

  private let read: @Sendable ([[UUID]]) async throws -> [Bool]
  private let state = Mutex(State())

  /// Questions that one read answers.
  private static let maximumAtOnce = 100

  /// `read` answers several questions, each some ids, in their order.
  init(read: @escaping @Sendable (_ questions: [[UUID]]) async throws -> [Bool]) {
    self.read = read
  }

  /// How many wait for the next read, for tests.
  var waitingCount: Int { state.withLock(\.waiting.count) }

  /// Whether any of these ids is that of a user, an organization or a team here. Throws what `read` throws.
  func namesSomething(_ ids: [UUID]) async throws -> Bool {
    let turn = try await withCheckedThrowingContinuation { continuation in
      let isFirst = state.withLock { state in
        guard state.isReading else {
          state.isReading = true
          return true
        }
        state.waiting.append(Question(ids: ids, asker: continuation))
        return false
      }
      if isFirst { continuation.resume(returning: Turn.reads) }
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
