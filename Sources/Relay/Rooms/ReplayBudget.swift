/// The number of entries that one `resume` frame may still have replayed, shared by all rooms of the frame. Used on
/// the loop only.
final class ReplayBudget: Equatable {
  private var left: Int64

  /// Once a frame's rooms have used up 10,000 entries, its other rooms are answered with `reset`.
  init(_ count: Int64 = 10_000) { left = count }

  /// Takes `count` entries from the budget. Takes nothing and returns false if not enough are left.
  func take(_ count: Int64) -> Bool {
    guard count <= left else { return false }
    left -= count
    return true
  }

  static func == (left: ReplayBudget, right: ReplayBudget) -> Bool { left === right }
}
