import Basics
import Synchronization

/// A recorder of log lines, for tests that wait for one.
final class LogLines: Sendable {
  private struct State {
    var lines: [String] = []
    var waiting: [(text: String, continuation: CheckedContinuation<Void, Never>)] = []
  }
  private let state = Mutex(State())

  var log: Log {
    Log(level: .debug, format: .json) { [self] bytes in add(String(decoding: bytes, as: UTF8.self))
    }
  }

  private func add(_ line: String) {
    let done = state.withLock { state in
      state.lines.append(line)
      let done = state.waiting.filter { line.contains($0.text) }
      state.waiting.removeAll { line.contains($0.text) }
      return done
    }
    for waiter in done { waiter.continuation.resume() }
  }

  /// Waits for a line that contains this text. Returns at once if there was one already.
  func until(_ text: String) async {
    await withCheckedContinuation { continuation in
      let isThere = state.withLock { state in
        if state.lines.contains(where: { $0.contains(text) }) { return true }
        state.waiting.append((text, continuation))
        return false
      }
      if isThere { continuation.resume() }
    }
  }

  func count(_ text: String) -> Int { state.withLock { $0.lines.count { $0.contains(text) } } }
}
