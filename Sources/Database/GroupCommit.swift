/// Work that is cheap in bulk: callers add parts to it, and each commit of the database takes a batch of those that
/// wait. The message log is the only one so far.
package protocol GroupCommitWork: AnyObject, Sendable {
  /// Whether any parts wait.
  var isWaiting: Bool { get }

  /// Takes the parts that have waited longest, as many as one commit should contain; nil if none wait.
  func takeBatch() -> (any GroupCommitBatch)?
}

/// The parts of one `GroupCommitWork` in one commit.
///
/// `write` may be called several times, each time in a transaction that contains nothing of earlier attempts.
/// `finish` is called once; if the batch was divided, once for each of its parts instead.
package protocol GroupCommitBatch: Sendable {
  /// Whether it is written even if the disk is nearly full.
  var isEssential: Bool { get }

  /// Writes all parts. The transaction's commit hooks run after the commit and before `finish`.
  func write(in transaction: Transaction) async throws

  /// Divides a batch that the database refused into smaller ones that are more likely to succeed, with the same parts
  /// in the same order. Halving isolates a faulty part, which then fails alone. Empty if there is nothing left to
  /// try.
  func divide() -> [any GroupCommitBatch]

  /// Reports the outcome: nil if all parts are committed, or the reason why none is.
  func finish(_ failure: (any Error)?)
}

/// Tells the database that a `GroupCommitWork` has parts waiting.
package struct GroupCommitSignal: Sendable {
  private let wake: @Sendable () -> Void

  init(_ wake: @escaping @Sendable () -> Void) { self.wake = wake }

  /// Has no effect.
  package static let none = GroupCommitSignal {}

  /// Nearly free while the previous signal has not been handled. May be called from any thread.
  package func raise() { wake() }
}

extension GroupCommitWork {
  /// Fails everything that waits.
  func failAll(_ failure: any Error) {
    while let batch = takeBatch() { batch.finish(failure) }
  }
}
