package import Basics

/// The parameters behind a request's `?`, decoded (WHATWG URL, `application/x-www-form-urlencoded`).
package struct Query: Sendable {
  private let items: [(name: String, value: String)]

  init(_ text: String) {
    guard !text.isEmpty else {
      items = []
      return
    }
    items = text.split(separator: "&").map { pair in
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return (
        percentDecoded(parts[0], plusIsSpace: true) ?? String(parts[0]),
        parts.count < 2 ? "" : percentDecoded(parts[1], plusIsSpace: true) ?? String(parts[1])
      )
    }
  }

  /// The first value of this name, or nil.
  package subscript(name: String) -> String? { items.first { $0.name == name }?.value }
}

/// Decodes percent-encoding; nil where it is malformed or the result is not UTF-8 or holds U+0000.
func percentDecoded(_ text: Substring, plusIsSpace: Bool = false) -> String? {
  let isPlain = text.utf8.allSatisfy {
    $0 != UInt8(ascii: "%") && (!plusIsSpace || $0 != UInt8(ascii: "+"))
  }
  if isPlain { return String(text) }
  var bytes: [UInt8] = []
  bytes.reserveCapacity(text.utf8.count)
  var iterator = text.utf8.makeIterator()
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

/// A page of a list as asked for.
package struct PageRequest: Sendable {
  package let limit: Int
  /// What an earlier answer gave as `next_cursor`, or nil for the first page.
  package let cursor: String?

  /// Reads `limit` (1 to 200, default 50) and `cursor`; faults go to `fields`.
  package init(_ fields: inout Fields) {
    limit = Int(fields.optionalInteger("limit", 1...200) ?? 50)
    cursor = fields.optionalString("cursor", 1...200)
  }
}
