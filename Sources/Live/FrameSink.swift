package import Basics
package import Web

/// Where a connection's frames go: a WebSocket. On its loop only.
package protocol FrameSink: AnyObject {
  /// The client's address, also behind a trusted proxy.
  var address: IPAddress { get }
  /// False from the moment that either side closes.
  var isOpen: Bool { get }
  /// The shortest way to a plain socket, while nothing blocks it.
  var outlet: Outlet { get }
  /// Bytes that wait for the reader.
  var queuedBytes: Int { get }

  /// Sends whole frames, after all that was sent before.
  func send(frames: UnsafeRawBufferPointer)
  /// As above, a range of frames; what must wait is kept by reference. `hasBegun` where a part of the first frame has
  /// been sent already.
  func send(frames: SharedBytes, in range: Range<Int>, hasBegun: Bool)
  /// Stops or resumes reading: while it is stopped the client's frames wait on its side.
  func setReading(_ isReading: Bool)
  /// What had to wait because it might not be written may leave.
  func resumeWriting()
  /// Its handler is to be ticked at this moment, if not earlier (`Monotonic.milliseconds`).
  func tick(by moment: Int64)
  /// Starts the closing handshake, behind what was sent.
  func close(_ code: CloseCode)
}

extension WebSocket: FrameSink {}
