package import Basics

/// The parameters of a request's query, decoded (WHATWG URL, `application/x-www-form-urlencoded`).
package struct Query: Sendable {
  private let items: [(name: String, value: String)]

  init(_ text: String) {
    guard !text.isEmpty else {
      items = []
      return
    }
    items = Array(text.utf8).split(separator: UInt8(ascii: "&")).map { pair in
      let mark = pair.firstIndex(of: UInt8(ascii: "=")) ?? pair.endIndex
      return (Self.decoded(pair[..<mark]), Self.decoded(pair[mark...].dropFirst()))
    }
  }

  /// Invalid percent-encoding is kept as it is.
  private static func decoded(_ text: ArraySlice<UInt8>) -> String {
    percentDecoded(text, plusIsSpace: true) ?? String(decoding: text, as: UTF8.self)
  }

  /// The first value of this name, or nil.
  package subscript(name: String) -> String? { items.first { $0.name == name }?.value }
}

/// Decodes percent-encoding. Nil if it is malformed, or if the result is not UTF-8 or contains U+0000.
func percentDecoded(_ text: Substring) -> String? { percentDecoded(Array(text.utf8)[...]) }

/// The same, for a text as bytes.
func percentDecoded(_ text: ArraySlice<UInt8>, plusIsSpace: Bool = false) -> String? {
  var bytes: [UInt8] = []
  bytes.reserveCapacity(text.count)
  var iterator = text.makeIterator()
  while let byte = iterator.next() {
    switch byte {
    case UInt8(ascii: "%"):
      guard let high = iterator.next().flatMap(hexDigit),
        let low = iterator.next().flatMap(hexDigit)
      else { return nil }
      guard high != 0 || low != 0 else { return nil }
      bytes.append(high << 4 | low)
    case UInt8(ascii: "+") where plusIsSpace: bytes.append(0x20)
    default: bytes.append(byte)
    }
  }
  return String(validating: bytes, as: UTF8.self)
}

extension Query {
  /// The parameters as fields, to be read with types and limits.
  package var fields: Fields {
    var object = JSONObject()
    var seen: Set<String> = []
    for item in items where seen.insert(item.name).inserted {
      object.append(item.name, .string(item.value))
    }
    return Fields(object)
  }
}

/// The requested page of a list.
package struct PageRequest: Sendable {
  package let limit: Int
  /// The `next_cursor` of an earlier answer, or nil for the first page.
  package let cursor: String?

  /// Reads `limit` (1 to 200, default 50) and `cursor`. Faults are added to `fields`.
  package init(_ fields: inout Fields) {
    limit = Int(fields.optionalInteger("limit", 1...200) ?? 50)
    cursor = fields.optionalString("cursor", 1...200)
  }
}
