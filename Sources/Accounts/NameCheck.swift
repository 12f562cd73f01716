internal import Basics
internal import Synchronization

/// Tells whether ids that another system's token names are those of something here.
///
/// One read of the database answers all who have asked since the last one began: when everybody connects at once, as after
/// a restart, that is one read for dozens of tokens.
///
/// Ours are version 7 (`Identifier.make`), those of most other systems are not. While it is known that there are no others
/// here, such a question needs no read. It is known for a second, since somebody may put one in by hand: a token that comes in
/// that second counts as one that came before.
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
    var waiting = Queue<Question>()
    var isReading = false
    /// Until when all ids here count as version 7, by `now`.
    var allVersion7Until = Int64.min
    /// Counts calls of `forget`: what was read before one says nothing.
    var generation = 0
  }

  /// What the database says.
  struct Reading {
    /// For each question, in their order.
    let answers: [Bool]
    /// Whether all ids of accounts, organizations and teams are version 7.
    let areAllVersion7: Bool
  }

  private let read: @Sendable ([[UUID]]) async throws -> Reading
  private let now: @Sendable () -> Int64
  private let state = Mutex(State())

  /// Questions that one read answers, and that wait.
  private static let maximumAtOnce = 100
  private static let maximumWaiting = 10_000
  private static let knownMilliseconds: Int64 = 1000

  /// `read` answers several questions, each some ids. `now` is a clock in milliseconds.
  init(
    now: @escaping @Sendable () -> Int64 = { Monotonic.milliseconds },
    read: @escaping @Sendable (_ questions: [[UUID]]) async throws -> Reading
  ) {
    self.read = read
    self.now = now
  }

  /// How many wait for the next read, for tests.
  var waitingCount: Int { state.withLock(\.waiting.count) }

  /// Whether any of these ids is that of a user, an organization or a team here. Throws what `read` throws, and
  /// `unavailable` where too many wait.
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

  /// The database is another one, or has gone back.
  func forget() {
    state.withLock { state in
      state.generation += 1
      state.allVersion7Until = .min
    }
  }

  /// Reads for who asks, and for others who wait; then one of those who came meanwhile reads.
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
        // Only this task is cancelled. The others wait again, behind those who came meanwhile.
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
