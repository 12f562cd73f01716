package import Basics
internal import Web

extension Settings {
  /// Reads settings from the environment and an optional file of `NAME=value` lines. The environment takes
  /// precedence. Throws one sentence if a name is unknown, a value is wrong, or two settings contradict each other.
  package init(environment: [String: String], file: String?) throws(SettingsError) {
    self.init()
    var values: [String: String] = [:]
    if let file { values = try Self.values(ofFile: file) }
    for (name, value) in environment where name.hasPrefix("MARTLET_") { values[name] = value }
    let rows = Dictionary(uniqueKeysWithValues: Self.table.map { ($0.name, $0) })
    for (name, value) in values.sorted(by: { $0.key < $1.key }) {
      guard let row = rows[name] else {
        throw SettingsError("\(name) is not a setting; `martlet settings` lists them all.")
      }
      // An empty value means unset, so that the environment can undo a setting of the file.
      if value.isEmpty { continue }
      do { try row.read(value, &self) } catch {
        throw SettingsError(
          row.isSecret ? "\(name) \(error)." : "\(name) \(error) (it is `\(value)`).")
      }
    }
    try checkTogether()
  }

  private func checkTogether() throws(SettingsError) {
    if !rateLimits, !listen.isLoopback || metricsListen?.isLoopback == false {
      throw SettingsError("MARTLET_RATE_LIMITS=off is for loopback listeners only.")
    }
    if tlsCertificates.count != tlsKeys.count {
      throw SettingsError(
        "MARTLET_TLS_CERTIFICATE and MARTLET_TLS_KEY go together, one key for each certificate.")
    }
    if fanout != nil, database == nil {
      throw SettingsError(
        "MARTLET_FANOUT is for nodes that share a database: it needs MARTLET_DATABASE.")
    }
    if fanoutAuthorities != nil, fanout?.reveal().hasPrefix("rediss://") != true {
      throw SettingsError("MARTLET_FANOUT_CA is for a MARTLET_FANOUT of rediss:// only.")
    }
  }

  /// The values of a file by name.
  private static func values(ofFile path: String) throws(SettingsError) -> [String: String] {
    let contents: [UInt8]
    do { contents = try FileSystem.read(path) } catch {
      throw SettingsError("--config: the file of settings cannot be read: \(error).")
    }
    guard let text = String(validating: contents, as: UTF8.self) else {
      throw SettingsError("--config: the file of settings \(path) is not UTF-8.")
    }
    var values: [String: String] = [:]
    var lines: [String: Int] = [:]
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    {
      let trimmed = line.trimmingBlanks()
      if trimmed.isEmpty || trimmed.hasPrefix("#") { continue }
      guard let equals = trimmed.firstIndex(of: "=") else {
        throw SettingsError("\(path), line \(index + 1): expected NAME=value.")
      }
      let name = String(trimmed[..<equals].trimmingBlanks())
      if let first = lines[name] {
        throw SettingsError(
          "\(path), line \(index + 1): \(name) stands in line \(first) already.")
      }
      values[name] = String(trimmed[trimmed.index(after: equals)...].trimmingBlanks())
      lines[name] = index + 1
    }
    return values
  }
}
