package import Basics
internal import Live
package import Web

/// The socket of a connection whose reader takes bytes when the test says so.
package final class FakeSink: FrameSink {
  package let address = IPAddress(ipv4: 0x7f00_0001)
  package let outlet: Outlet
  package private(set) var isOpen = true
  package private(set) var closedWith: CloseCode?
  /// The bytes that the reader has taken.
  package private(set) var received: [UInt8] = []
  /// The bytes that wait for the reader.
  package private(set) var queue: [UInt8] = []
  /// Called when this side closes, as a socket tells its protocol.
  package var closing: () -> Void = {}
  /// The number of bytes that are taken at once.
  package var window = Int.max

  package init() {
    // Never written to directly: everything is sent by the methods below.
    outlet = Outlet(descriptor: -1, isSecure: true)
    outlet.blockers.remove(.closed)
  }

  package var queuedBytes: Int { queue.count }

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

  package func send(frames: UnsafeRawBufferPointer) { take(frames) }
  package func send(frames: SharedBytes, in range: Range<Int>, hasBegun: Bool) {
    take(frames.bytes[range])
  }

  /// The reader takes `count` bytes. Returns true if those were all.
  package func read(_ count: Int) -> Bool {
    received += queue.prefix(count)
    queue.removeFirst(min(count, queue.count))
    return queue.isEmpty
  }

  package private(set) var isReading = true
  package func setReading(_ isReading: Bool) { self.isReading = isReading }
  package func resumeWriting() {}
  package func tick(by moment: Int64) {}

  package func close(_ code: CloseCode) {
    guard isOpen else { return }
    isOpen = false
    closedWith = code
    outlet.blockers.insert(.closed)
    closing()
  }
}
