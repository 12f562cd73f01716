internal import Basics
internal import Synchronization
internal import TLS

/// The store of certificates for new TLS connections. It reads them from files, and reloads them on request.
final class CertificateStore: Sendable {
  private let files: [TLSServer.Files]
  private let log: Log
  private struct State {
    var server: TLSServer?
    /// The versions of the files at the last attempt to read them.
    var versions: [FileSystem.FileVersion?] = []
    /// When the certificates were read, by `Monotonic.milliseconds`.
    var readAt: Int64 = 0
  }
  private let state = Mutex(State())

  /// A certificate that expires within this time is reported in the log.
  private static let soonSeconds = 7 * 86_400

  /// Nil without TLS: if there are no certificates.
  init?(_ certificates: [WebConfiguration.CertificateFiles], log: Log, metrics: Metrics) {
    guard !certificates.isEmpty else { return nil }
    files = certificates.map { TLSServer.Files(chain: $0.chain, key: $0.key) }
    self.log = log
    metrics.reading(
      "martlet_tls_certificate_expiry_seconds",
      "Time until the first of the certificates expires; below 0 where it has."
    ) { [weak self] in Double(self?.secondsToExpiry ?? 0) }
  }

  /// The TLS setup for new connections; nil before `load` has succeeded.
  var server: TLSServer? { state.withLock(\.server) }

  private var secondsToExpiry: Int {
    state.withLock { state in
      let left = state.server?.certificates.map(\.expiresInSeconds).min() ?? 0
      return left - Int((Monotonic.milliseconds - state.readAt) / 1000)
    }
  }

  /// Reads the certificates and their keys. If one of them cannot be used, keeps the previous ones and throws
  /// `SettingsError`.
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

  /// Reads the files again. Open connections keep their certificate. If the files cannot be used, the previous
  /// certificates stay in use, and the reason is logged.
  func reload() {
    do {
      try load()
      log.notice("certificate_reloaded")
    } catch {
      log.error("certificate_not_reloaded", ["cause": .string("\(error)")])
    }
  }

  /// The same as `reload`, but only if a file has changed since the last attempt to read it.
  func reloadIfChanged() {
    let versions = fileVersions()
    if state.withLock({ $0.versions != versions }) { reload() }
  }

  /// Replaces the keys that encrypt session tickets. A TLS 1.2 ticket contains the secret of its whole session, so an
  /// attacker who obtains a ticket key can decrypt all sessions whose tickets were encrypted with it. Earlier sessions
  /// cannot be resumed afterwards; open connections are not affected.
  func renewTicketKeys() {
    guard let server else { return }
    do {
      let renewed = try TLSServer(renewing: server)
      // If the files were reloaded meanwhile, keep that server: reloading makes new ticket keys too.
      state.withLock { if $0.server === server { $0.server = renewed } }
    } catch {
      log.error("ticket_keys_not_renewed", ["cause": .string("\(error)")])
    }
  }

  private func fileVersions() -> [FileSystem.FileVersion?] {
    files.flatMap { [FileSystem.version($0.chain), FileSystem.version($0.key)] }
  }
}
