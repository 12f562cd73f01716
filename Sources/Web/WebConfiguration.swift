package import Basics

/// The server's listening address, its certificates, and the limits that apply to all routes.
package struct WebConfiguration: Sendable {
  /// The PEM files of a certificate chain and its private key.
  package struct CertificateFiles: Sendable, Equatable {
    package let chain: String
    package let key: String

    package init(chain: String, key: String) {
      self.chain = chain
      self.key = key
    }
  }

  package var listen: ListenAddress
  /// The certificates to choose from by server name. Clients that send no server name, or a name that no certificate
  /// matches, get the first one. Empty means no TLS.
  package var certificates: [CertificateFiles]
  /// The proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` headers are trusted.
  package var trustedProxies: [IPAddress.Range]
  /// The most connections that one address may hold open; nil means no limit. Trusted proxies are not limited.
  package var connectionsPerAddress: Int?
  /// The largest request line with headers, in bytes.
  package var headBytes: Int
  /// The largest WebSocket message, in bytes.
  package var frameBytes: Int
  /// The largest JSON body, in bytes.
  package var jsonBodyBytes: Int
  /// The deepest nesting of a JSON text that is accepted.
  package var jsonDepth: Int
  /// The memory that all request bodies and answers in flight may take together, in bytes. One address may take an
  /// eighth of it.
  package var bufferBytes: Int
  /// The time within which the head of a request must arrive.
  package var handshakeMilliseconds: Int64
  /// The time within which the answer to a request must begin. Also the longest time that a request's body may stall.
  package var requestMilliseconds: Int64
  /// The most requests per second that are logged. Further requests are only counted. 0 means that none is logged.
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
