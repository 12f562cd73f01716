internal import EventLoop

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The system calls on a connected, non-blocking TCP socket. A value that does not own the descriptor: the owner of
/// the connection calls `close`.
struct ConnectedSocket {
  let descriptor: Int32

  /// The outcome of a call that sends.
  enum Outcome {
    /// The kernel accepted this many bytes, possibly none.
    case took(Int)
    /// The connection is broken or, when a file is sent, the file has become shorter.
    case failed

    fileprivate init(_ count: Int) {
      if count >= 0 {
        self = .took(count)
      } else {
        self = errno == EAGAIN || errno == EINTR ? .took(0) : .failed
      }
    }
  }

  @inline(__always)
  func send(_ bytes: UnsafeRawBufferPointer) -> Outcome {
    #if canImport(Glibc)
      Outcome(Glibc.send(descriptor, bytes.baseAddress, bytes.count, sendFlags))
    #else
      Outcome(Darwin.send(descriptor, bytes.baseAddress, bytes.count, sendFlags))
    #endif
  }

  /// Sends two pieces with one call (writev(2)).
  func send(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Outcome {
    // The cast is safe, because writev only reads the buffers.
    var parts = (
      iovec(iov_base: UnsafeMutableRawPointer(mutating: first.baseAddress), iov_len: first.count),
      iovec(iov_base: UnsafeMutableRawPointer(mutating: second.baseAddress), iov_len: second.count)
    )
    let count = withUnsafePointer(to: &parts) {
      $0.withMemoryRebound(to: iovec.self, capacity: 2) { writev(descriptor, $0, 2) }
    }
    return Outcome(count)
  }

  /// Sends at most `count` bytes of the range of a file, without copying them to this process. `range` must not be
  /// empty.
  func send(_ file: OpenFile, _ range: Range<Int>, atMost count: Int) -> Outcome {
    let sent = sendFile(
      from: file.descriptor, at: Int64(range.lowerBound), count: min(range.count, count),
      to: descriptor)
    return sent == 0 ? .failed : Outcome(sent)
  }

  enum Input {
    case bytes(Int)
    /// Nothing has arrived since the last read.
    case none
    /// The peer has shut down its sending side.
    case end
    case failed
  }

  func receive(into buffer: UnsafeMutableRawBufferPointer) -> Input {
    let count = recv(descriptor, buffer.baseAddress, buffer.count, 0)
    if count > 0 { return .bytes(count) }
    if count == 0 { return .end }
    return errno == EAGAIN || errno == EINTR ? .none : .failed
  }

  /// The number of bytes that this kernel has accepted and the peer's kernel has not acknowledged; 0 if it cannot be
  /// determined.
  var unacknowledgedBytes: Int {
    var count: Int32 = 0
    #if canImport(Glibc)
      // SIOCOUTQ of tcp(7), which has the same value as TIOCOUTQ.
      guard ioctl(descriptor, UInt(TIOCOUTQ), &count) == 0 else { return 0 }
    #else
      var length = socklen_t(MemoryLayout<Int32>.size)
      guard getsockopt(descriptor, SOL_SOCKET, SO_NWRITE, &count, &length) == 0 else { return 0 }
    #endif
    return Int(count)
  }

  /// Shuts down the sending side (shutdown(2)). The peer sees the end after everything that was sent before.
  func endSending() { _ = shutdown(descriptor, Int32(SHUT_WR)) }

  func close() { closeDescriptor(descriptor) }
}
