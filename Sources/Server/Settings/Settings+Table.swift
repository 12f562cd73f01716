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
      "Public listener, `address:port`. With port 0 the system picks a port, which is printed and logged."
    ),
    row(
      "DATA", \.data, .text,
      "Directory of the embedded database and of files. A running server holds a lock on it."
    ),
    row(
      "DATABASE", \.database,
      .secret("is not a postgres:// URL") {
        $0.hasPrefix("postgres://") || $0.hasPrefix("postgresql://")
      },
      "`postgres://user:password@host/name`. Unset: SQLite in the data directory."),
    row(
      "FANOUT", \.fanout,
      .secret("is not a redis:// URL") {
        $0.hasPrefix("redis://") || $0.hasPrefix("rediss://")
      },
      "`redis://[[user:]password@]host[:port]`, or `rediss://` with TLS: nodes on one Postgres notify each other at once. Unset: messages reach other nodes within 25 s."
    ),
    row(
      "FANOUT_CA", \.fanoutAuthorities, .optionalText,
      "PEM file with the authorities trusted for `rediss://`. Unset: the system's."
    ),
    row(
      "METRICS_LISTEN", \.metricsListen, .optionalAddress,
      "Listener of the Prometheus page `/metrics`. With port 0 the system picks a port, which is logged."
    ),
    row(
      "TOKEN_SECRET", \.tokenSecret,
      .secret("has fewer than \(minimumTokenSecretBytes) bytes, which is too few to be safe") {
        $0.utf8.count >= minimumTokenSecretBytes
      },
      "HS256 secret shared with another system whose tokens are accepted. Unset: such tokens are refused."
    ),
    row(
      "TOKEN_AUDIENCE", \.tokenAudience, .optionalText,
      "The `aud` that those tokens must have. Unset: such tokens are refused."),
    row(
      "TOKEN_ISSUER", \.tokenIssuer, .optionalText,
      "The `iss` that those tokens must have. Unset: such tokens are refused."),
    row(
      "RATE_LIMITS", \.rateLimits, .flag,
      "`off`: no rate limits and no connection limits per user or address. Allowed with loopback listeners only."
    ),
    row(
      "LOOPS", \.loops, .optionalInteger(1...64),
      "Number of event loops, 1 to 64. Unset: one per core."),
    row(
      "KEEP_PROCESSORS", \.keepsProcessors, .flag,
      "With as many event loops as cores, pins all but the first to one core each. `off`: no pinning, for a machine that runs other programs too."
    ),
    row(
      "SIGNUP", \.signUp, .word,
      "Who may sign up: `open` (everyone), `invited` (invitations are not built yet, so the same as `closed`), or `closed` (nobody). `martlet admin create` always makes an account."
    ),
    row(
      "DIRECTORY", \.directory, .word,
      "Whom people with an account can find, and add without asking: `circle` (those with whom they share an organization, a team or a room), or `everyone` on this server."
    ),
    row(
      "PUBLIC_URL", \.publicURL, .origin,
      "URL under which browsers reach the server, for cookies, links and Origin checks. Unset: derived from the listener."
    ),
    row(
      "TRUSTED_PROXIES", \.trustedProxies, .addressRanges,
      "Comma-separated addresses in CIDR notation. `X-Forwarded-For` and `X-Forwarded-Proto` are trusted only from these."
    ),
    row(
      "ALLOWED_ORIGINS", \.allowedOrigins, .origins,
      "Comma-separated origins, besides the server's own, for CORS and for upgrades and unsafe requests with a cookie."
    ),
    row(
      "ROOM_RULES", \.roomRules, .integer(2...10_000),
      "Most rules in a room, including its creator's."),
    row(
      "ROOM_PEOPLE", \.roomPeople, .integer(2...100_000),
      "Most people who are named in a room. (Rules admit any number.)"),
    row(
      "ROOMS_PER_PERSON", \.roomsPerPerson, .integer(1...1_000_000),
      "Most rooms that one person may have made, and most teams."),
    row(
      "DELETED_DAYS", \.deletedDays, .integer(0...36_500),
      "Days after which nothing is left of what a deleted message has said. 0: never. (Of secret rooms nothing is left at once.)"
    ),
    row(
      "ROOM_CREATE_LEVEL", \.roomCreateLevel, .integer(0...1 << 53),
      "The `levelOnEntity` needed to create a room. People with an account on this server always may."
    ),
    row(
      "TLS_CERTIFICATE", \.tlsCertificates, .texts,
      "PEM file with the certificate chain, reloaded on SIGHUP. There may be several, separated by commas: a client gets the first that matches the server name it asks for, or else the first."
    ),
    row(
      "TLS_KEY", \.tlsKeys, .texts,
      "PEM file with the private key; one per certificate, in the same order."),
    row(
      "TLS_WATCH", \.tlsWatchSeconds, .interval(0...86_400),
      "Reloads certificate files that have changed; the value is the interval of the checks in seconds. `on`: every second."
    ),
    row(
      "LOG_LEVEL", \.logLevel, .level,
      "`debug`, `info`, `notice`, `warning` or `error`."),
    row(
      "LOG_FORMAT", \.logFormat, .format,
      "`json` or `text`, one line per event on standard error."),
    row(
      "ACCESS_LOG_PER_SECOND", \.accessLogPerSecond, .integer(0...1_000_000),
      "Most requests logged per second. Of others only their number is logged. 0: none."),
    row(
      "MAX_FRAME_BYTES", \.maxFrameBytes, .integer(1024...16_777_216),
      "Largest WebSocket text message, in bytes. A larger one closes the socket with 1009."),
    row(
      "MAX_CONTENT_BYTES", \.maxContentBytes, .integer(1...8_388_608),
      "Largest `data` or `content` of a message, in bytes of UTF-8."),
    row(
      "MAX_HEADER_BYTES", \.maxHeaderBytes, .integer(1024...1_048_576),
      "Largest request line with headers, in bytes. Larger ones are answered with 431."),
    row(
      "MAX_BODY_BYTES", \.maxBodyBytes, .integer(1024...67_108_864),
      "Largest JSON body, in bytes. Larger ones are answered with 413, and so are bodies whose values would take more memory than one address may have (at least 64 bytes per value)."
    ),
    row(
      "MAX_JSON_DEPTH", \.maxJSONDepth, .integer(2...128),
      "Deepest nesting of a JSON text."),
    row(
      "CONNECTION_FRAMES", \.connectionFrames, .rate,
      "Frames that a connection may send: a burst, and then per second."),
    row(
      "USER_FRAMES", \.userFrames, .rate,
      "Frames that a user may send over all connections: a burst, and then per second."),
    row(
      "ADDRESS_REQUESTS", \.addressRequests, .rate,
      "Requests that an address may send: a burst, and then per second."),
    row(
      "SIGNUPS_PER_HOUR", \.signUpsPerHour, .integer(1...1_000_000),
      "Most sign-ups per hour from one address."),
    row(
      "CONNECTIONS_PER_USER", \.connectionsPerUser, .integer(1...1_000_000),
      "Most WebSockets that a user may hold open."),
    row(
      "CONNECTIONS_PER_ADDRESS", \.connectionsPerAddress, .integer(1...1_000_000),
      "Most connections of any kind that an address may hold open. Further ones are closed at once. Connections of trusted proxies are not limited; their WebSockets count for the client that the proxy names."
    ),
    row(
      "SEND_QUEUE_BYTES", \.sendQueueBytes, .integer(65_536...268_435_456),
      "Most bytes queued for a slow reader, before its socket is closed with 4408."),
    row(
      "BUFFER_BYTES", \.bufferBytes, .integer(1_048_576...1 << 40),
      "Most memory for all request bodies and answers in flight, in bytes. One address may take an eighth of it. Beyond that requests are answered with 503."
    ),
    row(
      "ASSETS", \.assets, .optionalText,
      "Folder with the files of the web application, served under `/assets/`. Unset: the folder `assets` beside the binary, if it exists."
    ),
    row(
      "HANDSHAKE_SECONDS", \.handshakeSeconds, .integer(1...300),
      "Time for receiving a request's headers, and on `/chat` until READY."),
    row(
      "REQUEST_SECONDS", \.requestSeconds, .integer(1...300),
      "Time for the work on a request until its answer begins; after that it is answered with 503. A body that stalls for this long is answered with 408."
    ),
    row(
      "DISK_RESERVE_BYTES", \.diskReserveBytes, .integer(0...1 << 50),
      "With less free disk space than this, messages and other writes that grow the data are refused with 503. What SQLite still has to copy from its log counts as used."
    ),
    row(
      "READERS", \.readers, .integer(1...64),
      "Threads that read the embedded database."),
    row(
      "PASSWORD_HASHERS", \.passwordHashers, .integer(1...64),
      "Threads that hash passwords. Each hash needs 19 MiB."),
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
