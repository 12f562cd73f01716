internal import Basics
internal import Database
internal import Words

/// A message as the search index has it.
struct SearchDocument: Sendable {
  let room: RoomID
  let seq: Int64
  /// The entry that gave the message the text that these words are from.
  let textSeq: Int64
  let ts: Timestamp
  /// The words of the text, preceded by those for the room and the author, in the form that the database's index takes:
  /// for SQLite's `ascii` tokenizer separated by spaces; for Postgres the text form of a `tsvector`.
  let words: String

  init(
    room: RoomID, seq: Int64, textSeq: Int64, ts: Timestamp, from: UserID?, text: String,
    isVector: Bool
  ) {
    self.room = room
    self.seq = seq
    self.textSeq = textSeq
    self.ts = ts
    let words =
      [Self.word(for: room)] + (from.map { [Self.word(for: $0)] } ?? []) + SearchWords.split(text)
    self.words = isVector ? Self.vector(of: words) : words.joined(separator: " ")
  }

  // No text contains these words, because it has no characters of private use among its words.

  /// The word that all documents of a room have.
  static func word(for room: RoomID) -> String { "\u{E000}\(room)" }
  /// The word that all documents of an author have.
  static func word(for author: UserID) -> String {
    "\u{E001}" + author.description.replacing("-", with: "")
  }

  /// A `tsvector` has at most 256 places of a word, below 16,384.
  private static func vector(of words: [String]) -> String {
    var places: [String: [Int]] = [:]
    var order: [String] = []
    for (index, word) in words.enumerated() {
      if places[word] == nil { order.append(word) }
      if index < 16_383, places[word]?.count ?? 0 < 255 {
        places[word, default: []].append(index + 1)
      } else {
        places[word] = places[word] ?? []
      }
    }
    return order.map { word in
      let list = (places[word] ?? []).map(\.description).joined(separator: ",")
      return list.isEmpty ? "'\(word)'" : "'\(word)':\(list)"
    }.joined(separator: " ")
  }
}

/// The place of a document in the order of time, which is its key in the index: milliseconds since 2020, and a number
/// for each document of that millisecond. So the newest hits are found first, and the search can stop there.
enum SearchPlace {
  /// 2020-01-01.
  private static let epoch: Int64 = 1_577_836_800_000
  static let perMillisecond: Int64 = 4096
  /// A moment with more documents goes on in the next ones. All documents of a moment are within so many places.
  static let reach: Int64 = 64 * perMillisecond

  /// The first place of a moment.
  static func first(at time: Timestamp) -> Int64 {
    let since = time.milliseconds.subtractingReportingOverflow(epoch)
    guard !since.overflow, since.partialValue > 0 else { return 0 }
    return min(since.partialValue, Int64.max / perMillisecond - 100) * perMillisecond
  }
}
