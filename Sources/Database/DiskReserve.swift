internal import Basics
internal import Synchronization

/// Watches the free space below a directory. Looks at most once a second.
package final class DiskReserve: Sendable {
  private let path: String
  private let reserve: Int64
  private struct State {
    var checkedAt: Int64 = .min
    var isLow = false
  }
  private let state = Mutex(State())

  package init(path: String, reserve: Int64) {
    self.path = path
    self.reserve = reserve
  }

  /// Whether less than the reserve is free. A directory that cannot be asked counts as full.
  package var isLow: Bool {
    let now = Monotonic.milliseconds
    return state.withLock { state in
      if now - 1000 >= state.checkedAt {
        state.checkedAt = now
        // The writes that follow would fail and say why; refusing them first keeps log-out working.
        let free = (try? FileSystem.freeBytes(path)) ?? 0
        state.isLow = free < reserve
      }
      return state.isLow
    }
  }
}
