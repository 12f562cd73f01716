/// Everything that varies between two installations. Immutable once read; each member's default and
/// meaning stand in `Settings.table`, from which `martlet settings` and docs/CONFIGURATION.md are made.
package struct Settings: Sendable {
  package enum SignUp: String, Sendable, CaseIterable { case open, invited, closed }

  package var listen: ListenAddress
  package var data: String
  package var database: Secret<String>
  package var fanout: Secret<String>
  package var fanoutAuthorities: String?
  package var metricsListen: ListenAddress?
  package var tokenSecret: Secret<String>?
  package var tokenAudience: String?
  package var tokenIssuer: String?
  package var rateLimits: Bool
  package var loops: Int
  package var keepsProcessors: Bool
  package var signUp: SignUp
  package var publicURL: String?
  package var trustedProxies: [IPAddress.Range]
  package var allowedOrigins: [String]
  package var roomRules: Int
  package var roomsPerPerson: Int
  package var roomCreateLevel: Int64
  package var tlsCertificates: [String]
  package var tlsKeys: [String]
  package var tlsWatchSeconds: Int
  package var logLevel: Log.Level
  package var logFormat: Log.Format
  package var accessLogPerSecond: Int
  package var maxFrameBytes: Int
  package var maxContentBytes: Int
  package var maxHeaderBytes: Int
  package var maxBodyBytes: Int
  package var maxJSONDepth: Int
  package var connectionFrames: Rate
  package var userFrames: Rate
  package var addressRequests: Rate
  package var signUpsPerHour: Int
  package var connectionsPerUser: Int
  package var connectionsPerAddress: Int
  package var sendQueueBytes: Int
  package var bufferBytes: Int
  package var assets: String?
  package var handshakeSeconds: Int
  package var requestSeconds: Int
  package var diskReserveBytes: Int
  package var readers: Int
  package var passwordHashers: Int
  package var postgresConnections: Int

  package struct ListenAddress: Sendable, Equatable, CustomStringConvertible {
    package var host: String
    package var port: UInt16

    /// `host:port`; an IPv6 host stands in brackets.
    package init?(_ text: String) {
      guard let colon = text.lastIndex(of: ":"),
        let port = UInt16(text[text.index(after: colon)...])
      else { return nil }
      var host = String(text[..<colon])
      if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
      if host == "localhost" { host = "127.0.0.1" }
      guard IPAddress(host) != nil else { return nil }
      self.host = host
      self.port = port
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
    package var isLoopback: Bool { IPAddress(host)?.isLoopback == true }
  }
}

// MARK: - The table

extension Settings {
  /// One setting as it is documented.
  package struct Entry: Sendable {
    package let name: String
    /// As text; `-` where unset means off.
    package let defaultText: String
    package let meaning: String
    package let isSecret: Bool
    fileprivate let read: @Sendable (String, inout Settings) throws -> Void
  }

  /// Every setting, in the order of the documentation.
  package static let table: [Entry] = [
    entry("LISTEN", "127.0.0.1:8080", "Public listener, `address:port`; port 0 picks one.") {
      $1.listen = try address($0)
    },
    entry(
      "DATA", "./data",
      "Directory of the embedded database and of what the server stores; held by a lock while it runs."
    ) { $1.data = $0 },
    entry(
      "DATABASE", "-", "`postgres://user:password@host/name`; unset: SQLite in the data directory.",
      isSecret: true
    ) { text, settings in
      guard text.isEmpty || text.hasPrefix("postgres://") || text.hasPrefix("postgresql://") else {
        throw SettingsError("is not a postgres:// URL")
      }
      settings.database = Secret(text)
    },
    entry(
      "FANOUT", "-",
      "`redis://[[user:]password@]host[:port]`, `rediss://` with TLS: nodes on one Postgres hear each other at once. Unset: they find out within 25 s.",
      isSecret: true
    ) { text, settings in
      guard text.isEmpty || text.hasPrefix("redis://") || text.hasPrefix("rediss://") else {
        throw SettingsError("is not a redis:// URL")
      }
      settings.fanout = Secret(text)
    },
    entry(
      "FANOUT_CA", "-",
      "PEM file with the authorities that sign the certificate of a `rediss://`; unset: the system's."
    ) { $1.fanoutAuthorities = $0.isEmpty ? nil : $0 },
    entry(
      "METRICS_LISTEN", "-",
      "Listener of the Prometheus page `/metrics`; port 0 picks one, written to the log."
    ) { $1.metricsListen = $0.isEmpty ? nil : try address($0) },
    entry(
      "TOKEN_SECRET", "-",
      "HS256 secret shared with the system whose tokens are accepted; unset: such tokens are refused.",
      isSecret: true
    ) { text, settings in
      guard text.isEmpty || text.utf8.count >= minimumTokenSecretBytes else {
        throw SettingsError(
          "has fewer than \(minimumTokenSecretBytes) bytes: such a secret is guessed")
      }
      settings.tokenSecret = text.isEmpty ? nil : Secret(text)
    },
    entry(
      "TOKEN_AUDIENCE", "-", "`aud` that those tokens must carry; unset: such tokens are refused."
    ) {
      $1.tokenAudience = $0.isEmpty ? nil : $0
    },
    entry(
      "TOKEN_ISSUER", "-", "`iss` that those tokens must carry; unset: such tokens are refused."
    ) {
      $1.tokenIssuer = $0.isEmpty ? nil : $0
    },
    entry(
      "RATE_LIMITS", "on",
      "`off`: no rates and no connection counts per user or address. Only with loopback listeners."
    ) { $1.rateLimits = try flag($0) },
    entry("LOOPS", "-", "Event loops, 1 to 64; unset: one per core.") {
      if !$0.isEmpty { $1.loops = try integer($0, 1...64) }
    },
    entry(
      "KEEP_PROCESSORS", "on",
      "Where there are as many event loops as cores, all but the first stay on a core each. `off`: the system moves them, for a machine whose cores others need as well."
    ) { $1.keepsProcessors = try flag($0) },
    entry("SIGNUP", "open", "Who may sign up: `open`, `invited`, `closed`.") {
      text, settings in
      guard let value = SignUp(rawValue: text) else {
        throw SettingsError("is none of open, invited, closed")
      }
      settings.signUp = value
    },
    entry(
      "PUBLIC_URL", "-",
      "How browsers reach the server: for cookies, links and Origin. Unset: taken from the listener."
    ) { text, settings in
      guard text.isEmpty || isOrigin(text) else {
        throw SettingsError("is not of the form https://host[:port]")
      }
      settings.publicURL = text.isEmpty ? nil : text
    },
    entry(
      "TRUSTED_PROXIES", "-",
      "Comma-separated CIDR list; only from these are `X-Forwarded-For` and `-Proto` believed."
    ) { text, settings in
      settings.trustedProxies = try list(text).map { part in
        guard let range = IPAddress.Range(part) else {
          throw SettingsError("has no address range `\(part)`")
        }
        return range
      }
    },
    entry(
      "ALLOWED_ORIGINS", "-",
      "Comma-separated origins, besides our own, for cookie-authenticated upgrades, unsafe requests and CORS."
    ) { text, settings in
      settings.allowedOrigins = try list(text).map { part in
        guard isOrigin(part) else { throw SettingsError("has no origin `\(part)`") }
        return part
      }
    },
    entry("ROOM_RULES", "10", "Rules a room can hold.") {
      $1.roomRules = try integer($0, 2...10_000)
    },
    entry("ROOMS_PER_PERSON", "1000", "Rooms that one person may have made.") {
      $1.roomsPerPerson = try integer($0, 1...1_000_000)
    },
    entry("ROOM_CREATE_LEVEL", "100", "`levelOnEntity` that creating a room needs.") {
      $1.roomCreateLevel = Int64(try integer($0, 0...1 << 53))
    },
    entry(
      "TLS_CERTIFICATE", "-",
      "PEM file with the certificate chain; read again on SIGHUP. Several, separated by commas: a client gets the first that bears the name it asks for, else the first."
    ) { $1.tlsCertificates = list($0) },
    entry(
      "TLS_KEY", "-",
      "PEM file with the certificate's private key; as many as certificates, in their order."
    ) { $1.tlsKeys = list($0) },
    entry(
      "TLS_WATCH", "off",
      "How often, in seconds, to look whether certificate files have changed, and to read them again then; `on`: every second."
    ) { text, settings in
      switch text {
      case "off": settings.tlsWatchSeconds = 0
      case "on": settings.tlsWatchSeconds = 1
      default: settings.tlsWatchSeconds = try integer(text, 0...86_400)
      }
    },
    entry("LOG_LEVEL", "info", "`debug`, `info`, `notice`, `warning` or `error`.") {
      text, settings in
      guard let level = Log.Level(name: text) else { throw SettingsError("is no log level") }
      settings.logLevel = level
    },
    entry("LOG_FORMAT", "json", "`json` or `text`, one line per event on standard error.") {
      text, settings in
      switch text {
      case "json": settings.logFormat = .json
      case "text": settings.logFormat = .text
      default: throw SettingsError("is neither json nor text")
      }
    },
    entry(
      "ACCESS_LOG_PER_SECOND", "100",
      "Requests logged per second; beyond it only a count of those left out. 0: none."
    ) { $1.accessLogPerSecond = try integer($0, 0...1_000_000) },
    entry("MAX_FRAME_BYTES", "131072", "Largest WebSocket text message; beyond it close 1009.") {
      $1.maxFrameBytes = try integer($0, 1024...16_777_216)
    },
    entry(
      "MAX_CONTENT_BYTES", "65536", "Largest `data` or `content` of a message, in bytes of UTF-8."
    ) {
      $1.maxContentBytes = try integer($0, 1...8_388_608)
    },
    entry("MAX_HEADER_BYTES", "16384", "Largest request line with headers; beyond it 431.") {
      $1.maxHeaderBytes = try integer($0, 1024...1_048_576)
    },
    entry(
      "MAX_BODY_BYTES", "1048576",
      "Largest JSON body; beyond it 413, and where its values would take more memory than one address may have: 64 bytes and more each."
    ) {
      $1.maxBodyBytes = try integer($0, 1024...67_108_864)
    },
    entry("MAX_JSON_DEPTH", "16", "Deepest nesting of a JSON text.") {
      $1.maxJSONDepth = try integer($0, 2...128)
    },
    entry(
      "CONNECTION_FRAMES", "200,50", "Frames a connection may send: at once, and per second after."
    ) {
      $1.connectionFrames = try rate($0)
    },
    entry(
      "USER_FRAMES", "400,100",
      "Frames a user may send on all connections: at once, and per second after."
    ) {
      $1.userFrames = try rate($0)
    },
    entry(
      "ADDRESS_REQUESTS", "400,100", "Requests an address may send: at once, and per second after."
    ) {
      $1.addressRequests = try rate($0)
    },
    entry("SIGNUPS_PER_HOUR", "20", "Sign-ups per hour and address.") {
      $1.signUpsPerHour = try integer($0, 1...1_000_000)
    },
    entry("CONNECTIONS_PER_USER", "20", "WebSockets that a user may hold open.") {
      $1.connectionsPerUser = try integer($0, 1...1_000_000)
    },
    entry(
      "CONNECTIONS_PER_ADDRESS", "1000",
      "Connections of any kind that an address may hold open; beyond it they are closed at once. Those of trusted proxies count for nobody, their WebSockets for the client that they name."
    ) {
      $1.connectionsPerAddress = try integer($0, 1...1_000_000)
    },
    entry(
      "SEND_QUEUE_BYTES", "1048576",
      "Bytes that may wait for a slow reader before it is closed with 4408."
    ) { $1.sendQueueBytes = try integer($0, 65_536...268_435_456) },
    entry(
      "BUFFER_BYTES", "268435456",
      "Bytes that all bodies, what is made of them, and answers in flight may take together, and one address an eighth of; beyond it 503."
    ) { $1.bufferBytes = try integer($0, 1_048_576...1 << 40) },
    entry(
      "ASSETS", "-",
      "Folder of the web application's files, served under `/assets/`; unset: the folder `assets` beside the binary, where there is one."
    ) { $1.assets = $0.isEmpty ? nil : $0 },
    entry("HANDSHAKE_SECONDS", "10", "Time for a request's headers, and on `/chat` for READY.") {
      $1.handshakeSeconds = try integer($0, 1...300)
    },
    entry(
      "REQUEST_SECONDS", "10",
      "Time for the work on a request until its answer begins; beyond it 503. A body that stands still for so long: 408."
    ) {
      $1.requestSeconds = try integer($0, 1...300)
    },
    entry(
      "DISK_RESERVE_BYTES", "67108864",
      "Below so much free disk, messages and other growth are refused with 503. What SQLite's log has still to copy counts as used."
    ) { $1.diskReserveBytes = try integer($0, 0...1 << 50) },
    entry("READERS", "2", "Threads that read the embedded database.") {
      $1.readers = try integer($0, 1...64)
    },
    entry("PASSWORD_HASHERS", "2", "Threads that hash passwords; each hash takes 19 MiB meanwhile.")
    {
      $1.passwordHashers = try integer($0, 1...64)
    },
    entry("POSTGRES_CONNECTIONS", "10", "Connections to Postgres.") {
      $1.postgresConnections = try integer($0, 3...1000)
    },
  ]

  /// As long as what HMAC-SHA-256 gives (RFC 7518, 3.2).
  private static let minimumTokenSecretBytes = 32

  private static func entry(
    _ name: String, _ defaultText: String, _ meaning: String, isSecret: Bool = false,
    read: @escaping @Sendable (String, inout Settings) throws -> Void
  ) -> Entry {
    Entry(
      name: "MARTLET_" + name, defaultText: defaultText, meaning: meaning, isSecret: isSecret,
      read: read)
  }
}

/// Why the settings do not allow a start; one sentence for the operator.
package struct SettingsError: Error, CustomStringConvertible, Equatable {
  package let description: String

  package init(_ description: String) { self.description = description }
}

// MARK: - Reading

extension Settings {
  /// The defaults, for a machine of so many cores.
  package init(cores: Int) {
    // Every member below is then set from the table, so that a default stands in one place.
    listen = ListenAddress("127.0.0.1:0")!  // a literal that parses
    data = ""
    database = Secret("")
    fanout = Secret("")
    rateLimits = true
    loops = cores
    keepsProcessors = true
    signUp = .open
    trustedProxies = []
    allowedOrigins = []
    roomRules = 0
    roomsPerPerson = 0
    roomCreateLevel = 0
    tlsCertificates = []
    tlsKeys = []
    tlsWatchSeconds = 0
    logLevel = .info
    logFormat = .json
    accessLogPerSecond = 0
    maxFrameBytes = 0
    maxContentBytes = 0
    maxHeaderBytes = 0
    maxBodyBytes = 0
    maxJSONDepth = 0
    connectionFrames = Rate(burst: 0, perSecond: 0)
    userFrames = connectionFrames
    addressRequests = connectionFrames
    signUpsPerHour = 0
    connectionsPerUser = 0
    connectionsPerAddress = 0
    sendQueueBytes = 0
    bufferBytes = 0
    handshakeSeconds = 0
    requestSeconds = 0
    diskReserveBytes = 0
    readers = 0
    passwordHashers = 0
    postgresConnections = 0
    for entry in Self.table where entry.defaultText != "-" {
      do { try entry.read(entry.defaultText, &self) } catch {
        preconditionFailure("default of \(entry.name) \(error)")
      }
    }
  }

  /// Settings from an environment and, where given, a file of `NAME=value` lines; the environment
  /// wins. Throws one sentence where a name is unknown, a value is wrong or two contradict.
  package init(
    environment: [String: String], file: String?, cores: Int
  ) throws(SettingsError) {
    self.init(cores: cores)
    var values = file == nil ? [:] : try Self.values(ofFile: file ?? "")
    for (name, value) in environment where name.hasPrefix("MARTLET_") { values[name] = value }
    let entries = Dictionary(uniqueKeysWithValues: Self.table.map { ($0.name, $0) })
    for (name, value) in values.sorted(by: { $0.key < $1.key }) {
      guard let entry = entries[name] else {
        throw SettingsError("\(name) is not a setting; `martlet settings` lists them all.")
      }
      // As if it were not there: how an environment file takes a setting back.
      if value.isEmpty { continue }
      do { try entry.read(value, &self) } catch {
        throw SettingsError(
          entry.isSecret ? "\(name) \(error)." : "\(name) \(error) (it is `\(value)`).")
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
    if !fanout.reveal().isEmpty, database.reveal().isEmpty {
      throw SettingsError(
        "MARTLET_FANOUT is for nodes that share a database: it needs MARTLET_DATABASE.")
    }
    if fanoutAuthorities != nil, !fanout.reveal().hasPrefix("rediss://") {
      throw SettingsError("MARTLET_FANOUT_CA is for a MARTLET_FANOUT of rediss:// only.")
    }
  }

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
      let value = trimmed[trimmed.index(after: equals)...].trimmingBlanks()
      if let first = lines[name] {
        throw SettingsError("\(path), line \(index + 1): \(name) stands in line \(first) already.")
      }
      values[name] = String(value)
      lines[name] = index + 1
    }
    return values
  }

  // MARK: Kinds of values

  private static func address(_ text: String) throws(SettingsError) -> ListenAddress {
    guard let address = ListenAddress(text) else {
      throw SettingsError("is not of the form address:port")
    }
    return address
  }

  private static func flag(_ text: String) throws(SettingsError) -> Bool {
    switch text {
    case "on": true
    case "off": false
    default: throw SettingsError("is neither on nor off")
    }
  }

  private static func integer(
    _ text: String, _ range: ClosedRange<Int>
  ) throws(SettingsError) -> Int {
    guard let value = Int(text), range.contains(value) else {
      throw SettingsError("is not a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  private static func rate(_ text: String) throws(SettingsError) -> Rate {
    let parts = text.split(separator: ",").map { $0.trimmingBlanks() }
    guard parts.count == 2, let burst = Int(parts[0]), let perSecond = Double(parts[1]),
      burst >= 1, burst <= 1_000_000, perSecond >= 0.001, perSecond <= 1_000_000
    else {
      throw SettingsError("is not of the form burst,per-second, from 1,0.001 to 1000000,1000000")
    }
    return Rate(burst: burst, perSecond: perSecond)
  }

  private static func list(_ text: String) -> [String] {
    text.split(separator: ",").map { String($0.trimmingBlanks()) }.filter { !$0.isEmpty }
  }

  /// `scheme://host[:port]` without path (RFC 6454, 6.2).
  private static func isOrigin(_ text: String) -> Bool {
    for scheme in ["http://", "https://"] where text.hasPrefix(scheme) {
      let host = text.dropFirst(scheme.count)
      return !host.isEmpty && !host.contains(where: { "/?#@ ".contains($0) })
    }
    return false
  }
}

extension StringProtocol {
  /// Without the spaces, tabs and carriage returns at both ends.
  package func trimmingBlanks() -> Substring {
    let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" || $0 == "\r" || $0 == "\r\n" }
    var text = Substring(self)
    while let first = text.first, isBlank(first) { text.removeFirst() }
    while let last = text.last, isBlank(last) { text.removeLast() }
    return text
  }
}
