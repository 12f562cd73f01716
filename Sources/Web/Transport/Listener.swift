internal import Basics
internal import EventLoop

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A listening socket on one loop. Each loop has its own on the same port (SO_REUSEPORT), and the kernel distributes
/// connections among them.
final class Listener {
  private let loop: Loop
  private let descriptor: Int32
  private var watch: DescriptorWatch?
  private let accepted: (Int32, IPAddress) -> Void
  private var isOpen = true
  /// Set while accepting waits for a free descriptor.
  private var retry: LoopTimer?

  /// How long accepting pauses when the process has no descriptor left.
  private static let retryMilliseconds = 100
  /// The connections accepted in one turn, so that a storm of them leaves room for those already open.
  private static let acceptsPerTurn = 64

  /// Binds without listening yet. Throws `SystemError`.
  ///
  /// With `isFirst` nobody else may use the address. Sockets with SO_REUSEPORT would otherwise share the port with
  /// another server of the same user, and neither would notice.
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

  /// Binds to `name`, and replaces it with what the kernel chose.
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

  /// Starts to listen on a bound descriptor, which this object then owns. On the loop.
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
        // No resources, or a peer that gave up: the next turn tries again.
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

  /// While nothing can be accepted, the listener stays readable, so watching it would keep the loop spinning.
  private func waitForDescriptor() {
    watch?.watch([])
    // Unowned: the listener owns the timer, and cancels it.
    retry = loop.schedule(after: Self.retryMilliseconds) { [unowned self] in
      retry = nil
      watch?.watch(.readable)
    }
  }

  /// Stops listening. Connections stay open.
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
