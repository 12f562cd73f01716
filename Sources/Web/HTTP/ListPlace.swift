package import Basics

/// A place in a list that is ordered by time, and by id among what has the same time. Its text is the cursor of the
/// list.
package struct ListPlace: Sendable, CustomStringConvertible {
  package let time: Timestamp
  package let id: UUID

  package init(time: Timestamp, id: UUID) {
    self.time = time
    self.id = id
  }

  /// Parses a cursor; nil for anything that `description` does not give.
  package init?(_ cursor: String) {
    let parts = cursor.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, let time = Int64(parts[0]), let id = UUID(String(parts[1])) else {
      return nil
    }
    self.init(time: Timestamp(milliseconds: time), id: id)
  }

  package var description: String { "\(time.milliseconds).\(id)" }
}
