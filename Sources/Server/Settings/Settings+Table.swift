internal import Accounts
internal import Basics
internal import Web

extension Settings {
  /// One setting: its documentation, and how it is parsed.
  struct Row: Sendable {
    /// With its prefix, for example `MARTLET_LISTEN`.
    let name: String
    /// As text; nil if unset is the default.
    let defaultText: String?
    let meaning: String
    /// Whether no error message may show its value.
    let isSecret: Bool
    /// Parses a text and sets the value. Throws the end of a sentence that begins with the setting's name.
    let read: @Sendable (String, inout Settings) throws(SettingsError) -> Void
  }

  /// All settings, in the order of the documentation.
  static let table: [Row] = [
    row(
      "LISTEN", \.listen, .address,
      "Public listener, `address:port`; port 0 picks one, which standard output and the log say."),
    row(
      "DATA", \.data, .text,
      "Directory of the embedded database and of what the server stores; held by a lock while it runs."
    ),
    row(
      "DATABASE", \.database,
      .secret("is not a postgres:// URL") {
        $0.hasPrefix("postgres://") || $0.hasPrefix("postgresql://")
      },
      "`postgres://user:password@host/name`; unset: SQLite in the data directory."),
    row(
      "FANOUT", \.fanout,
      .secret("is not a redis:// URL") {
        $0.hasPrefix("redis://") || $0.hasPrefix("rediss://")
      },
      "`redis://[[user:]password@]host[:port]`, `rediss://` with TLS: nodes on one Postgres hear each other at once. Unset: they find out within 25 s."
    ),
    row(
      "FANOUT_CA", \.fanoutAuthorities, .optionalText,
      "PEM file with the authorities that sign the certificate of a `rediss://`; unset: the system's."
    ),
    row(
      "METRICS_LISTEN", \.metricsListen, .optionalAddress,
      "Listener of the Prometheus page `/metrics`; port 0 picks one, written to the log."),
    row(
      "TOKEN_SECRET", \.tokenSecret,
      .secret("has fewer than \(minimumTokenSecretBytes) bytes: such a secret is guessed") {
        $0.utf8.count >= minimumTokenSecretBytes
      },
      "HS256 secret shared with the system whose tokens are accepted; unset: such tokens are refused."
    ),
    row(
      "TOKEN_AUDIENCE", \.tokenAudience, .optionalText,
      "`aud` that those tokens must carry; unset: such tokens are refused."),
    row(
      "TOKEN_ISSUER", \.tokenIssuer, .optionalText,
      "`iss` that those tokens must carry; unset: such tokens are refused."),
    row(
      "RATE_LIMITS", \.rateLimits, .flag,
      "`off`: no rates and no connection counts per user or address. Only with loopback listeners."),
    row(
      "LOOPS", \.loops, .optionalInteger(1...64),
      "Event loops, 1 to 64; unset: one per core."),
    row(
      "KEEP_PROCESSORS", \.keepsProcessors, .flag,
      "Where there are as many event loops as cores, all but the first stay on a core each. `off`: the system moves them, for a machine whose cores others need as well."
    ),
    row(
      "SIGNUP", \.signUp, .word,
      "Who may sign up: `open`, `invited` (invitations come with organizations; until then as `closed`), `closed`. `martlet admin create` always makes an account."
    ),
    row(
      "PUBLIC_URL", \.publicURL, .origin,
      "How browsers reach the server: for cookies, links and Origin. Unset: taken from the listener."
    ),
    row(
      "TRUSTED_PROXIES", \.trustedProxies, .addressRanges,
      "Comma-separated CIDR list; only from these are `X-Forwarded-For` and `-Proto` believed."),
    row(
      "ALLOWED_ORIGINS", \.allowedOrigins, .origins,
      "Comma-separated origins, besides our own, for cookie-authenticated upgrades, unsafe requests and CORS."
    ),
    row(
      "ROOM_RULES", \.roomRules, .integer(2...10_000),
      "Rules a room can hold, its creator's included."),
    row(
      "ROOMS_PER_PERSON", \.roomsPerPerson, .integer(1...1_000_000),
      "Rooms that one person may have made."),
    row(
      "ROOM_CREATE_LEVEL", \.roomCreateLevel, .integer(0...1 << 53),
      "`levelOnEntity` that creating a room needs; people with an account here always may."),
    row(
      "TLS_CERTIFICATE", \.tlsCertificates, .texts,
      "PEM file with the certificate chain; read again on SIGHUP. Several, separated by commas: a client gets the first that bears the name it asks for, else the first."
    ),
    row(
      "TLS_KEY", \.tlsKeys, .texts,
      "PEM file with the certificate's private key; as many as certificates, in their order."),
    row(
      "TLS_WATCH", \.tlsWatchSeconds, .interval(0...86_400),
      "How often, in seconds, to look whether certificate files have changed, and to read them again then; `on`: every second."
    ),
    row(
      "LOG_LEVEL", \.logLevel, .level,
      "`debug`, `info`, `notice`, `warning` or `error`."),
    row(
      "LOG_FORMAT", \.logFormat, .format,
      "`json` or `text`, one line per event on standard error."),
    row(
      "ACCESS_LOG_PER_SECOND", \.accessLogPerSecond, .integer(0...1_000_000),
      "Requests logged per second; beyond it only a count of those left out. 0: none."),
    row(
      "MAX_FRAME_BYTES", \.maxFrameBytes, .integer(1024...16_777_216),
      "Largest WebSocket text message; beyond it close 1009."),
    row(
      "MAX_CONTENT_BYTES", \.maxContentBytes, .integer(1...8_388_608),
      "Largest `data` or `content` of a message, in bytes of UTF-8."),
    row(
      "MAX_HEADER_BYTES", \.maxHeaderBytes, .integer(1024...1_048_576),
      "Largest request line with headers; beyond it 431."),
    row(
      "MAX_BODY_BYTES", \.maxBodyBytes, .integer(1024...67_108_864),
      "Largest JSON body; beyond it 413, and where its values would take more memory than one address may have: 64 bytes and more each."
    ),
    row(
      "MAX_JSON_DEPTH", \.maxJSONDepth, .integer(2...128),
      "Deepest nesting of a JSON text."),
    row(
      "CONNECTION_FRAMES", \.connectionFrames, .rate,
      "Frames a connection may send: at once, and per second after."),
    row(
      "USER_FRAMES", \.userFrames, .rate,
      "Frames a user may send on all connections: at once, and per second after."),
    row(
      "ADDRESS_REQUESTS", \.addressRequests, .rate,
      "Requests an address may send: at once, and per second after."),
    row(
      "SIGNUPS_PER_HOUR", \.signUpsPerHour, .integer(1...1_000_000),
      "Sign-ups per hour and address."),
    row(
      "CONNECTIONS_PER_USER", \.connectionsPerUser, .integer(1...1_000_000),
      "WebSockets that a user may hold open."),
    row(
      "CONNECTIONS_PER_ADDRESS", \.connectionsPerAddress, .integer(1...1_000_000),
      "Connections of any kind that an address may hold open; beyond it they are closed at once. Those of trusted proxies count for nobody, their WebSockets for the client that they name."
    ),
    row(
      "SEND_QUEUE_BYTES", \.sendQueueBytes, .integer(65_536...268_435_456),
      "Bytes that may wait for a slow reader before it is closed with 4408."),
    row(
      "BUFFER_BYTES", \.bufferBytes, .integer(1_048_576...1 << 40),
      "Bytes that all bodies, what is made of them, and answers in flight may take together, and one address an eighth of; beyond it 503."
    ),
    row(
      "ASSETS", \.assets, .optionalText,
      "Folder of the web application's files, served under `/assets/`; unset: the folder `assets` beside the binary, where there is one."
    ),
    row(
      "HANDSHAKE_SECONDS", \.handshakeSeconds, .integer(1...300),
      "Time for a request's headers, and on `/chat` for READY."),
    row(
      "REQUEST_SECONDS", \.requestSeconds, .integer(1...300),
      "Time for the work on a request until its answer begins; beyond it 503. A body that stands still for so long: 408."
    ),
    row(
      "DISK_RESERVE_BYTES", \.diskReserveBytes, .integer(0...1 << 50),
      "Below so much free disk, messages and other growth are refused with 503. What SQLite's log has still to copy counts as used."
    ),
    row(
      "READERS", \.readers, .integer(1...64),
      "Threads that read the embedded database."),
    row(
      "PASSWORD_HASHERS", \.passwordHashers, .integer(1...64),
      "Threads that hash passwords; each hash takes 19 MiB meanwhile."),
    row(
      "POSTGRES_CONNECTIONS", \.postgresConnections, .integer(3...1000),
      "Connections to Postgres."),
  ]

  /// At least as long as the output of HMAC-SHA-256 (RFC 7518, 3.2).
  private static let minimumTokenSecretBytes = 32

  private static func row<Value>(
    _ name: String, _ member: any WritableKeyPath<Settings, Value> & Sendable,
    _ kind: SettingKind<Value>, _ meaning: String
  ) -> Row {
    Row(
      name: "MARTLET_" + name, defaultText: kind.write(Settings()[keyPath: member]),
      meaning: meaning, isSecret: Value.self == Secret<String>?.self
    ) { text, settings throws(SettingsError) in
      settings[keyPath: member] = try kind.read(text)
    }
  }
}
