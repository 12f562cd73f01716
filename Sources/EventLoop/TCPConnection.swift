internal import Basics
internal import CLibUV

/// An outgoing TCP connection, which resolves the host, tries its addresses one after the other, and then sends and
/// receives bytes. Used on its loop only.
///
/// http://docs.libuv.org/en/v1.x/tcp.html
package final class TCPConnection {
  package enum Event {
    /// Bytes can be sent from now on.
    case connected
    case received([UInt8])
    /// The connection could not be made or has ended, for this reason (a text for the log). No further events follow.
    /// Not reported after `close`.
    case failed(String)
  }

  private let loop: Loop
  private let host: String
  private let port: UInt16
  /// Nil once the connection is closed.
  private var handle: ((Event) -> Void)?
  /// Addresses that have not been tried yet.
  private var addresses: [sockaddr_storage] = []
  private var lastFailure = "the host has no address"
  private var socket: UnsafeMutablePointer<uv_tcp_t>?
  /// The timer that ends the attempt at an address that does not answer.
  private var attempt: LoopTimer?
  /// The buffer that libuv reads into. One is enough, because each read's bytes are copied before the next read.
  private let buffer: UnsafeMutableBufferPointer<CChar>

  private static let bufferBytes = 64 * 1024
  /// The time in which an address must answer before the next address is tried.
  private static let attemptMilliseconds = 2000

  /// Begins to connect. On the loop only. `handle` gets the events, on the loop and never before this returns.
  package init(
    loop: Loop, host: String, port: UInt16, _ handle: @escaping (Event) -> Void
  ) {
    loop.preconditionOnLoop()
    self.loop = loop
    self.host = host
    self.port = port
    self.handle = handle
    buffer = .allocate(capacity: Self.bufferBytes)
    findAddresses()
  }

  deinit { buffer.deallocate() }

  /// The number of bytes that were passed to `send` and that the kernel has not accepted yet.
  package var queuedBytes: Int { stream.map { uv_stream_get_write_queue_size($0) } ?? 0 }

  /// Closes the connection. Calling it again does nothing.
  package func close() {
    loop.preconditionOnLoop()
    handle = nil
    addresses = []
    closeSocket()
  }

  private func fail(_ reason: String) {
    let handle = handle
    close()
    handle?(.failed(reason))
  }

  private func fail(_ call: StaticString, _ status: Int32) {
    fail(Self.text(call, status))
  }

  private static func text(_ call: StaticString, _ status: Int32) -> String {
    "\(call): \(String(cString: uv_strerror(status)))"
  }

  // MARK: Addresses

  private func findAddresses() {
    let request = UnsafeMutablePointer<uv_getaddrinfo_t>.allocate(capacity: 1)
    // Retained until the answer comes, in the callback below.
    request.pointee.data = Unmanaged.passRetained(self).toOpaque()
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    let status = uv_getaddrinfo(
      loop.uv, request,
      { request, status, found in
        guard let request, let data = request.pointee.data else { return }
        let connection = Unmanaged<TCPConnection>.fromOpaque(data).takeRetainedValue()
        request.deallocate()
        connection.found(found, status)
        uv_freeaddrinfo(found)
      }, host, String(port), &hints)
    guard status != 0 else { return }
    request.deallocate()
    // Balances `passRetained` above, because no callback will come.
    Unmanaged.passUnretained(self).release()
    loop.onNextTurn { self.fail("getaddrinfo", status) }
  }

  private func found(_ first: UnsafeMutablePointer<addrinfo>?, _ status: Int32) {
    guard handle != nil else { return }
    guard status == 0 else {
      fail("getaddrinfo", status)
      return
    }
    var next = first
    while let info = next {
      if let address = info.pointee.ai_addr {
        var storage = sockaddr_storage()
        let length = min(Int(info.pointee.ai_addrlen), MemoryLayout<sockaddr_storage>.size)
        withUnsafeMutableBytes(of: &storage) {
          $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: length))
        }
        addresses.append(storage)
      }
      next = info.pointee.ai_next
    }
    connect()
  }

  // MARK: Connecting

  private func connect() {
    guard !addresses.isEmpty else {
      fail(lastFailure)
      return
    }
    var address = addresses.removeFirst()
    let socket = UnsafeMutablePointer<uv_tcp_t>.allocate(capacity: 1)
    // Fails only if memory runs out: it creates no descriptor yet.
    guard uv_tcp_init(loop.uv, socket) == 0 else {
      socket.deallocate()
      fail("uv_tcp_init", UV_ENOMEM.rawValue)
      return
    }
    // Retained until the socket is closed; released in `closeSocket`.
    socket.pointee.data = Unmanaged.passRetained(self).toOpaque()
    self.socket = socket
    let request = UnsafeMutablePointer<uv_connect_t>.allocate(capacity: 1)
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        uv_tcp_connect(request, socket, $0) { request, status in
          guard let request, let data = request.pointee.handle?.pointee.data else { return }
          // Still retained: if the socket is closed, this is called before the close callback, which releases.
          let connection = Unmanaged<TCPConnection>.fromOpaque(data).takeUnretainedValue()
          request.deallocate()
          connection.connectEnded(status)
        }
      }
    }
    attempt = loop.schedule(after: Self.attemptMilliseconds) { [weak self] in
      self?.connectEnded(UV_ETIMEDOUT.rawValue)
    }
    guard status != 0 else { return }
    request.deallocate()
    loop.onNextTurn { self.connectEnded(status) }
  }

  private func connectEnded(_ status: Int32) {
    // When a socket is closed, its attempt is cancelled, and this is called with UV_ECANCELED.
    guard handle != nil, status != UV_ECANCELED.rawValue, let socket, let stream else { return }
    attempt?.cancel()
    attempt = nil
    guard status == 0 else {
      lastFailure = Self.text("connect", status)
      closeSocket()
      connect()
      return
    }
    addresses = []
    uv_tcp_nodelay(socket, 1)
    uv_read_start(
      stream,
      { handle, _, buffer in
        guard let data = handle?.pointee.data else { return }
        let bytes = Unmanaged<TCPConnection>.fromOpaque(data).takeUnretainedValue().buffer
        buffer?.pointee = uv_buf_init(bytes.baseAddress, UInt32(bytes.count))
      },
      { stream, count, _ in
        guard let data = stream?.pointee.data else { return }
        Unmanaged<TCPConnection>.fromOpaque(data).takeUnretainedValue().read(count)
      })
    handle?(.connected)
  }

  // MARK: Bytes

  private func read(_ count: Int) {
    if count > 0 {
      handle?(.received([UInt8](UnsafeRawBufferPointer(buffer)[..<count])))
    } else if count < 0 {
      fail("read", Int32(clamping: count))
    }
  }

  /// Sends bytes, after those of earlier calls, without waiting. Only while connected. The caller has to bound
  /// `queuedBytes`.
  package func send(_ bytes: [UInt8]) {
    guard handle != nil, let stream, !bytes.isEmpty else { return }
    let request = UnsafeMutablePointer<uv_write_t>.allocate(capacity: 1)
    let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count)
    _ = copy.initialize(from: bytes)
    request.pointee.data = UnsafeMutableRawPointer(copy.baseAddress)
    var part = copy.withMemoryRebound(to: CChar.self) {
      uv_buf_init($0.baseAddress, UInt32(clamping: $0.count))
    }
    let status = uv_write(request, stream, &part, 1) { request, status in
      guard let request else { return }
      request.pointee.data?.deallocate()
      let data = request.pointee.handle?.pointee.data
      request.deallocate()
      // When a socket is closed, waiting writes are cancelled; `fail` reports nothing then.
      guard status != 0, let data else { return }
      let connection = Unmanaged<TCPConnection>.fromOpaque(data).takeUnretainedValue()
      connection.fail("write", status)
    }
    guard status != 0 else { return }
    copy.deallocate()
    request.deallocate()
    loop.onNextTurn { self.fail("write", status) }
  }

  private var stream: UnsafeMutablePointer<uv_stream_t>? {
    socket.map { UnsafeMutableRawPointer($0).assumingMemoryBound(to: uv_stream_t.self) }
  }

  private func closeSocket() {
    attempt?.cancel()
    attempt = nil
    guard let socket else { return }
    self.socket = nil
    uv_close(UnsafeMutableRawPointer(socket).assumingMemoryBound(to: uv_handle_t.self)) { handle in
      guard let handle, let data = handle.pointee.data else { return }
      UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_tcp_t.self).deallocate()
      // Balances `passRetained` in `connect`.
      Unmanaged<TCPConnection>.fromOpaque(data).release()
    }
  }
}
