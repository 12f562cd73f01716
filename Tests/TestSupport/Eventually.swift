internal import Basics

/// What a test waited for and never was so.
package struct NeverSo: Error, CustomStringConvertible {
  package let description: String
}

/// Far more than anything takes on a busy machine: a bug fails its test, and does not hang the run.
private let patienceMilliseconds: Int64 = 60_000

/// Waits until `isSo`. Throws `NeverSo` with `what`, which says what was expected, where that never comes.
package func eventually(_ what: String, _ isSo: () throws -> Bool) async throws {
  let deadline = Monotonic.milliseconds + patienceMilliseconds
  while try !isSo() {
    guard Monotonic.milliseconds < deadline else { throw NeverSo(description: "never: \(what)") }
    await Task.yield()
  }
}

/// As `eventually`, holding the thread.
package func spin(_ what: String, _ isSo: () throws -> Bool) throws {
  let deadline = Monotonic.milliseconds + patienceMilliseconds
  while try !isSo() {
    guard Monotonic.milliseconds < deadline else { throw NeverSo(description: "never: \(what)") }
  }
}
