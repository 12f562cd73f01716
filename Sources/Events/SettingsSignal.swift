package import Basics

/// Tells a person's sockets that the person's settings have changed.
package struct SettingsSignal: Sendable, Equatable {
  package let user: UserID
  /// A JSON object.
  package let settings: [UInt8]

  package static let kind = "settings"

  package init(user: UserID, settings: [UInt8]) {
    self.user = user
    self.settings = settings
  }

  package var signal: Signal {
    var writer = WireWriter()
    writer.uuid(user.uuid)
    for byte in settings { writer.byte(byte) }
    return Signal(to: .everyone, kind: Self.kind, content: writer.bytes)
  }

  /// Whether the settings say that nobody may know whether the person is present (`"presence":"offline"`).
  package var hidesPresence: Bool {
    // Written by this server. What cannot be read counts as the default.
    (try? JSONParser.parse(settings, maximumDepth: .max))?.object?["presence"]?.string == "offline"
  }

  /// Nil if the content is not of this kind.
  package init?(_ signal: Signal) {
    var reader = WireReader(signal.content[...])
    guard signal.kind == Self.kind, let user = reader.uuid() else { return nil }
    self.user = UserID(user)
    settings = Array(signal.content.dropFirst(16))
  }
}
