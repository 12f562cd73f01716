#if canImport(Glibc)
  package import Glibc
#else
  package import Darwin
#endif

/// An IPv4 or IPv6 address. An IPv4-mapped IPv6 address (`::ffff:1.2.3.4`) equals the IPv4 address, so that a host has
/// the same address on IPv4 sockets and on dual-stack sockets.
package struct IPAddress: Hashable, Sendable, CustomStringConvertible {
  /// The 16 bytes of the address, as two big-endian halves. IPv4 is stored in its mapped form.
  private let high: UInt64
  private let low: UInt64

  private static let mappedPrefix: UInt64 = 0xFFFF << 32

  package var isIPv4: Bool { high == 0 && low >> 32 == 0xFFFF }

  package init(ipv4: UInt32) {
    high = 0
    low = Self.mappedPrefix | UInt64(ipv4)
  }

  private init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// Parses the text forms that `inet_pton` accepts; nil for anything else.
  package init?(_ text: String) {
    var v4 = in_addr()
    if inet_pton(AF_INET, text, &v4) == 1 {
      self.init(ipv4: UInt32(bigEndian: v4.s_addr))
      return
    }
    var v6 = in6_addr()
    guard inet_pton(AF_INET6, text, &v6) == 1 else { return nil }
    self.init(v6)
  }

  private init(_ v6: in6_addr) {
    var bytes = v6
    self = withUnsafeBytes(of: &bytes) { buffer in
      IPAddress(
        high: UInt64(bigEndian: buffer.loadUnaligned(as: UInt64.self)),
        low: UInt64(bigEndian: buffer.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }
  }

  /// Takes the address that accept(2) returned; nil for families other than IPv4 and IPv6.
  package init?(_ storage: sockaddr_storage) {
    var storage = storage
    switch Int32(storage.ss_family) {
    case AF_INET:
      self = withUnsafePointer(to: &storage) {
        $0.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
          IPAddress(ipv4: UInt32(bigEndian: $0.pointee.sin_addr.s_addr))
        }
      }
    case AF_INET6:
      self = withUnsafePointer(to: &storage) {
        $0.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
          IPAddress($0.pointee.sin6_addr)
        }
      }
    default: return nil
    }
  }

  package var isLoopback: Bool {
    isIPv4 ? (low >> 24) & 0xFF == 127 : high == 0 && low == 1
  }

  package var description: String {
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    if isIPv4 {
      var address = in_addr(s_addr: UInt32(truncatingIfNeeded: low).bigEndian)
      inet_ntop(AF_INET, &address, &text, socklen_t(text.count))
    } else {
      var halves = (high.bigEndian, low.bigEndian)
      inet_ntop(AF_INET6, &halves, &text, socklen_t(text.count))
    }
    return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  /// The unit by which limits per address count: an IPv4 address, or the /64 network of an IPv6 address. One customer
  /// has at least a whole /64 and could otherwise use a new address for every request (RFC 6177).
  package struct Site: Hashable, Sendable {
    private let high: UInt64
    private let low: UInt64

    fileprivate init(_ address: IPAddress) {
      high = address.high
      low = address.isIPv4 ? address.low : 0
    }
  }

  package var site: Site { Site(self) }

  /// A range in CIDR notation (RFC 4632), such as `10.0.0.0/8`. An address without a prefix length is a range of one.
  package struct Range: Sendable, Equatable {
    private let first: IPAddress
    private let prefix: Int

    package init?(_ text: String) {
      let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
      guard parts.count <= 2, let address = IPAddress(parts[0]) else { return nil }
      let width = address.isIPv4 ? 32 : 128
      var prefix = width
      if parts.count == 2 {
        guard let given = Int(parts[1]), (0...width).contains(given) else { return nil }
        prefix = given
      }
      first = address
      self.prefix = prefix + 128 - width
    }

    package func contains(_ address: IPAddress) -> Bool {
      func mask(_ bits: Int) -> UInt64 {
        bits <= 0 ? 0 : bits >= 64 ? .max : .max << UInt64(64 - bits)
      }
      return (address.high ^ first.high) & mask(prefix) == 0
        && (address.low ^ first.low) & mask(prefix - 64) == 0
    }
  }
}
