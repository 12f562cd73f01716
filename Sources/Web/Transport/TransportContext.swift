internal import Basics
internal import CLibWebSockets
internal import EventLoop

/// libwebsockets on one event loop: sockets, TLS, and what a partial write left over.
///
/// All contact with libwebsockets is in this folder. Its raw role is used, not its HTTP role: that one
/// takes bare line feeds and disguised Transfer-Encoding headers, and closes without the 408 and 431
/// that clients are promised (docs/decisions/0002).
final class TransportContext {
  let loop: Loop
  private let context: OpaquePointer
  private let virtualHost: OpaquePointer
  private let usesTLS: Bool
  // libwebsockets keeps pointers to these for the life of the context.
  private let protocols: UnsafeMutablePointer<lws_protocols>
  private let loops: UnsafeMutablePointer<UnsafeMutableRawPointer?>

  /// A certificate chain and its key, PEM files.
  struct Certificate: Sendable {
    let chainPath: String
    let keyPath: String
  }

  /// Bytes taken from a socket at once.
  private static let readBufferBytes: UInt32 = 64 * 1024
  /// How long libwebsockets waits for a TLS handshake and the first bytes behind it, its own time for
  /// both: beyond what a connection of ours may wait for its first request.
  private static let handshakeSeconds: UInt32 = 60
  /// libwebsockets cuts writes at this size and buffers the rest; ours are whole turns.
  private static let largestWriteBytes = 16 * 1024 * 1024

  /// On the loop. Throws `SettingsError` where the certificate cannot be used.
  init(loop: Loop, certificate: Certificate?) throws {
    loop.preconditionOnLoop()
    self.loop = loop
    usesTLS = certificate != nil
    protocols = .allocate(capacity: 2)
    protocols.initialize(repeating: lws_protocols(), count: 2)
    protocols[0].name = protocolName.utf8Start.withMemoryRebound(to: CChar.self, capacity: 1) { $0 }
    protocols[0].callback = transportCallback
    protocols[0].rx_buffer_size = Int(Self.readBufferBytes)
    protocols[0].tx_packet_size = Self.largestWriteBytes
    loops = .allocate(capacity: 1)
    loops.initialize(to: loop.foreignLoop)
    // Errors of single connections are the clients'; ours come back as return values.
    lws_set_log_level(0, nil)
    var info = martlet_lws_info()
    info.options =
      martlet_lws_option_libuv() | martlet_lws_option_explicit_vhosts()
      | (usesTLS ? martlet_lws_option_tls() : 0)
    info.foreign_loops = loops
    info.port = -1  // CONTEXT_PORT_NO_LISTEN, a macro
    info.protocols = UnsafePointer(protocols)
    info.pt_serv_buf_size = Self.readBufferBytes
    info.timeout_secs = Self.handshakeSeconds
    info.gid = -1
    info.uid = -1
    guard let context = lws_create_context(&info) else {
      throw SettingsError("libwebsockets could not start on the event loop")
    }
    self.context = context
    guard let host = Self.makeHost(context, protocols, loops, certificate, name: protocolName)
    else {
      lws_context_destroy(context)
      throw SettingsError("The certificate or its key cannot be used.")
    }
    virtualHost = host
  }

  /// A virtual host that listens nowhere; nil where its certificate cannot be used.
  private static func makeHost(
    _ context: OpaquePointer, _ protocols: UnsafeMutablePointer<lws_protocols>,
    _ loops: UnsafeMutablePointer<UnsafeMutableRawPointer?>, _ certificate: Certificate?,
    name: StaticString
  ) -> OpaquePointer? {
    var info = martlet_lws_info()
    info.options =
      martlet_lws_option_libuv() | martlet_lws_option_explicit_vhosts()
      | (certificate == nil ? 0 : martlet_lws_option_tls())
    info.foreign_loops = loops
    info.protocols = UnsafePointer(protocols)
    info.pt_serv_buf_size = readBufferBytes
    info.vhost_name = name.utf8Start.withMemoryRebound(to: CChar.self, capacity: 1) {
      UnsafePointer($0)
    }
    info.port = certificate == nil ? -1 : -2  // CONTEXT_PORT_NO_LISTEN_SERVER, a macro
    // Without it libwebsockets offers HTTP/2 as well, which its raw role does not speak: clients that
    // take it up get nonsense, and the process ends.
    info.alpn = alpn.utf8Start.withMemoryRebound(to: CChar.self, capacity: 1) { UnsafePointer($0) }
    return withOptionalCString(certificate?.chainPath) { chain in
      withOptionalCString(certificate?.keyPath) { key in
        info.ssl_cert_filepath = chain
        info.ssl_private_key_filepath = key
        return lws_create_vhost(context, &info)
      }
    }
  }

  /// Reads the certificate files again; connections that are open keep what they have. False, and
  /// nothing changes, where they cannot be used.
  func reloadCertificate(_ certificate: Certificate) -> Bool {
    loop.preconditionOnLoop()
    // `lws_tls_cert_updated` does not say whether it could: a virtual host that nobody uses does.
    guard let trial = Self.makeHost(context, protocols, loops, certificate, name: trialName) else {
      return false
    }
    lws_vhost_destroy(trial)
    // Its result tells nothing.
    _ = lws_tls_cert_updated(context, certificate.chainPath, certificate.keyPath, nil, 0, nil, 0)
    return true
  }

  /// Gives an accepted socket to libwebsockets. Nil, and the descriptor closed, where it has no room.
  func adopt(_ descriptor: Int32, peer: IPAddress, for owner: WebLoop) -> Transport? {
    loop.preconditionOnLoop()
    let transport = Transport(owner: owner, peer: peer, descriptor: descriptor, isSecure: usesTLS)
    var description = lws_adopt_desc_t()
    description.vh = virtualHost
    description.type = lws_adoption_type(
      LWS_ADOPT_SOCKET.rawValue | (usesTLS ? LWS_ADOPT_ALLOW_SSL.rawValue : 0))
    description.fd.sockfd = descriptor
    description.vh_prot_name = UnsafePointer(protocols[0].name)
    // Retained for libwebsockets; released in the close callback, or here where there is none.
    let retained = Unmanaged.passRetained(transport)
    description.opaque = retained.toOpaque()
    guard let wsi = lws_adopt_descriptor_vhost_via_info(&description) else {
      // libwebsockets closes the descriptor itself on failure.
      if transport.isOpen { retained.release() }
      return nil
    }
    transport.attach(wsi)
    return transport.isOpen ? transport : nil
  }

  /// Closes every connection and ends libwebsockets' part of the loop.
  func destroy() {
    loop.preconditionOnLoop()
    lws_context_destroy(context)
  }

  deinit {
    protocols.deallocate()
    loops.deallocate()
  }
}

private let protocolName: StaticString = "martlet"
private let trialName: StaticString = "trial"
/// What is spoken inside TLS (RFC 7301).
private let alpn: StaticString = "http/1.1"

private func withOptionalCString<Result>(
  _ text: String?, _ body: (UnsafePointer<CChar>?) -> Result
) -> Result {
  if let text { text.withCString { body($0) } } else { body(nil) }
}

/// Every event of every connection, from libwebsockets. A result other than 0 closes the connection.
private func transportCallback(
  wsi: OpaquePointer?, reason: lws_callback_reasons, user: UnsafeMutableRawPointer?,
  bytes: UnsafeMutableRawPointer?, count: Int
) -> Int32 {
  switch reason {
  case LWS_CALLBACK_RAW_RX, LWS_CALLBACK_RAW_WRITEABLE, LWS_CALLBACK_RAW_CLOSE: break
  default: return 0
  }
  guard let wsi, let opaque = lws_get_opaque_user_data(wsi) else { return 0 }
  let owner = Unmanaged<Transport>.fromOpaque(opaque)
  let transport = owner.takeUnretainedValue()
  switch reason {
  case LWS_CALLBACK_RAW_RX:
    return transport.didReceive(UnsafeMutableRawBufferPointer(start: bytes, count: count))
  case LWS_CALLBACK_RAW_WRITEABLE: return transport.becameWritable()
  default:
    lws_set_opaque_user_data(wsi, nil)
    transport.didClose()
    // The other half of passRetained in `adopt`.
    owner.release()
    return 0
  }
}
