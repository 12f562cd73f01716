package import Basics
package import Web

/// The destination of a connection's frames: a WebSocket. Used on its loop only.
package protocol FrameSink: AnyObject {
  /// The client's address, also behind a trusted proxy.
  var address: IPAddress { get }
  /// False as soon as either side has begun to close.
  var isOpen: Bool { get }
  /// The direct path to a socket without TLS, usable while its `blockers` are empty.
  var outlet: Outlet { get }
  /// The number of bytes that are queued because the kernel has not accepted them yet.
  var queuedBytes: Int { get }

  /// Sends whole frames, after everything that was sent before.
  func send(frames: UnsafeRawBufferPointer)
  /// The same for a range of a shared batch. What has to wait is kept by reference, not copied. `hasBegun` means that
  /// a part of the first frame was sent already.
  func send(frames: SharedBytes, in range: Range<Int>, hasBegun: Bool)
  /// Stops or resumes reading. While it is stopped, the client's frames wait on the client's side.
  func setReading(_ isReading: Bool)
  /// Resumes sending the bytes that were queued because they were not allowed to be written. Must be called when that
  /// has changed.
  func resumeWriting()
  /// Requests a call of the handler's `tick` at this moment of `Monotonic.milliseconds`, unless one comes earlier.
  func tick(by moment: Int64)
  /// Starts the closing handshake. Queued bytes are sent first, unless the client reads too slowly (`slowReader`) or
  /// must not receive them any more.
  func close(_ code: CloseCode)
}

extension WebSocket: FrameSink {}
