internal import Basics
internal import EventLoop

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A listening socket on one loop. Each loop has its own socket on the same port (SO_REUSEPORT), and the kernel
/// distributes connections among them. Used on its loop only.
final class Listener {
  private let loop: Loop
  private let descriptor: Int32
  private var watch: DescriptorWatch?
  private let accepted: (Int32, IPAddress) -> Void
  private var isOpen = true
  /// The timer that resumes accepting; set while accepting is paused for lack of resources.
  private var retry: LoopTimer?

  /// How long accepting pauses when the process has no file descriptor or the kernel no memory left.
  private static let retryMilliseconds = 100
  /// The most connections that are accepted in one turn, so that a burst of them does not delay the open ones.
  private static let acceptsPerTurn = 64

  /// Makes a socket and binds it, without listening yet. Returns it with its port, which the system has chosen if the
  /// address has port 0. The caller owns the descriptor. Throws `SystemError`.
  ///
  /// With `isFirst` this fails if another process uses the address: a socket without SO_REUSEPORT is bound first, and
  /// closed again. Without this test, sockets with SO_REUSEPORT would share the port with another server of the same
  /// user, and neither would notice.
  static func makeSocket(
    boundTo address: ListenAddress, isFirst: Bool
  ) throws -> (descriptor: Int32, port: UInt16) {
    var address = address
    if isFirst {
      let (probe, port) = try makeSocket(boundTo: address, sharesPort: false)
      close(probe)
      address.port = port
    }
    return try makeSocket(boundTo: address, sharesPort: true)
  }

  /// Closes a socket that was made and that no listener owns.
  static func closeSocket(_ descriptor: Int32) { close(descriptor) }

  private static func makeSocket(
    boundTo address: ListenAddress, sharesPort: Bool
  ) throws -> (descriptor: Int32, port: UInt16) {
    let isIPv6 = address.host.contains(":")
    let descriptor = socket(
      isIPv6 ? AF_INET6 : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw SystemError("socket", errno: errno) }
    do {
      _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
      _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
      try set(descriptor, SO_REUSEADDR)
      if sharesPort { try set(descriptor, SO_REUSEPORT) }
      let port =
        isIPv6 ? try bindIPv6(descriptor, address) : try bindIPv4(descriptor, address)
      return (descriptor, port)
    } catch {
      close(descriptor)
      throw error
    }
  }

  private static func set(_ descriptor: Int32, _ option: Int32) throws {
    var on: Int32 = 1
    guard setsockopt(descriptor, SOL_SOCKET, option, &on, socklen_t(MemoryLayout<Int32>.size)) == 0
    else { throw SystemError("setsockopt", errno: errno) }
  }

  private static func bindIPv4(
    _ descriptor: Int32, _ address: ListenAddress
  ) throws -> UInt16 {
    var name = sockaddr_in()
    name.sin_family = sa_family_t(AF_INET)
    name.sin_port = address.port.bigEndian
    inet_pton(AF_INET, address.host, &name.sin_addr)
    try bindAndAsk(descriptor, &name, "bind \(address)")
    return UInt16(bigEndian: name.sin_port)
  }

  private static func bindIPv6(
    _ descriptor: Int32, _ address: ListenAddress
  ) throws -> UInt16 {
    var name = sockaddr_in6()
    name.sin6_family = sa_family_t(AF_INET6)
    name.sin6_port = address.port.bigEndian
    inet_pton(AF_INET6, address.host, &name.sin6_addr)
    try bindAndAsk(descriptor, &name, "bind \(address)")
    return UInt16(bigEndian: name.sin6_port)
  }

  /// Binds the socket to `name`, and replaces `name` with the address and port that the kernel has assigned. `call`
  /// names the operation in the error.
  private static func bindAndAsk<Name>(
    _ descriptor: Int32, _ name: inout Name, _ call: String
  ) throws {
    var length = socklen_t(MemoryLayout<Name>.size)
    let status = withUnsafeMutablePointer(to: &name) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        let status = bind(descriptor, pointer, length)
        return status == 0 ? getsockname(descriptor, pointer, &length) : status
      }
    }
    guard status == 0 else { throw SystemError(call, errno: errno) }
  }

  /// Starts to listen on a bound descriptor, which this object then owns. Must be called on the loop. `accepted` takes
  /// ownership of each accepted descriptor. Throws `SystemError`; the descriptor stays open then.
  init(
    loop: Loop, descriptor: Int32, accepted: @escaping (Int32, IPAddress) -> Void
  ) throws {
    loop.preconditionOnLoop()
    self.loop = loop
    self.descriptor = descriptor
    self.accepted = accepted
    var on: Int32 = 1
    // Connections inherit this option. If it fails, only latency suffers.
    _ = setsockopt(
      descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    guard listen(descriptor, 4096) == 0 else { throw SystemError("listen", errno: errno) }
    // Unowned: the listener owns the watch, and closes it.
    watch = try DescriptorWatch(loop: loop, descriptor: descriptor, watching: .readable) {
      [unowned self] _ in acceptSome()
    }
  }

  private func acceptSome() {
    for _ in 0..<Self.acceptsPerTurn {
      let (connection, peer) = acceptNonblocking(on: descriptor)
      guard connection >= 0 else {
        // No more connections wait, or the peer has already given up: the loop calls this again when the socket is
        // readable. Without resources, accepting pauses.
        if [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(errno) { waitForDescriptor() }
        return
      }
      guard let peer else {
        close(connection)
        continue
      }
      accepted(connection, peer)
    }
  }

  /// Pauses accepting. A socket whose connections cannot be accepted stays readable, so watching it would make the
  /// loop spin.
  private func waitForDescriptor() {
    watch?.watch([])
    // Unowned: the listener owns the timer, and cancels it.
    retry = loop.schedule(after: Self.retryMilliseconds) { [unowned self] in
      retry = nil
      watch?.watch(.readable)
    }
  }

  /// Stops listening and closes the listening socket. Accepted connections stay open. Calling it again does nothing.
  func stop() {
    loop.preconditionOnLoop()
    guard isOpen else { return }
    isOpen = false
    retry?.cancel()
    watch?.close()
    watch = nil
    close(descriptor)
  }
}
