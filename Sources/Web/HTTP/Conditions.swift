internal import Basics

/// The preconditions and the range of a request (RFC 9110, 13 and 14).
struct Conditions {
  private let headers: Headers
  private let isReading: Bool
  private let isGet: Bool

  init(_ headers: Headers, method: Method) {
    self.headers = headers
    isReading = method == .get || method == .head
    isGet = method == .get
  }

  enum Verdict: Equatable {
    case proceed
    /// 304: the client's copy is up to date.
    case notModified
    /// 412: the resource is not in the state that the client requires.
    case failed
  }

  /// Evaluated in the order of RFC 9110, 13.2.2. `modified` is compared in whole seconds.
  func verdict(tag: EntityTag, modified: Timestamp?) -> Verdict {
    if headers.has("if-match") {
      guard tag.isListed(in: headers.all("if-match"), takesWeak: false) else { return .failed }
    } else if let limit = time("if-unmodified-since"), let modified,
      modified.milliseconds / 1000 > limit
    {
      return .failed
    }
    return afterMatch(tag, modified)
  }

  private func afterMatch(_ tag: EntityTag, _ modified: Timestamp?) -> Verdict {
    if headers.has("if-none-match") {
      if tag.isListed(in: headers.all("if-none-match"), takesWeak: true) {
        return isReading ? .notModified : .failed
      }
    } else if isReading, let limit = time("if-modified-since"), let modified,
      modified.milliseconds / 1000 <= limit
    {
      return .notModified
    }
    return .proceed
  }

  enum Range: Equatable {
    /// The whole: no range, several ranges, a malformed one, or one of something that has changed.
    case whole
    case part(Swift.Range<Int64>)
    /// 416: the range begins beyond the end.
    case unsatisfiable
  }

  /// The requested part of something with this many bytes. Several ranges are answered with the whole.
  func range(of size: Int64, tag: EntityTag, modified: Timestamp?) -> Range {
    guard isGet, headers.count("range") == 1, let text = headers["range"],
      isRangeWanted(tag, modified)
    else { return .whole }
    let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, parts[0].lowercased() == "bytes" else { return .whole }
    let ends = parts[1].trimmingBlanks()
      .split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
    guard ends.count == 2, !parts[1].contains(",") else { return .whole }
    switch (End(ends[0]), End(ends[1])) {
    case (.open, .at(let count)):
      // The last `count` bytes.
      return count > 0 && size > 0 ? .part(max(0, size - count)..<size) : .unsatisfiable
    case (.at(let first), .open): return first < size ? .part(first..<size) : .unsatisfiable
    case (.at(let first), .at(let last)) where first <= last:
      return first < size ? .part(first..<(min(last, size - 1) + 1)) : .unsatisfiable
    default: return .whole
    }
  }

  /// One end of a range.
  private enum End {
    case open
    case at(Int64)
    case malformed

    init(_ text: Substring) {
      if text.isEmpty {
        self = .open
      } else if text.utf8.allSatisfy({ (48...57).contains($0) }) {
        // A number that is too large is beyond every end.
        self = .at(Int64(text) ?? .max)
      } else {
        self = .malformed
      }
    }
  }

  /// `If-Range`: the client wants a part only if its own part belongs to the same state.
  private func isRangeWanted(_ tag: EntityTag, _ modified: Timestamp?) -> Bool {
    guard let text = headers["if-range"] else { return true }
    if let limit = HTTPDate.seconds(text) {
      return modified.map { $0.milliseconds / 1000 == limit } ?? false
    }
    return text == tag.text
  }

  private func time(_ name: StaticString) -> Int64? {
    guard headers.count(name) == 1 else { return nil }
    return headers[name].flatMap { HTTPDate.seconds($0) }
  }
}
