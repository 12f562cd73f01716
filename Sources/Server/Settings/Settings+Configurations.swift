internal import Accounts
internal import Basics
internal import Chat
internal import Relay
package import Web

/// The configurations of the targets. If `rateLimits` is off, the limits per connection, user and address are nil.
extension Settings {
  private func limit<Value>(_ value: Value) -> Value? { rateLimits ? value : nil }

  private func milliseconds(_ seconds: Int) -> Int64 { Int64(seconds) * 1000 }

  /// For the public listener.
  package var web: WebConfiguration {
    WebConfiguration(
      listen: listen,
      certificates: zip(tlsCertificates, tlsKeys).map {
        WebConfiguration.CertificateFiles(chain: $0, key: $1)
      },
      trustedProxies: trustedProxies, connectionsPerAddress: limit(connectionsPerAddress),
      headBytes: maxHeaderBytes, frameBytes: maxFrameBytes, jsonBodyBytes: maxBodyBytes,
      jsonDepth: maxJSONDepth, bufferBytes: bufferBytes,
      handshakeMilliseconds: milliseconds(handshakeSeconds),
      requestMilliseconds: milliseconds(requestSeconds), accessLogPerSecond: accessLogPerSecond)
  }

  /// For the separate listener of metrics; nil if there is none.
  var metricsWeb: WebConfiguration? {
    guard let metricsListen else { return nil }
    var configuration = web
    configuration.listen = metricsListen
    configuration.certificates = []
    return configuration
  }

  var relay: RelayConfiguration {
    RelayConfiguration(
      connectionFrames: limit(connectionFrames), userFrames: limit(userFrames),
      connectionsPerUser: limit(connectionsPerUser), contentBytes: maxContentBytes,
      jsonDepth: maxJSONDepth, heldBytes: sendQueueBytes,
      openingMilliseconds: milliseconds(handshakeSeconds))
  }

  var accounts: AccountConfiguration {
    AccountConfiguration(
      signUp: signUp, signUpsPerHour: limit(signUpsPerHour), directory: directory,
      teamsPerPerson: roomsPerPerson)
  }

  var rooms: RoomLimits {
    RoomLimits(
      rules: roomRules, people: roomPeople, roomsPerPerson: roomsPerPerson,
      levelToCreate: Int64(roomCreateLevel))
  }

  /// Nil unless secret, audience and issuer are all set. If it is nil, tokens of another system are refused.
  var foreignTokens: ForeignTokens.Configuration? {
    guard let tokenSecret, let tokenAudience, let tokenIssuer else { return nil }
    return ForeignTokens.Configuration(
      secret: tokenSecret, audience: tokenAudience, issuer: tokenIssuer)
  }

  // MARK: Public URL and origins

  package var usesTLS: Bool { !tlsCertificates.isEmpty }

  var isPublicURLSecure: Bool { publicURL?.hasPrefix("https://") == true || usesTLS }

  /// The server's own origins: the public URL, or else the listener's names.
  func ownOrigins(_ address: ListenAddress) -> [String] {
    if let publicURL {
      return [publicURL.hasSuffix("/") ? String(publicURL.dropLast()) : publicURL]
    }
    let scheme = usesTLS ? "https" : "http"
    var origins = ["\(scheme)://\(address)"]
    if address.isLoopback { origins.append("\(scheme)://localhost:\(address.port)") }
    return origins
  }
}
