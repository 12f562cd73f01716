#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The shortest path from a batch of frames to one plain socket: everything that a fan-out needs to know about a
/// connection, on one cache line. Used on its loop only.
///
/// While nothing blocks it, `sendDirect` is a plain `send`. Everything else uses `WebSocket.send`.
package final class Outlet {
  package struct Blockers: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The socket is closing, closed, or not a WebSocket yet.
    package static let closed = Blockers(rawValue: 1)
    /// TLS has to encrypt the bytes first.
    package static let secure = Blockers(rawValue: 2)
    /// Earlier bytes are still queued.
    package static let queued = Blockers(rawValue: 4)
    /// Frames for this connection alone must be sent first.
    package static let ownFrames = Blockers(rawValue: 8)
  }

  private let descriptor: Int32
  package var blockers: Blockers

  package init(descriptor: Int32, isSecure: Bool) {
    self.descriptor = descriptor
    blockers = isSecure ? [.closed, .secure] : .closed
  }

  /// Sends bytes at once. Returns how many the kernel accepted; 0 also if the socket is broken, which
  /// `WebSocket.send` of the rest then detects. Only while `blockers` is empty.
  package func sendDirect(_ bytes: UnsafeRawBufferPointer) -> Int {
    max(0, send(descriptor, bytes.baseAddress, bytes.count, sendFlags))
  }
}

#if canImport(Glibc)
  /// No SIGPIPE if the peer is gone, and no blocking.
  let sendFlags =
    Int32(bitPattern: UInt32(MSG_NOSIGNAL)) | Int32(bitPattern: UInt32(MSG_DONTWAIT))
#else
  let sendFlags = MSG_DONTWAIT
#endif

func closeDescriptor(_ descriptor: Int32) { close(descriptor) }
