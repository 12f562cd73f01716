package import Basics
package import Web

/// The destination of a connection's frames: a WebSocket. Used on its loop only.
package protocol FrameSink: AnyObject {
  /// The client's address, also behind a trusted proxy.
  var address: IPAddress { get }
  /// False as soon as either side has begun to close.
  var isOpen: Bool { get }
  /// The shortcut to a plain socket, usable while nothing blocks it.
  var outlet: Outlet { get }
  /// The number of bytes that wait for the reader.
  var queuedBytes: Int { get }

  /// Sends whole frames, after everything that was sent before.
  func send(frames: UnsafeRawBufferPointer)
  /// The same for a range of a shared batch. What has to wait is kept by reference, not copied. `hasBegun` means that
  /// a part of the first frame was sent already.
  func send(frames: SharedBytes, in range: Range<Int>, hasBegun: Bool)
  /// Stops or resumes reading. While it is stopped, the client's frames wait on the client's side.
  func setReading(_ isReading: Bool)
  /// Lets data leave that had to wait because it might not be written.
  func resumeWriting()
  /// The handler wants a tick at this moment of `Monotonic.milliseconds`, if none comes earlier.
  func tick(by moment: Int64)
  /// Starts the closing handshake, after everything that was sent.
  func close(_ code: CloseCode)
}

extension WebSocket: FrameSink {}
