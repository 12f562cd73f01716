import Accounts
import Basics
import Relay
import Testing
import Web

@testable import Server

@Suite struct SettingsTests {
  @Test func `every default is what its text says`() throws {
    for row in Settings.table {
      guard let text = row.defaultText else { continue }
      var settings = Settings()
      try row.read(text, &settings)
      #expect("\(settings)" == "\(Settings())", "\(row.name)")
    }
    #expect(Set(Settings.table.map(\.name)).count == Settings.table.count)
  }

  @Test func `what is set reaches the configurations`() throws {
    let settings = try Settings(
      environment: [
        "MARTLET_LISTEN": "[::1]:99", "MARTLET_METRICS_LISTEN": "127.0.0.1:98",
        "MARTLET_MAX_HEADER_BYTES": "2048", "MARTLET_CONNECTION_FRAMES": "7,0.5",
        "MARTLET_SIGNUP": "closed", "MARTLET_TLS_CERTIFICATE": "a, b",
        "MARTLET_TLS_KEY": "c,d", "MARTLET_HANDSHAKE_SECONDS": "3", "MARTLET_LOOPS": "",
      ], file: nil)
    #expect(settings.web.listen.description == "[::1]:99")
    #expect(settings.web.headBytes == 2048 && settings.web.handshakeMilliseconds == 3000)
    #expect(settings.web.certificates.map(\.key) == ["c", "d"])
    #expect(settings.metricsWeb?.listen.port == 98)
    #expect(settings.metricsWeb?.certificates.isEmpty == true)
    #expect(settings.relay.connectionFrames == Rate(burst: 7, perSecond: 0.5))
    #expect(settings.accounts.signUp == .closed && settings.accounts.signUpsPerHour == 20)
    #expect(settings.foreignTokens == nil && settings.loops == nil)
  }

  @Test func `without rates nothing of an address or a user is counted`() throws {
    let settings = try Settings(environment: ["MARTLET_RATE_LIMITS": "off"], file: nil)
    #expect(settings.web.connectionsPerAddress == nil)
    #expect(settings.relay.connectionFrames == nil && settings.relay.userFrames == nil)
    #expect(settings.relay.connectionsPerUser == nil && settings.accounts.signUpsPerHour == nil)
  }

  @Test(arguments: [
    ("MARTLET_DATABASE", "mysql://hunter2"), ("MARTLET_FANOUT", "hunter2"),
    ("MARTLET_TOKEN_SECRET", "hunter2"),
  ])
  func `secrets do not reach an error`(name: String, value: String) {
    #expect {
      try Settings(environment: [name: value], file: nil)
    } throws: { "\($0)".contains(name) && !"\($0)".contains("hunter2") }
  }
}
