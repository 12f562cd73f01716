internal import Basics
internal import Synchronization

/// Checks whether ids in another system's token are in use on this server.
///
/// Questions that arrive while a read is under way are answered together by the next read. When all clients reconnect
/// at once, for example after a restart, that is one read for dozens of tokens.
///
/// Ids of this server are version 7 (`Identifier.make`); those of most other systems are not. While all ids here are
/// known to be version 7, other ids need no read. That knowledge is kept for a second, because somebody may insert
/// another id by hand. A token that comes within that second counts as one that came before.
final class NameCheck: Sendable {
  private struct Question {
    let ids: [UUID]
    let asker: CheckedContinuation<Turn, any Error>
  }

  /// The result for a waiting question.
  private enum Turn {
    case answer(Bool)
    /// No read is under way. The asker has to read, for itself and for all that wait.
    case reads
  }

  private struct State {
    var waiting = Queue<Question>()
    var isReading = false
    /// Until when all ids here are known to be version 7, in the time of `now`.
    var allVersion7Until = Int64.min
    /// Counts calls of `forget`. The result of a read that began before one is not kept.
    var generation = 0
  }

  /// The result of a read.
  struct Reading {
    /// One per question, in their order.
    let answers: [Bool]
    /// Whether all ids of accounts, organizations and teams are version 7.
    let areAllVersion7: Bool
  }

  private let read: @Sendable ([[UUID]]) async throws -> Reading
  private let now: @Sendable () -> Int64
  private let state = Mutex(State())

  /// The most questions that one read answers, and the most that wait.
  private static let maximumAtOnce = 100
  private static let maximumWaiting = 10_000
  private static let knownMilliseconds: Int64 = 1000

  /// `read` answers several questions, each with some ids. `now` is a clock in milliseconds.
  init(
    now: @escaping @Sendable () -> Int64 = { Monotonic.milliseconds },
    read: @escaping @Sendable (_ questions: [[UUID]]) async throws -> Reading
  ) {
    self.read = read
    self.now = now
  }

  /// The number of questions that wait for the next read, for tests.
  var waitingCount: Int { state.withLock(\.waiting.count) }

  /// Whether any of these ids belongs to a user, an organization or a team of this server. Throws what `read` throws,
  /// and `unavailable` if too many questions wait.
  func isAnyTaken(_ ids: [UUID]) async throws -> Bool {
    if !ids.contains(where: \.isVersion7) {
      let now = now()
      if state.withLock({ now < $0.allVersion7Until }) { return false }
    }
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

  /// Forgets what is known, because the database was replaced or restored.
  func forget() {
    state.withLock { state in
      state.generation += 1
      state.allVersion7Until = .min
    }
  }

  /// Reads for the asker and for others that wait. Afterwards one of those that came meanwhile reads.
  private func readForAll(_ ids: [UUID]) async throws -> Bool {
    let others = state.withLock { $0.waiting.take(atMost: Self.maximumAtOnce - 1) }
    defer { wakeNextReader() }
    do {
      let begun = now()
      let generation = state.withLock(\.generation)
      let reading = try await read([ids] + others.map(\.ids))
      let answers = reading.answers
      state.withLock { state in
        guard state.generation == generation else { return }
        state.allVersion7Until = reading.areAllVersion7 ? begun + Self.knownMilliseconds : .min
      }
      for (other, isOurs) in zip(others, answers.dropFirst()) {
        other.asker.resume(returning: .answer(isOurs))
      }
      return answers[0]
    } catch {
      if Task.isCancelled {
        // Only this task was cancelled. The others wait again, behind those that came meanwhile.
        state.withLock { $0.waiting.append(contentsOf: others) }
      } else {
        for other in others { other.asker.resume(throwing: error) }
      }
      throw error
    }
  }

  private func wakeNextReader() {
    let next = state.withLock { state -> Question? in
      let next = state.waiting.popFirst()
      state.isReading = next != nil
      return next
    }
    next?.asker.resume(returning: .reads)
  }
}
