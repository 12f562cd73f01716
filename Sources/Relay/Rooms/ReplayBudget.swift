/// How many entries one `resume` frame may still have replayed, shared by its rooms wherever they wait.
/// On the loop only.
final class ReplayBudget: Equatable {
  private var left: Int64

  /// Beyond 10,000 in the frame a room is `reset`.
  init(_ count: Int64 = 10_000) { left = count }

  /// Takes so many, all or none.
  func take(_ count: Int64) -> Bool {
    guard count <= left else { return false }
    left -= count
    return true
  }

  static func == (left: ReplayBudget, right: ReplayBudget) -> Bool { left === right }
}
