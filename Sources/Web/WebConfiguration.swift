package import Basics

/// How the server listens, and the limits that apply whatever it serves.
package struct WebConfiguration: Sendable {
  /// PEM files of a certificate chain and its private key.
  package struct CertificateFiles: Sendable, Equatable {
    package let chain: String
    package let key: String

    package init(chain: String, key: String) {
      self.chain = chain
      self.key = key
    }
  }

  package var listen: ListenAddress
  /// The first one is for clients that send no server name, or a name that no certificate has. Empty means no TLS.
  package var certificates: [CertificateFiles]
  /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted.
  package var trustedProxies: [IPAddress.Range]
  /// Connections that one address may hold open; nil means no limit.
  package var connectionsPerAddress: Int?
  /// The largest request line with headers, in bytes.
  package var headBytes: Int
  /// The largest WebSocket message, in bytes.
  package var frameBytes: Int
  /// The largest JSON body, in bytes.
  package var jsonBodyBytes: Int
  /// The deepest nesting of a JSON text.
  package var jsonDepth: Int
  /// The bytes that all bodies and answers in flight may take together. One address may take an eighth of them.
  package var bufferBytes: Int
  /// The time for a request's head.
  package var handshakeMilliseconds: Int64
  /// The time until the answer to a request begins, and the time for which its body may stall.
  package var requestMilliseconds: Int64
  /// The requests per second that are logged. Those beyond are only counted. 0 means none.
  package var accessLogPerSecond: Int

  package init(
    listen: ListenAddress, certificates: [CertificateFiles], trustedProxies: [IPAddress.Range],
    connectionsPerAddress: Int?, headBytes: Int, frameBytes: Int, jsonBodyBytes: Int,
    jsonDepth: Int, bufferBytes: Int, handshakeMilliseconds: Int64, requestMilliseconds: Int64,
    accessLogPerSecond: Int
  ) {
    self.listen = listen
    self.certificates = certificates
    self.trustedProxies = trustedProxies
    self.connectionsPerAddress = connectionsPerAddress
    self.headBytes = headBytes
    self.frameBytes = frameBytes
    self.jsonBodyBytes = jsonBodyBytes
    self.jsonDepth = jsonDepth
    self.bufferBytes = bufferBytes
    self.handshakeMilliseconds = handshakeMilliseconds
    self.requestMilliseconds = requestMilliseconds
    self.accessLogPerSecond = accessLogPerSecond
  }
}
