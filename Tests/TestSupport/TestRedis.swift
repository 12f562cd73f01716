internal import Basics
internal import Foundation

/// A real Redis of a test's own, on loopback, with a proxy before it that spoils what subscribers get: by the same
/// script that the acceptance tests use.
package struct TestRedis: Sendable {
  /// Where the Redis listens, and the proxy.
  package let port: UInt16
  package let proxy: UInt16
  /// What clients have to believe where it speaks TLS.
  package let certificate: String
  private let number: Int

  private struct Started: Decodable {
    let number: Int
    let port: UInt16
    let proxy: UInt16
    let certificate: String
  }

  /// Starts one with more options of redis-server's command line; with TLS for the name `localhost`.
  package init(_ options: [String] = [], tls: Bool = false) throws {
    let answer = try TestServers.shared.get().ask(["redis", options, tls])
    let started = try JSONDecoder().decode(Started.self, from: answer)
    (port, proxy, number) = (started.port, started.proxy, started.number)
    certificate = started.certificate
  }

  /// The port of something that is no Redis: it answers all that is said to it with the same bytes.
  package static func liar(answering bytes: [UInt8]) throws -> UInt16 {
    struct Started: Decodable { let port: UInt16 }
    let text = String(String.UnicodeScalarView(bytes.map { Unicode.Scalar($0) }))
    let answer = try TestServers.shared.get().ask(["liar", text])
    return try JSONDecoder().decode(Started.self, from: answer).port
  }

  package func kill() throws { try order("kill") }
  /// An empty one on the same port.
  package func start() throws { try order("start") }
  /// It stands still, with its connections open.
  package func pause() throws { try order("pause") }
  package func goOn() throws { try order("go_on") }
  /// Ends the proxy's connections, and lets nobody through until `open`.
  package func shut() throws { try order("shut") }
  package func open() throws { try order("open") }

  /// What happens to what is published, each with a probability.
  package func spoil(
    drop: Double = 0, double: Double = 0, delay: Double = 0, reorder: Double = 0,
    milliseconds: Int = 10
  ) throws {
    let faults: [String: Any] = [
      "drop": drop, "double": double, "delay": delay, "reorder": reorder,
      "milliseconds": milliseconds,
    ]
    _ = try TestServers.shared.get().ask(["spoil", number, faults])
  }

  /// From here on keeps what is published in these channels, as somebody would who may read Redis.
  package func record(_ channels: [String]) throws {
    _ = try TestServers.shared.get().ask(["record", number, channels])
  }

  /// Publishes all that was kept once more.
  package func replay() throws { try order("replay") }

  private func order(_ method: String) throws {
    _ = try TestServers.shared.get().ask([method, number])
  }
}

private enum TestServers {
  static let shared = Result { try TestScript("redisserver.py") }
}

extension TestScript {
  /// One line of JSON out, one in.
  fileprivate func ask(_ request: [Any]) throws -> Data {
    try ask(JSONSerialization.data(withJSONObject: request))
  }
}
