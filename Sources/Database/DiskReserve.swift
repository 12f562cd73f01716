internal import Basics
internal import Synchronization

/// Watches the free space of the file system that holds a directory. The result of a check is reused for a second, or
/// until the bytes owed have changed by more than an eighth of the reserve.
package final class DiskReserve: Sendable {
  private let path: String
  private let reserve: Int64
  private struct State {
    var checkedAt: Int64 = .min
    var owed: Int64 = 0
    var isLow = false
  }
  private let state = Mutex(State())

  package init(path: String, reserve: Int64) {
    self.path = path
    self.reserve = reserve
  }

  /// Whether less than the reserve is free, after subtracting `owed` bytes that will be written in any case. A
  /// directory that cannot be queried counts as full.
  package func isLow(owing owed: Int64) -> Bool {
    let now = Monotonic.milliseconds
    return state.withLock { state in
      let hasMoved = (owed - state.owed).magnitude > UInt64(reserve / 8)
      if now - 1000 >= state.checkedAt || hasMoved {
        state.checkedAt = now
        state.owed = owed
        // `try?`: if the disk fails, essential writes fail too and report the reason. Otherwise refusing the other
        // writes keeps log-out working.
        let free = (try? FileSystem.freeBytes(path)) ?? 0
        state.isLow = free - owed < reserve
      }
      return state.isLow
    }
  }
}
