/// A JSON value (RFC 8259) that came from outside.
package enum JSON: Sendable, Equatable {
  case null
  case bool(Bool)
  /// A number without fraction or exponent that fits 64 bits.
  case integer(Int64)
  /// Any other number; infinite if it exceeds the range of a double. `text` is the number as it was sent, so that it
  /// can be stored and returned without change.
  case double(Double, text: String)
  case string(String)
  case array([JSON])
  case object(JSONObject)

  /// The members, or nil if this is not an object.
  package var object: JSONObject? {
    if case .object(let object) = self { object } else { nil }
  }

  /// The text, or nil if this is not a string.
  package var string: String? {
    if case .string(let string) = self { string } else { nil }
  }

  /// The number if it is whole and its magnitude is at most 2^53, also if it is written as `1.0` or `1e2`; otherwise
  /// nil.
  package var wholeNumber: Int64? {
    switch self {
    case .integer(let value): value.magnitude <= 1 << 53 ? value : nil
    case .double(let value, _):
      value.magnitude <= 9_007_199_254_740_992 && value.rounded() == value ? Int64(value) : nil
    default: nil
    }
  }

  /// Whether any text or key in this value contains U+0000, which is not allowed in fields.
  package var containsNUL: Bool {
    switch self {
    case .string(let text): text.containsNUL
    case .array(let elements): elements.contains { $0.containsNUL }
    case .object(let object):
      object.members.contains { $0.key.containsNUL || $0.value.containsNUL }
    default: false
    }
  }

  /// The number as `wholeNumber` returns it, also if it is a string of decimal digits: clients of the nano protocol
  /// send both. Otherwise nil.
  package var wholeNumberOrNumericString: Int64? {
    guard case .string(let text) = self else { return wholeNumber }
    guard !text.isEmpty, text.utf8.count <= 17,
      text.utf8.enumerated().allSatisfy({ index, byte in
        (48...57).contains(byte) || (index == 0 && byte == UInt8(ascii: "-") && text.utf8.count > 1)
      }), let value = Int64(text), value.magnitude <= 1 << 53
    else { return nil }
    return value
  }
}

/// The members of an object, in the order in which they were sent. Each key occurs once: the parser refuses duplicates.
package struct JSONObject: Sendable, Equatable {
  package struct Member: Sendable, Equatable {
    package let key: String
    package let value: JSON
  }

  package private(set) var members: [Member] = []

  package init() {}

  /// The value of a key, or nil. The search is linear, because frames and bodies have few keys.
  package subscript(key: String) -> JSON? {
    members.first { $0.key == key }?.value
  }

  /// Adds a member. The caller makes sure that the key is new.
  package mutating func append(_ key: String, _ value: JSON) {
    members.append(Member(key: key, value: value))
  }
}
