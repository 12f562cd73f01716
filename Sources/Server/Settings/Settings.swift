internal import Accounts
internal import Basics
internal import EventLoop
internal import Web

/// Everything that varies between two installations. Immutable once read.
///
/// The defaults are declared here. The meanings are in `Settings.table`, from which `martlet settings` and
/// docs/CONFIGURATION.md are generated. Targets do not know this type: they get configurations of their own
/// (`Settings+Configurations.swift`).
package struct Settings: Sendable {
  var listen = ListenAddress.loopback(port: 8080)
  var data = "./data"
  var database: Secret<String>?
  var fanout: Secret<String>?
  var fanoutAuthorities: String?
  var metricsListen: ListenAddress?
  var tokenSecret: Secret<String>?
  var tokenAudience: String?
  var tokenIssuer: String?
  var rateLimits = true
  /// Nil means one per core.
  var loops: Int?
  var keepsProcessors = true
  var signUp = AccountConfiguration.SignUp.open
  var directory = AccountConfiguration.Directory.circle
  var publicURL: String?
  var trustedProxies: [IPAddress.Range] = []
  var allowedOrigins: [String] = []
  var roomRules = 10
  var roomPeople = 10_000
  var roomsPerPerson = 1000
  var roomCreateLevel = 100
  /// 0 means never.
  var deletedDays = 30
  var tlsCertificates: [String] = []
  var tlsKeys: [String] = []
  /// 0 means never.
  var tlsWatchSeconds = 0
  var logLevel = Log.Level.info
  var logFormat = Log.Format.json
  var accessLogPerSecond = 100
  var maxFrameBytes = 128 << 10
  var maxContentBytes = 64 << 10
  var maxHeaderBytes = 16 << 10
  var maxBodyBytes = 1 << 20
  var maxJSONDepth = 16
  var connectionFrames = Rate(burst: 200, perSecond: 50)
  var userFrames = Rate(burst: 400, perSecond: 100)
  var addressRequests = Rate(burst: 400, perSecond: 100)
  var signUpsPerHour = 20
  var connectionsPerUser = 20
  var connectionsPerAddress = 1000
  var sendQueueBytes = 1 << 20
  var bufferBytes = 256 << 20
  var assets: String?
  var handshakeSeconds = 10
  var requestSeconds = 10
  var diskReserveBytes = 64 << 20
  var readers = 2
  var passwordHashers = 2
  var postgresConnections = 10

  /// All defaults.
  package init() {}
}
