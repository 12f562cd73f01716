internal import Basics

/// The address of a Redis server and its credentials: `redis://[user:]password@host[:port]`, with TLS as `rediss://`.
///
/// User and password are percent-encoded, and the port is 6379 if it is missing. A database number may follow (`/0`),
/// as in URLs for other programs. It is ignored, because Redis channels belong to no database.
///
/// https://www.iana.org/assignments/uri-schemes/prov/redis
package struct RedisURL: Sendable {
  package let host: String
  package let port: UInt16
  package let usesTLS: Bool
  let user: String?
  let password: Secret<String>?

  /// The host and port, for logs: without the credentials.
  package var place: String { "\(host):\(port)" }

  /// Parses a URL. Nil if it is not valid.
  package init?(_ url: String) {
    var rest = Substring(url)
    if rest.hasPrefix("redis://") {
      usesTLS = false
      rest = rest.dropFirst("redis://".count)
    } else if rest.hasPrefix("rediss://") {
      usesTLS = true
      rest = rest.dropFirst("rediss://".count)
    } else {
      return nil
    }
    if let slash = rest.firstIndex(of: "/") {
      let database = rest[rest.index(after: slash)...]
      guard database.isEmpty || UInt16(database) != nil else { return nil }
      rest = rest[..<slash]
    }
    var (user, password): (String?, Secret<String>?)
    if let at = rest.lastIndex(of: "@") {
      let credentials = rest[..<at]
      let colon = credentials.firstIndex(of: ":")
      let name = credentials[..<(colon ?? credentials.startIndex)]
      let secret = credentials[(colon.map(credentials.index(after:)) ?? credentials.startIndex)...]
      guard let name = Self.decoded(name), let secret = Self.decoded(secret), !secret.isEmpty else {
        return nil
      }
      (user, password) = (name.isEmpty ? nil : name, Secret(secret))
      rest = rest[rest.index(after: at)...]
    }
    (self.user, self.password) = (user, password)
    var port: Substring?
    if rest.hasPrefix("[") {
      guard let end = rest.firstIndex(of: "]") else { return nil }
      host = String(rest[rest.index(after: rest.startIndex)..<end])
      rest = rest[rest.index(after: end)...]
      if !rest.isEmpty {
        guard rest.hasPrefix(":") else { return nil }
        port = rest.dropFirst()
      }
    } else {
      let colon = rest.firstIndex(of: ":")
      host = String(rest[..<(colon ?? rest.endIndex)])
      port = colon.map { rest[rest.index(after: $0)...] }
    }
    guard !host.isEmpty, !host.contains(where: { " ?#@".contains($0) }) else { return nil }
    guard let port else {
      self.port = 6379
      return
    }
    guard let number = UInt16(port), number > 0 else { return nil }
    self.port = number
  }

  /// Returns the percent-decoded text (RFC 3986, 2.1); nil if it is malformed or not UTF-8.
  private static func decoded(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2,
        let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
      else { return nil }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}
