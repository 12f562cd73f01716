package import Basics

/// SQL text. Only literals can become one, so no value can ever get into the text: values are bound
/// as `$1`, `$2` ...
///
///     try await transaction.query("SELECT name FROM rooms WHERE id = $1", [.integer(id)])
package struct SQL: Sendable, ExpressibleByStringLiteral {
  package let sqlite: StaticString
  package let postgres: StaticString

  package init(stringLiteral text: StaticString) {
    sqlite = text
    postgres = text
  }

  /// For what the two databases must say differently: DDL, locks.
  package init(sqlite: StaticString, postgres: StaticString) {
    self.sqlite = sqlite
    self.postgres = postgres
  }
}

/// A value as the databases keep it. Booleans are the integers 0 and 1, times are milliseconds, UUIDs
/// are 16 bytes.
package enum SQLValue: Sendable, Equatable {
  case null
  case integer(Int64)
  case text(String)
  case blob([UInt8])
  /// A blob of 16 bytes, without an array: ids are in every row.
  case uuid(UUID)

  @inlinable package static func id<Entity>(_ value: Identifier<Entity>) -> SQLValue {
    .uuid(value.uuid)
  }
  /// A blob as it came from a database.
  static func blobOrUUID(_ bytes: UnsafeRawBufferPointer) -> SQLValue {
    if bytes.count == 16 {
      return .uuid(
        UUID(
          high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
          low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))))
    }
    return .blob([UInt8](bytes))
  }

  package static func room(_ value: RoomID) -> SQLValue { .integer(value.value) }

  /// Ids as one value, for a statement about many of them: 16 bytes each, one after the other.
  package static func ids<Entity>(_ values: [Identifier<Entity>]) -> SQLValue {
    uuids(values.map(\.uuid))
  }

  package static func uuids(_ values: [UUID]) -> SQLValue { .blob(values.flatMap(\.bytes)) }

  /// Ids of rooms as one value, for a statement about many of them: a JSON array of numbers.
  package static func rooms(_ values: [RoomID]) -> SQLValue {
    .text("[\(values.map(\.description).joined(separator: ","))]")
  }

  package static func time(_ value: Timestamp) -> SQLValue { .integer(value.milliseconds) }
  package static func bool(_ value: Bool) -> SQLValue { .integer(value ? 1 : 0) }
  @inlinable package static func optional<Value>(
    _ value: Value?, _ make: (Value) -> SQLValue
  ) -> SQLValue {
    value.map(make) ?? .null
  }
}

/// One row of a result, by column position. Blobs of 16 bytes are `uuid` values.
package struct Row: Sendable {
  private let values: [SQLValue]

  init(_ values: [SQLValue]) { self.values = values }

  /// A column of another type than asked is a schema we did not write: throws `DatabaseError`.
  private func typeMismatch(_ column: Int) -> DatabaseError {
    DatabaseError(kind: .other, message: "column \(column) is not of the expected type")
  }

  package func isNull(_ column: Int) -> Bool {
    column < values.count && values[column] == .null
  }

  package func integer(_ column: Int) throws -> Int64 {
    guard column < values.count, case .integer(let value) = values[column] else {
      throw typeMismatch(column)
    }
    return value
  }

  package func text(_ column: Int) throws -> String {
    guard column < values.count, case .text(let value) = values[column] else {
      throw typeMismatch(column)
    }
    return value
  }

  package func blob(_ column: Int) throws -> [UInt8] {
    guard column < values.count else { throw typeMismatch(column) }
    switch values[column] {
    case .blob(let bytes): return bytes
    case .uuid(let uuid): return uuid.bytes
    default: throw typeMismatch(column)
    }
  }

  package func uuid(_ column: Int) throws -> UUID {
    guard column < values.count, case .uuid(let value) = values[column] else {
      throw typeMismatch(column)
    }
    return value
  }

  @inlinable package func id<Entity>(
    _ column: Int, as _: Identifier<Entity>.Type = Identifier<Entity>.self
  ) throws -> Identifier<Entity> { Identifier(try uuid(column)) }

  package func room(_ column: Int) throws -> RoomID { RoomID(try integer(column)) }
  package func bool(_ column: Int) throws -> Bool { try integer(column) != 0 }

  package func time(_ column: Int) throws -> Timestamp {
    Timestamp(milliseconds: try integer(column))
  }

  /// Nil for NULL, else what `read` makes of the column.
  @inlinable package func optional<Value>(_ column: Int, _ read: (Int) throws -> Value) rethrows
    -> Value?
  {
    isNull(column) ? nil : try read(column)
  }
}

/// A statement with its values, for `Transaction.pipeline`.
package struct Statement: Sendable {
  package let sql: SQL
  package let values: [SQLValue]

  package init(_ sql: SQL, _ values: [SQLValue] = []) {
    self.sql = sql
    self.values = values
  }
}

/// What a statement gave.
package struct ResultSet: Sendable {
  package let rows: [Row]
  /// Rows inserted, updated or deleted.
  package let changes: Int
}

/// Why a database refused.
package struct DatabaseError: Error, Sendable, CustomStringConvertible {
  package enum Kind: Sendable {
    /// A constraint of the schema: unique, foreign key, check, not null.
    case constraint
    /// Locked, full, gone, read-only: the same may work later. Answered 503.
    case unavailable
    /// The transaction took longer than `Transaction.expire` allows. Nothing was kept.
    case expired
    /// Everything else is a mistake of ours.
    case other
  }

  package let kind: Kind
  /// For the log.
  package let message: String

  package init(kind: Kind, message: String) {
    self.kind = kind
    self.message = message
  }

  package var description: String { message }
}

/// What a caller is told where the database could not do its work: transient trouble is
/// `unavailable`, everything else keeps its type and becomes an internal error.
func unavailable(_ error: any Error) -> any Error {
  isTransient(error) && !(error is AppError) ? AppError(.unavailable, underlying: error) : error
}

/// Whether the same may work later: the fault is not in what was asked.
func isTransient(_ error: any Error) -> Bool {
  switch error {
  case let failure as DatabaseError: failure.kind == .unavailable || failure.kind == .expired
  case let failure as AppError: failure.code == .unavailable
  default: false
  }
}
