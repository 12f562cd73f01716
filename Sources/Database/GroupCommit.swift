/// Work that is cheap in bulk: callers leave their parts with it, and each commit of the database takes
/// what waits. The message log is one, read marks will be another.
package protocol GroupCommitWork: AnyObject, Sendable {
  /// Whether something waits.
  var isWaiting: Bool { get }

  /// Takes the parts that waited longest, as many as one commit should hold; nil where none wait.
  func takeBatch() -> (any GroupCommitBatch)?
}

/// The parts of one `GroupCommitWork` in one commit.
///
/// `write` may be called several times, each time in a transaction that has nothing of the earlier
/// attempts. `finish` is called once, unless the batch was divided: then once for each part.
package protocol GroupCommitBatch: Sendable {
  /// Whether it is written even when the disk is nearly full.
  var isEssential: Bool { get }

  /// Writes all parts. `transaction`'s commit hooks run after the commit and before `finish`.
  func write(in transaction: Transaction) async throws

  /// The same parts in the same order, in batches that are likelier to be written, after the database
  /// refused this one: halves, so that a part at fault is found and fails alone. Empty where there is
  /// nothing left to try.
  func divide() -> [any GroupCommitBatch]

  /// All parts are committed (nil), or none of them is, for this reason.
  func finish(_ failure: (any Error)?)
}

/// Tells the database that a `GroupCommitWork` has something waiting.
package struct GroupCommitSignal: Sendable {
  private let wake: @Sendable () -> Void

  init(_ wake: @escaping @Sendable () -> Void) { self.wake = wake }

  /// Tells nobody.
  package static let none = GroupCommitSignal {}

  /// Costs next to nothing while the last one has not been answered; from any thread.
  package func raise() { wake() }
}

extension GroupCommitWork {
  /// Fails everything that waits.
  func failAll(_ failure: any Error) {
    while let batch = takeBatch() { batch.finish(failure) }
  }
}
