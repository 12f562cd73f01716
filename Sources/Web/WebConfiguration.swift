package import Basics

/// How the server listens and what it allows, whatever it serves.
package struct WebConfiguration: Sendable {
  /// PEM files of a certificate's chain and its private key.
  package struct CertificateFiles: Sendable, Equatable {
    package let chain: String
    package let key: String

    package init(chain: String, key: String) {
      self.chain = chain
      self.key = key
    }
  }

  package var listen: ListenAddress
  /// The first is for clients that ask for no name, or for one that none has. Empty: no TLS.
  package var certificates: [CertificateFiles]
  /// From these `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
  package var trustedProxies: [IPAddress.Range]
  /// Connections that an address may hold open; nil: any number.
  package var connectionsPerAddress: Int?
  /// Largest request line with headers, in bytes.
  package var headBytes: Int
  /// Largest WebSocket message, in bytes.
  package var frameBytes: Int
  /// Largest JSON body, in bytes.
  package var jsonBodyBytes: Int
  /// Deepest nesting of a JSON text.
  package var jsonDepth: Int
  /// Bytes that all bodies and answers in flight may take together; an address an eighth of them.
  package var bufferBytes: Int
  /// Time for a request's head.
  package var handshakeMilliseconds: Int64
  /// Time for the work on a request until its answer begins, and for which its body may stand still.
  package var requestMilliseconds: Int64
  /// Requests that are logged; beyond it they are counted. 0: none.
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
