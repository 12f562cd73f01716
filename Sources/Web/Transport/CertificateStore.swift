internal import Basics
internal import Synchronization
internal import TLS

/// The certificates that new connections begin TLS with, read from their files and read again when these change.
final class CertificateStore: Sendable {
  private let files: [TLSServer.Files]
  private let log: Log
  private struct State {
    var server: TLSServer?
    /// Of the files as they were read, or tried, last.
    var versions: [FileSystem.FileVersion?] = []
    /// By `Monotonic.milliseconds`.
    var readAt: Int64 = 0
  }
  private let state = Mutex(State())

  /// A certificate that has so long to live is worth a line in the log.
  private static let soonSeconds = 7 * 86_400

  /// Nil without TLS.
  init?(_ certificates: [WebConfiguration.CertificateFiles], log: Log, metrics: Metrics) {
    guard !certificates.isEmpty else { return nil }
    files = certificates.map { TLSServer.Files(chain: $0.chain, key: $0.key) }
    self.log = log
    metrics.reading(
      "martlet_tls_certificate_expiry_seconds",
      "Time until the first of the certificates expires; below 0 where it has."
    ) { [weak self] in Double(self?.secondsToExpiry ?? 0) }
  }

  /// Nil before `load`.
  var server: TLSServer? { state.withLock(\.server) }

  private var secondsToExpiry: Int {
    state.withLock { state in
      let left = state.server?.certificates.map(\.expiresInSeconds).min() ?? 0
      return left - Int((Monotonic.milliseconds - state.readAt) / 1000)
    }
  }

  /// Reads the certificates and their keys. Throws `SettingsError`, and keeps those of before, where one cannot be used.
  func load() throws(SettingsError) {
    let versions = fileVersions()
    state.withLock { $0.versions = versions }
    let server: TLSServer
    do { server = try TLSServer(files) } catch {
      throw SettingsError("TLS cannot be used: \(error).")
    }
    for certificate in server.certificates where certificate.expiresInSeconds < Self.soonSeconds {
      log.warning(
        certificate.expiresInSeconds < 0 ? "certificate_expired" : "certificate_expires_soon",
        [
          "chain": .string(certificate.files.chain),
          "seconds": .init(certificate.expiresInSeconds),
        ])
    }
    state.withLock { state in
      state.server = server
      state.readAt = Monotonic.milliseconds
    }
  }

  /// Reads the files again; connections that are open keep what they have. Where they cannot be used the old certificates
  /// stay, and the log says why.
  func reload() {
    do {
      try load()
      log.notice("certificate_reloaded")
    } catch {
      log.error("certificate_not_reloaded", ["cause": .string("\(error)")])
    }
  }

  /// As `reload`, where a file has changed since it was read last.
  func reloadIfChanged() {
    let versions = fileVersions()
    if state.withLock({ $0.versions != versions }) { reload() }
  }

  /// Has new keys seal the tickets of new sessions. In TLS 1.2 a ticket holds the secret of its whole session, so who gets hold
  /// of a key reads all that was sealed with it. Sessions of before begin anew; connections that are open keep what they have.
  func renewTicketKeys() {
    guard let server else { return }
    do {
      let renewed = try TLSServer(renewing: server)
      // Unless the files were read meanwhile, which makes new keys too.
      state.withLock { if $0.server === server { $0.server = renewed } }
    } catch {
      log.error("ticket_keys_not_renewed", ["cause": .string("\(error)")])
    }
  }

  private func fileVersions() -> [FileSystem.FileVersion?] {
    files.flatMap { [FileSystem.version($0.chain), FileSystem.version($0.key)] }
  }
}
