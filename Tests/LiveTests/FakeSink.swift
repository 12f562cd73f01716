import Basics
import Web

@testable import Live

/// A connection's socket whose reader takes bytes when the test says so.
final class FakeSink: FrameSink {
  let address = IPAddress(ipv4: 0x7f00_0001)
  let outlet: Outlet
  private(set) var isOpen = true
  private(set) var closedWith: CloseCode?
  /// What its reader has taken.
  private(set) var received: [UInt8] = []
  /// What waits for the reader.
  private(set) var queue: [UInt8] = []
  /// As many bytes are taken at once.
  var window = Int.max

  init() {
    // Never written directly: all that it is sent comes by the methods below.
    outlet = Outlet(descriptor: -1, isSecure: true)
    outlet.blockers.remove(.closed)
  }

  var queuedBytes: Int { queue.count }

  private func take(_ bytes: some Collection<UInt8>) {
    guard isOpen else { return }
    guard queue.isEmpty else {
      queue += bytes
      return
    }
    let now = min(window, bytes.count)
    received += bytes.prefix(now)
    queue += bytes.dropFirst(now)
  }

  func send(frames: UnsafeRawBufferPointer) { take(frames) }
  func send(frames: SharedBytes, from offset: Int) { take(frames.bytes[offset...]) }

  /// The reader takes so many bytes; true where that was all.
  func read(_ count: Int) -> Bool {
    received += queue.prefix(count)
    queue.removeFirst(min(count, queue.count))
    return queue.isEmpty
  }

  func setReading(_ isReading: Bool) {}
  func resumeWriting() {}

  func close(_ code: CloseCode) {
    isOpen = false
    closedWith = code
  }
}
