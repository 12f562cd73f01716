internal import Basics

/// A condition that a test waited for did not become true.
package struct NeverSo: Error, CustomStringConvertible {
  package let description: String
}

/// Far longer than anything takes on a busy machine: a bug fails its test instead of blocking the run.
private let patienceMilliseconds: Int64 = 60_000

/// Waits until `isSo` returns true. Throws `NeverSo` with `what`, the expectation, if it never does.
package func eventually(_ what: String, _ isSo: () throws -> Bool) async throws {
  let deadline = Monotonic.milliseconds + patienceMilliseconds
  while try !isSo() {
    guard Monotonic.milliseconds < deadline else { throw NeverSo(description: "never: \(what)") }
    await Task.yield()
  }
}

/// The same, but blocks the thread.
package func spin(_ what: String, _ isSo: () throws -> Bool) throws {
  let deadline = Monotonic.milliseconds + patienceMilliseconds
  while try !isSo() {
    guard Monotonic.milliseconds < deadline else { throw NeverSo(description: "never: \(what)") }
  }
}
