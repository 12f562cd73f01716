#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The shortest way from a batch of frames to one plain socket: what a fan-out needs to know of a
/// connection, on one cache line. On its loop only.
///
/// While nothing blocks it, `sendDirect` is a `send`; for everything else there is `WebSocket.send`.
package final class Outlet {
  package struct Blockers: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Closing, closed, or not a WebSocket yet.
    package static let closed = Blockers(rawValue: 1)
    /// TLS has to encrypt first.
    package static let secure = Blockers(rawValue: 2)
    /// Earlier bytes wait for the reader.
    package static let queued = Blockers(rawValue: 4)
    /// Frames for this connection alone have to go first.
    package static let ownFrames = Blockers(rawValue: 8)
  }

  private let descriptor: Int32
  package var blockers: Blockers

  package init(descriptor: Int32, isSecure: Bool) {
    self.descriptor = descriptor
    blockers = isSecure ? [.closed, .secure] : .closed
  }

  /// Sends bytes now; returns how many the kernel took, 0 where it took none or the socket is broken:
  /// whoever sends the rest by `WebSocket.send` finds out. Only while `blockers` is empty.
  package func sendDirect(_ bytes: UnsafeRawBufferPointer) -> Int {
    max(0, send(descriptor, bytes.baseAddress, bytes.count, sendFlags))
  }
}

#if canImport(Glibc)
  /// No SIGPIPE where the peer is gone, and no waiting.
  let sendFlags =
    Int32(bitPattern: UInt32(MSG_NOSIGNAL)) | Int32(bitPattern: UInt32(MSG_DONTWAIT))
#else
  let sendFlags = MSG_DONTWAIT
#endif

func closeDescriptor(_ descriptor: Int32) { close(descriptor) }
