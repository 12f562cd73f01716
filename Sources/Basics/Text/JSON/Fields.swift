/// A reader of the members of a body or a query, which checks their types and limits and collects all faults, so that
/// one answer names them all.
///
///     var fields = Fields(body)
///     let name = fields.string("name", 1...120)
///     let level = fields.integer("level_admin", 0...Fields.largestInteger)
///     try fields.finish()
///
/// For a member at fault its function returns a placeholder. Call `finish` before using any value: it throws if there
/// was a fault.
package struct Fields {
  private let object: JSONObject
  private var details: [AppError.Detail] = []

  /// The largest integer that every JSON reader represents exactly.
  package static let largestInteger: Int64 = 1 << 53

  package init(_ object: JSONObject) { self.object = object }

  /// Throws `validation_failed` with all faults found so far.
  package func finish() throws(AppError) {
    if !details.isEmpty { throw AppError(.validationFailed, details: details) }
  }

  /// Records a fault of a member. Only the first fault of each member is kept.
  package mutating func fault(_ field: String, _ message: String) {
    if !details.contains(where: { $0.field == field }) {
      details.append(AppError.Detail(field: field, message: message))
    }
  }

  /// Whether the member is present, even as null. None of the functions below accepts null.
  package func has(_ name: String) -> Bool { object[name] != nil }

  // MARK: Text

  /// Reads a text without control characters, whose length in Unicode scalars is within `length`.
  package mutating func string(_ name: String, _ length: ClosedRange<Int>) -> String {
    guard let text = text(name) else { return "" }
    if text.unicodeScalars.contains(where: { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) })
    {
      fault(name, "must not hold control characters")
    } else if !length.contains(text.unicodeScalars.count) {
      fault(name, "must have \(length.lowerBound) to \(length.upperBound) characters")
    }
    return text
  }

  package mutating func optionalString(_ name: String, _ length: ClosedRange<Int>) -> String? {
    has(name) ? string(name, length) : nil
  }

  /// Reads a password or a token: a text with any characters except U+0000, whose length in Unicode scalars is within
  /// `length`.
  package mutating func secret(_ name: String, _ length: ClosedRange<Int>) -> String {
    guard let text = text(name) else { return "" }
    if !length.contains(text.unicodeScalars.count) {
      fault(name, "must have \(length.lowerBound) to \(length.upperBound) characters")
    }
    return text
  }

  /// Reads one of the words that are the cases of `Word`.
  package mutating func word<Word: RawRepresentable & CaseIterable>(
    _ name: String, as _: Word.Type = Word.self
  ) -> Word? where Word.RawValue == String {
    guard let text = text(name) else { return nil }
    guard let word = Word(rawValue: text) else {
      let words = Word.allCases.map(\.rawValue).joined(separator: ", ")
      fault(name, "must be one of \(words)")
      return nil
    }
    return word
  }

  package mutating func uuid(_ name: String) -> UUID? {
    guard let text = text(name) else { return nil }
    guard let uuid = UUID(text) else {
      fault(name, "must be a UUID")
      return nil
    }
    return uuid
  }

  /// Reads a time in RFC 3339; nil if the member is absent.
  package mutating func optionalTime(_ name: String) -> Timestamp? {
    guard has(name), let text = text(name) else { return nil }
    guard let time = Timestamp(rfc3339: text) else {
      fault(name, "must be a time in RFC 3339")
      return nil
    }
    return time
  }

  private mutating func text(_ name: String) -> String? {
    switch object[name] {
    case .string(let text):
      guard text.utf8.allSatisfy({ $0 != 0 }) else {
        fault(name, "must not hold U+0000")
        return nil
      }
      return text
    case nil:
      fault(name, "is required")
      return nil
    default:
      fault(name, "must be a string")
      return nil
    }
  }

  // MARK: Numbers and booleans

  /// Reads a whole number, which may also be a string of digits.
  package mutating func integer(_ name: String, _ range: ClosedRange<Int64>) -> Int64 {
    guard has(name), let value = object[name] else {
      fault(name, "is required")
      return range.lowerBound
    }
    guard let number = value.wholeNumberOrNumericString, range.contains(number) else {
      fault(name, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
      return range.lowerBound
    }
    return number
  }

  package mutating func optionalInteger(_ name: String, _ range: ClosedRange<Int64>) -> Int64? {
    has(name) ? integer(name, range) : nil
  }

  package mutating func bool(_ name: String) -> Bool {
    guard has(name), let value = object[name] else {
      fault(name, "is required")
      return false
    }
    guard case .bool(let flag) = value else {
      fault(name, "must be true or false")
      return false
    }
    return flag
  }

  package mutating func optionalBool(_ name: String) -> Bool? { has(name) ? bool(name) : nil }

  /// Returns the value as it was sent, unchecked; nil if the member is absent.
  package func value(_ name: String) -> JSON? { object[name] }
}
