internal import Basics

/// The codings that a client takes an answer in (RFC 9110, 12.5.3).
struct AcceptEncoding: Sendable {
  private var gzip: Bool?
  private var brotli: Bool?
  private var others = false

  init(_ headers: Headers) {
    guard headers.has("accept-encoding") else { return }
    for value in headers.all("accept-encoding") {
      for offer in value.split(separator: ",") {
        let parts = offer.split(separator: ";").map { $0.trimmingBlanks().lowercased() }
        guard let name = parts.first else { continue }
        let isTaken = parts.dropFirst().allSatisfy(Self.isPositive)
        switch name {
        case "gzip", "x-gzip": gzip = isTaken
        case "br": brotli = isTaken
        case "*": others = isTaken
        default: break
        }
      }
    }
  }

  var takesGzip: Bool { gzip ?? others }
  var takesBrotli: Bool { brotli ?? others }

  /// Whether a weight is above 0; what is malformed is not.
  private static func isPositive(_ parameter: String) -> Bool {
    let parts = parameter.split(separator: "=", maxSplits: 1).map { $0.trimmingBlanks() }
    guard parts.first == "q" else { return true }
    guard parts.count == 2, let weight = Double(parts[1]) else { return false }
    return weight > 0 && weight <= 1
  }
}
