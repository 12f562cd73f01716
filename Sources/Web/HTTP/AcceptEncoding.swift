internal import Basics

/// The content codings that a client accepts (RFC 9110, 12.5.3).
struct AcceptEncoding: Sendable {
  private var gzip: Bool?
  private var brotli: Bool?
  private var others: Bool?

  init(_ headers: Headers) {
    headers.visitList("accept-encoding") { offer in
      let end = offer.firstIndex(of: UInt8(ascii: ";")) ?? offer.endIndex
      let name = offer[..<end].trimmingBlanks()
      // If a coding is named twice, the first counts.
      if isWord(name, "gzip") || isWord(name, "x-gzip") {
        gzip = gzip ?? Self.isTaken(offer[end...])
      } else if isWord(name, "br") {
        brotli = brotli ?? Self.isTaken(offer[end...])
      } else if isWord(name, "*") {
        others = others ?? Self.isTaken(offer[end...])
      }
      return true
    }
  }

  var takesGzip: Bool { gzip ?? others ?? false }
  var takesBrotli: Bool { brotli ?? others ?? false }

  /// Whether a coding with these parameters, each preceded by `;`, is accepted: it has no weight, or a weight above
  /// 0. A malformed weight is ignored.
  private static func isTaken(_ parameters: ArraySlice<UInt8>) -> Bool {
    parameters.split(separator: UInt8(ascii: ";")).allSatisfy { parameter in
      let parts = parameter.split(separator: UInt8(ascii: "="), maxSplits: 1)
        .map { $0.trimmingBlanks() }
      guard let name = parts.first, isWord(name, "q") else { return true }
      guard parts.count == 2, let weight = Double(String(decoding: parts[1], as: UTF8.self))
      else { return false }
      return weight > 0 && weight <= 1
    }
  }
}
