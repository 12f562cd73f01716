internal import Accounts
internal import Basics
internal import Web

/// How a setting is written, and which values it allows.
struct SettingKind<Value>: Sendable {
  /// Parses a value. Throws the end of a sentence that begins with the setting's name.
  let read: @Sendable (String) throws(SettingsError) -> Value
  /// The value as text; nil if it means "unset".
  let write: @Sendable (Value) -> String?
}

extension SettingKind<String> {
  static var text: Self {
    SettingKind {
      $0
    } write: {
      $0
    }
  }
}

extension SettingKind<String?> {
  static var optionalText: Self {
    SettingKind {
      $0
    } write: {
      $0
    }
  }

  /// An origin `scheme://host[:port]` without a path (RFC 6454, 6.2).
  static var origin: Self {
    SettingKind { text throws(SettingsError) in
      guard isOrigin(text) else { throw SettingsError("is not of the form https://host[:port]") }
      return text
    } write: {
      $0
    }
  }
}

extension SettingKind<Secret<String>?> {
  /// A secret text that `isRight` accepts. No error message shows it.
  static func secret(_ explanation: String, _ isRight: @escaping @Sendable (String) -> Bool) -> Self
  {
    SettingKind { text throws(SettingsError) in
      guard isRight(text) else { throw SettingsError(explanation) }
      return Secret(text)
    } write: { _ in
      nil
    }
  }
}

extension SettingKind<Bool> {
  /// `on` or `off`.
  static var flag: Self {
    SettingKind { text throws(SettingsError) in
      switch text {
      case "on": true
      case "off": false
      default: throw SettingsError("is neither on nor off")
      }
    } write: {
      $0 ? "on" : "off"
    }
  }
}

extension SettingKind<Int> {
  static func integer(_ range: ClosedRange<Int>) -> Self {
    SettingKind { text throws(SettingsError) in
      guard let value = Int(text), range.contains(value) else {
        throw SettingsError(
          "is not a whole number from \(range.lowerBound) to \(range.upperBound)")
      }
      return value
    } write: {
      String($0)
    }
  }

  /// The seconds between two checks: `off` for never, `on` for one second.
  static func interval(_ range: ClosedRange<Int>) -> Self {
    let integer = integer(range)
    return SettingKind { text throws(SettingsError) in
      switch text {
      case "off": 0
      case "on": 1
      default: try integer.read(text)
      }
    } write: {
      $0 == 0 ? "off" : String($0)
    }
  }
}

extension SettingKind<Int?> {
  static func optionalInteger(_ range: ClosedRange<Int>) -> Self {
    let integer = SettingKind<Int>.integer(range)
    return SettingKind { text throws(SettingsError) in
      try integer.read(text)
    } write: {
      $0.map { String($0) }
    }
  }
}

extension SettingKind<Rate> {
  /// A rate, as `burst,per-second`.
  static var rate: Self {
    SettingKind { text throws(SettingsError) in
      let parts = text.split(separator: ",").map { $0.trimmingBlanks() }
      guard parts.count == 2, let burst = Int(parts[0]), let perSecond = Double(parts[1]),
        burst >= 1, burst <= 1_000_000, perSecond >= 0.001, perSecond <= 1_000_000
      else {
        throw SettingsError("is not of the form burst,per-second, from 1,0.001 to 1000000,1000000")
      }
      return Rate(burst: burst, perSecond: perSecond)
    } write: { rate in
      let isWhole = rate.perSecond == rate.perSecond.rounded()
      return "\(rate.burst),\(isWhole ? String(Int(rate.perSecond)) : String(rate.perSecond))"
    }
  }
}

extension SettingKind<ListenAddress> {
  static var address: Self {
    SettingKind { text throws(SettingsError) in
      guard let address = ListenAddress(text) else {
        throw SettingsError("is not of the form address:port")
      }
      return address
    } write: {
      $0.description
    }
  }
}

extension SettingKind<ListenAddress?> {
  static var optionalAddress: Self {
    let address = SettingKind<ListenAddress>.address
    return SettingKind { text throws(SettingsError) in
      try address.read(text)
    } write: {
      $0?.description
    }
  }
}

extension SettingKind
where
  Value: RawRepresentable & CaseIterable & SendableMetatype, Value.RawValue == String,
  Value.AllCases: SendableMetatype
{
  /// One of the enumeration's words.
  static var word: Self {
    SettingKind { text throws(SettingsError) in
      guard let value = Value(rawValue: text) else {
        let words = Value.allCases.map(\.rawValue).joined(separator: ", ")
        throw SettingsError("is none of \(words)")
      }
      return value
    } write: {
      $0.rawValue
    }
  }
}

extension SettingKind<Log.Level> {
  static var level: Self {
    SettingKind { text throws(SettingsError) in
      guard let level = Log.Level(name: text) else { throw SettingsError("is no log level") }
      return level
    } write: {
      "\($0)"
    }
  }
}

extension SettingKind<Log.Format> {
  static var format: Self {
    SettingKind { text throws(SettingsError) in
      switch text {
      case "json": .json
      case "text": .text
      default: throw SettingsError("is neither json nor text")
      }
    } write: {
      "\($0)"
    }
  }
}

extension SettingKind<[String]> {
  static var texts: Self {
    SettingKind {
      list($0)
    } write: {
      write($0)
    }
  }

  static var origins: Self {
    SettingKind { text throws(SettingsError) in
      let origins = list(text)
      for origin in origins where !isOrigin(origin) {
        throw SettingsError("has no origin `\(origin)`")
      }
      return origins
    } write: {
      write($0)
    }
  }

  private static func write(_ texts: [String]) -> String? {
    texts.isEmpty ? nil : texts.joined(separator: ",")
  }
}

extension SettingKind<[IPAddress.Range]> {
  /// Addresses, or address ranges in CIDR notation. None by default.
  static var addressRanges: Self {
    SettingKind { text throws(SettingsError) in
      var ranges: [IPAddress.Range] = []
      for part in list(text) {
        guard let range = IPAddress.Range(part) else {
          throw SettingsError("has no address range `\(part)`")
        }
        ranges.append(range)
      }
      return ranges
    } write: { _ in
      nil
    }
  }
}

/// The parts of a comma-separated list, without blanks around them.
private func list(_ text: String) -> [String] {
  text.split(separator: ",").map { String($0.trimmingBlanks()) }.filter { !$0.isEmpty }
}

private func isOrigin(_ text: String) -> Bool {
  for scheme in ["http://", "https://"] where text.hasPrefix(scheme) {
    let host = text.dropFirst(scheme.count)
    return !host.isEmpty && !host.contains(where: { "/?#@ ".contains($0) })
  }
  return false
}
