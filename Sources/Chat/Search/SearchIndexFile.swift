internal import Basics
package import Database

/// The search index of the embedded database, which has a file of its own (`SQLiteDatabase.Use.derived`).
///
/// SQLite has one writer per file, so in the file of the log the index would delay messages: FTS5 takes about 40 us for a
/// message, and now and then 30 ms for merging. On Postgres the index is in the database itself.
///
/// The index is made of the log and can be made again. That is done if it is not known to be of this log: after a
/// backup was restored, or if the file cannot be used.
package enum SearchIndexFile {
  /// `search_log` has one row with the log's epoch. The other tables are described at `ChatSchema`.
  package static let migrations: [Migration] = [
    Migration(
      feature: "search", number: 1,
      """
      CREATE TABLE search_log (epoch TEXT NOT NULL) STRICT;
      CREATE TABLE search_heads (
        room_id INTEGER PRIMARY KEY, indexed_seq INTEGER NOT NULL) STRICT;
      CREATE TABLE search_documents (
        id INTEGER PRIMARY KEY, room_id INTEGER NOT NULL, seq INTEGER NOT NULL,
        text_seq INTEGER NOT NULL, words TEXT NOT NULL) STRICT;
      CREATE VIRTUAL TABLE search_words USING fts5 (
        words, content='search_documents', content_rowid='id', columnsize=0, tokenize='ascii');
      CREATE TRIGGER search_documents_added AFTER INSERT ON search_documents BEGIN
        INSERT INTO search_words (rowid, words) VALUES (NEW.id, NEW.words);
      END;
      CREATE TRIGGER search_documents_removed AFTER DELETE ON search_documents BEGIN
        INSERT INTO search_words (search_words, rowid, words)
          VALUES ('delete', OLD.id, OLD.words);
      END;
      """)
  ]

  /// Returns whether the index is one of the log with this epoch, and not ahead of it. A new index becomes one of this
  /// log.
  package static func belongs(
    to epoch: String, _ index: any SQLDatabase
  ) async throws -> Bool {
    let (known, isAhead) = try await index.read { transaction in
      let row = try await transaction.first("SELECT epoch FROM search_log")
      let ahead = try await transaction.first(
        """
        SELECT 1 FROM search_heads s LEFT JOIN room_heads h ON h.room_id = s.room_id
        WHERE s.indexed_seq > coalesce(h.last_seq, 0) LIMIT 1
        """)
      return (try row?.text(0), ahead != nil)
    }
    if let known { return known == epoch && !isAhead }
    try await index.write(.essential) { transaction in
      _ = try await transaction.execute(
        "INSERT INTO search_log (epoch) VALUES ($1)", [.text(epoch)])
    }
    return true
  }
}
