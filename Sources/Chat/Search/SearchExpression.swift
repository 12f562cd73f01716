internal import Basics
internal import Words

/// A search in the language of the databases' indexes.
///
/// Only words go into it, which consist of letters, marks and digits (`SearchWords`), so nothing that somebody types can
/// be an operator.
struct SearchExpression {
  /// For FTS5: https://www.sqlite.org/fts5.html#full_text_query_syntax
  let sqlite: String
  /// A `tsquery`: https://www.postgresql.org/docs/15/datatype-textsearch.html
  let postgres: String

  /// Texts that match the pattern, in one of these rooms if there are some, and by this author if there is one.
  init(_ pattern: SearchPattern, rooms: [RoomID], author: UserID?) {
    var words: (sqlite: [String], postgres: [String]) = ([], [])
    for term in pattern.terms {
      let star = term.isPrefix ? "*" : ""
      words.sqlite.append("\"\(term.words.joined(separator: " "))\"\(star)")
      let quoted = term.words.map { "'\($0)'" }
      words.postgres.append(
        "(" + quoted.joined(separator: " <-> ") + (term.isPrefix ? ":*" : "") + ")")
    }
    if let author {
      let word = SearchDocument.word(for: author)
      words.sqlite.append("\"\(word)\"")
      words.postgres.append("'\(word)'")
    }
    if !rooms.isEmpty {
      let places = rooms.map { SearchDocument.word(for: $0) }
      words.sqlite.append("(" + places.map { "\"\($0)\"" }.joined(separator: " OR ") + ")")
      words.postgres.append("(" + places.map { "'\($0)'" }.joined(separator: " | ") + ")")
    }
    sqlite = words.sqlite.joined(separator: " AND ")
    postgres = words.postgres.joined(separator: " & ")
  }
}
