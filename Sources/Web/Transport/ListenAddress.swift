internal import Basics

/// The address that a server listens on: an IP address of this machine, and a port. With port 0 the system chooses a
/// free port.
package struct ListenAddress: Sendable, Equatable, CustomStringConvertible {
  /// An IPv4 or IPv6 address, without brackets.
  package let host: String
  package var port: UInt16

  /// Parses `host:port`. The host is an IP address, in brackets if it is IPv6, or `localhost`, which means 127.0.0.1.
  /// Nil for anything else.
  package init?(_ text: String) {
    guard let colon = text.lastIndex(of: ":"),
      let port = UInt16(text[text.index(after: colon)...])
    else { return nil }
    var host = String(text[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    if host == "localhost" { host = "127.0.0.1" }
    guard IPAddress(host) != nil else { return nil }
    self.init(host: host, port: port)
  }

  private init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// `127.0.0.1` with this port.
  package static func loopback(port: UInt16) -> ListenAddress {
    ListenAddress(host: "127.0.0.1", port: port)
  }

  package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
  package var isLoopback: Bool { IPAddress(host)?.isLoopback == true }
}
