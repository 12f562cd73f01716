#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The shortest path from a batch of frames to one plain socket. It holds everything that fan-out needs to know about
/// a connection, on one cache line. Used on its loop only.
///
/// While `blockers` is empty, `sendDirect` may be used, which is a plain `send`. Otherwise `WebSocket.send` must be
/// used.
package final class Outlet {
  /// The reasons why `sendDirect` must not be used.
  package struct Blockers: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The connection is closing, closed, or not a WebSocket yet.
    package static let closed = Blockers(rawValue: 1)
    /// TLS has to encrypt the bytes first.
    package static let secure = Blockers(rawValue: 2)
    /// Earlier bytes are still queued.
    package static let queued = Blockers(rawValue: 4)
    /// Frames that are meant for this connection alone must be sent first.
    package static let ownFrames = Blockers(rawValue: 8)
  }

  private let descriptor: Int32
  package var blockers: Blockers

  package init(descriptor: Int32, isSecure: Bool) {
    self.descriptor = descriptor
    blockers = isSecure ? [.closed, .secure] : .closed
  }

  /// Sends bytes at once. Must be called only while `blockers` is empty. Returns how many bytes the kernel accepted.
  /// The caller passes the rest to `WebSocket.send`. Returns 0 also if the socket is broken, which that call then
  /// detects.
  package func sendDirect(_ bytes: UnsafeRawBufferPointer) -> Int {
    max(0, send(descriptor, bytes.baseAddress, bytes.count, sendFlags))
  }
}

#if canImport(Glibc)
  /// The flags for `send`: no SIGPIPE if the peer has closed the connection, and no blocking.
  let sendFlags =
    Int32(bitPattern: UInt32(MSG_NOSIGNAL)) | Int32(bitPattern: UInt32(MSG_DONTWAIT))
#else
  let sendFlags = MSG_DONTWAIT
#endif

func closeDescriptor(_ descriptor: Int32) { close(descriptor) }
