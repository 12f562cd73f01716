internal import Basics
internal import EventLoop

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// One raw client connection of the load generator: HTTP or, after a handshake, WebSocket. As lean as possible, so
/// that the server is what is measured. Used on its loop only.
final class BenchClient {
  private let loop: Loop
  private let descriptor: Int32
  private var watch: DescriptorWatch?
  private var rest: [UInt8] = []
  private var unsent: [UInt8] = []
  private var isOpen = true
  private var isReading = true
  private var phase = Phase.connecting

  /// Called once, when the handshake is done or the HTTP connection is established.
  var onOpen: (() -> Void)?
  /// Called with each WebSocket payload, or the body of each HTTP answer. The bytes are valid during the call only.
  var onMessage: ((UnsafeRawBufferPointer) -> Void)?
  var onClose: (() -> Void)?

  private enum Phase { case connecting, handshake, frames, http }

  enum Mode {
    /// Upgrade with this request.
    case webSocket(handshake: [UInt8])
    case http
  }
  private let mode: Mode

  /// Shared by all connections of a loop: it holds nothing between reads.
  private static let bufferBytes = 1 << 20
  private nonisolated(unsafe) static let buffer = UnsafeMutableRawBufferPointer.allocate(
    byteCount: bufferBytes, alignment: 16)  // One loop runs all clients.

  /// Connections from one address. The kernel picks from the 14,000 even ports first, and searches all of them for
  /// each connection beyond.
  private static let connectionsPerAddress = 10_000

  /// `number` counts the connections to a server. Nil if the connection cannot be made.
  init?(loop: Loop, port: UInt16, number: Int, mode: Mode) {
    loop.preconditionOnLoop()
    self.loop = loop
    self.mode = mode
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    var on: Int32 = 1
    setsockopt(
      descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    let place = number / Self.connectionsPerAddress
    if place > 0 { Self.bindLoopback(descriptor, place) }
    let status = Self.withLoopback(0, port) { connect(descriptor, $0, $1) }
    guard status == 0 || errno == EINPROGRESS else {
      Glibc.close(descriptor)
      return nil
    }
    // Unowned: the client owns the watch, and closes it. If there is no watch, the benchmark ends, whatever the
    // reason.
    guard
      let watch = try? DescriptorWatch(
        loop: loop, descriptor: descriptor, watching: [.readable, .writable],
        { [unowned self] in ready($0) })
    else {
      Glibc.close(descriptor)
      return nil
    }
    self.watch = watch
  }

  /// Makes a socket connect from another loopback address. If that fails, it connects from the first.
  private static func bindLoopback(_ descriptor: Int32, _ place: Int) {
    #if canImport(Glibc)
      // Lets the system choose the port when the destination is known (ip(7)).
      var on: Int32 = 1
      setsockopt(
        descriptor, Int32(IPPROTO_IP), IP_BIND_ADDRESS_NO_PORT, &on,
        socklen_t(MemoryLayout<Int32>.size))
      _ = withLoopback(place, 0) { bind(descriptor, $0, $1) }
    #endif
  }

  /// One of 127.0.0.1 and the addresses after it, valid during the call.
  private static func withLoopback<Result>(
    _ place: Int, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
  ) -> Result {
    var name = sockaddr_in()
    name.sin_family = sa_family_t(AF_INET)
    name.sin_port = port.bigEndian
    name.sin_addr.s_addr = (UInt32(0x7F00_0001) + UInt32(place)).bigEndian
    return withUnsafePointer(to: &name) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
  }

  func close() {
    guard isOpen else { return }
    isOpen = false
    watch?.close()
    Glibc.close(descriptor)
    onClose?()
  }

  // MARK: Sending

  func send(_ bytes: [UInt8]) {
    guard isOpen else { return }
    guard unsent.isEmpty else {
      unsent += bytes
      return
    }
    let sent = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, noSignal) }
    if sent == bytes.count { return }
    guard sent >= 0 || errno == EAGAIN else {
      close()
      return
    }
    unsent = Array(bytes[max(0, sent)...])
    watch?.watch([.readable, .writable])
  }

  /// A masked text frame (RFC 6455, 5.3). A key of zeros, because the server does the same work for it.
  static func textFrame(_ payload: [UInt8]) -> [UInt8] {
    var frame: [UInt8] = [0x81]
    if payload.count < 126 {
      frame.append(0x80 | UInt8(payload.count))
    } else {
      frame += [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
    }
    return frame + [0, 0, 0, 0] + payload
  }

  // MARK: Receiving

  /// Stops reading: once the kernel's buffers are full, what the server sends stays in the server.
  func stopReading() {
    isReading = false
    watch?.watch([])
  }

  private func ready(_ events: DescriptorWatch.Readiness) {
    if events.contains(.failed) {
      close()
      return
    }
    if events.contains(.writable) {
      if phase == .connecting { connected() }
      flush()
    }
    if events.contains(.readable), isOpen, isReading { read() }
  }

  private func connected() {
    switch mode {
    case .webSocket(let handshake):
      phase = .handshake
      unsent = handshake + unsent
    case .http:
      phase = .http
      onOpen?()
    }
  }

  private func flush() {
    guard isOpen else { return }
    if !unsent.isEmpty {
      let bytes = unsent
      unsent = []
      send(bytes)
    }
    if unsent.isEmpty, isOpen { watch?.watch(isReading ? .readable : []) }
  }

  private func read() {
    let start = Self.buffer.baseAddress!  // allocated with a size above zero
    let kept = rest.count
    if kept > 0 {
      rest.withUnsafeBytes { start.copyMemory(from: $0.baseAddress!, byteCount: kept) }
    }
    let count = recv(descriptor, start + kept, Self.bufferBytes - kept, 0)
    guard count > 0 else {
      if count == 0 || errno != EAGAIN { close() }
      return
    }
    let bytes = UnsafeRawBufferPointer(start: start, count: kept + count)
    let used = consume(bytes)
    if used == bytes.count { if kept > 0 { rest = [] } } else { rest = Array(bytes[used...]) }
  }

  private func consume(_ bytes: UnsafeRawBufferPointer) -> Int {
    var position = 0
    if phase == .handshake {
      guard let end = endOfHead(bytes) else { return 0 }
      guard bytes[9] == UInt8(ascii: "1") else {
        close()
        return bytes.count
      }
      position = end
      phase = .frames
      onOpen?()
    }
    if phase == .http { return consumeHTTP(bytes) }
    // Loaded once for all frames of a read.
    let onMessage = onMessage
    while position + 2 <= bytes.count {
      var length = Int(bytes[position + 1] & 127)
      var header = 2
      if length == 126 {
        guard position + 4 <= bytes.count else { break }
        length = Int(bytes[position + 2]) << 8 | Int(bytes[position + 3])
        header = 4
      } else if length == 127 {
        guard position + 10 <= bytes.count else { break }
        length = bytes[(position + 2)..<(position + 10)].reduce(0) { $0 << 8 | Int($1) }
        header = 10
      }
      let end = position + header + length
      guard end <= bytes.count else { break }
      if bytes[position] & 15 == 1 {
        onMessage?(UnsafeRawBufferPointer(rebasing: bytes[(position + header)..<end]))
      } else if bytes[position] & 15 == 8 {
        close()
        return bytes.count
      }
      position = end
    }
    return position
  }

  private func consumeHTTP(_ bytes: UnsafeRawBufferPointer) -> Int {
    var position = 0
    while let head = endOfHead(UnsafeRawBufferPointer(rebasing: bytes[position...])) {
      let length = contentLength(
        UnsafeRawBufferPointer(rebasing: bytes[position..<(position + head)]))
      let end = position + head + length
      guard end <= bytes.count else { break }
      let body = UnsafeRawBufferPointer(rebasing: bytes[(position + head)..<end])
      position = end
      onMessage?(body)
    }
    return position
  }

  private func endOfHead(_ bytes: UnsafeRawBufferPointer) -> Int? {
    var index = 3
    while index < bytes.count {
      if bytes[index] == 10, bytes[index - 1] == 13, bytes[index - 2] == 10, bytes[index - 3] == 13
      {
        return index + 1
      }
      index += 1
    }
    return nil
  }

  private func contentLength(_ head: UnsafeRawBufferPointer) -> Int {
    let name = Array("content-length:".utf8)
    var index = 0
    while index + name.count < head.count {
      if (0..<name.count).allSatisfy({ head[index + $0] | 0x20 == name[$0] | 0x20 }) {
        var value = 0
        var digit = index + name.count
        while digit < head.count, head[digit] == 32 { digit += 1 }
        while digit < head.count, (48...57).contains(head[digit]) {
          value = value * 10 + Int(head[digit] - 48)
          digit += 1
        }
        return value
      }
      index += 1
    }
    return 0
  }
}

#if canImport(Glibc)
  private let noSignal = Int32(bitPattern: UInt32(MSG_NOSIGNAL))
#else
  private let noSignal: Int32 = 0
#endif
