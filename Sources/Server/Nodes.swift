internal import Basics
internal import Chat
internal import Crypto
internal import Database
internal import EventLoop
internal import Events
internal import RedisFanout

/// Makes the connection between nodes that the settings name.
enum Nodes {
  /// Must be called on `loop`. Throws a sentence for the operator, but not because a Redis is unreachable.
  static func fanout(
    _ settings: Settings, node: NodeID, epoch: String, database: any SQLDatabase, loop: Loop,
    log: Log, metrics: Metrics
  ) async throws -> any Fanout {
    guard let text = settings.fanout else { return InProcessFanout() }
    guard let url = RedisURL(text.reveal()) else {
      throw SettingsError(
        "MARTLET_FANOUT is not of the form redis://[[user:]password@]host[:port].")
    }
    let stored = try await FanoutKey.read(from: database) {
      Base64URL.encode(SecretBytes.random(SealingKey.byteCount))
    }
    guard let key = Base64URL.decode(stored).flatMap({ SealingKey($0) }) else {
      throw SettingsError("The key of the nodes in the database (instance, fanout_key) is damaged.")
    }
    var identity = ""
    do { identity = try await FanoutKey.identity(of: database) } catch {
      // Some hosted databases do not allow this query. Then a copy of the database that still has the same epoch must
      // not use the same Redis.
      log.warning("database_not_identified", ["cause": .init("\(error)")])
    }
    do {
      return try RedisFanout(
        RedisFanout.Configuration(
          url: url, authorities: settings.fanoutAuthorities, node: node,
          key: key.derived(for: "fanout \(identity)"), epoch: epoch,
          maximumEventBytes: settings.maxContentBytes),
        loop: loop, log: log, metrics: metrics)
    } catch {
      throw SettingsError("MARTLET_FANOUT cannot be used: \(error).")
    }
  }
}
