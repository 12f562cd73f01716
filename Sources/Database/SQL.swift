package import Basics

/// SQL text. Only string literals can become one, so that no value can get into the text: values are bound as `$1`,
/// `$2` and so on.
///
///     try await transaction.query("SELECT name FROM rooms WHERE id = $1", [.integer(id)])
package struct SQL: Sendable, ExpressibleByStringLiteral {
  package let sqlite: StaticString
  package let postgres: StaticString

  package init(stringLiteral text: StaticString) {
    sqlite = text
    postgres = text
  }

  /// For what differs between the two databases, such as DDL and locks.
  package init(sqlite: StaticString, postgres: StaticString) {
    self.sqlite = sqlite
    self.postgres = postgres
  }
}

/// A value as databases store it. Booleans are the integers 0 and 1, times are milliseconds since 1970, and UUIDs are
/// 16 bytes.
package enum SQLValue: Sendable, Equatable {
  case null
  case integer(Int64)
  case text(String)
  case blob([UInt8])
  /// A blob of 16 bytes, stored without an array because every row has ids.
  case uuid(UUID)

  @inlinable package static func id<Entity>(_ value: Identifier<Entity>) -> SQLValue {
    .uuid(value.uuid)
  }
  /// A blob that was read from a database.
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

  /// Ids as one value, for a statement about many of them: 16 bytes each, concatenated.
  package static func ids<Entity>(_ values: [Identifier<Entity>]) -> SQLValue {
    uuids(values.map(\.uuid))
  }

  package static func uuids(_ values: [UUID]) -> SQLValue { .blob(values.flatMap(\.bytes)) }

  /// Ids of rooms as one value, for a statement about many of them: a JSON array of numbers.
  package static func rooms(_ values: [RoomID]) -> SQLValue { integers(values.map(\.value)) }

  /// Numbers as one value, for a statement about many of them: a JSON array.
  package static func integers(_ values: [Int64]) -> SQLValue {
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

/// One row of a result. Columns are named by their position, from 0. Reading a column that is missing, NULL or of
/// another type throws `DatabaseError`. Blobs of 16 bytes can be read as `uuid` and as `blob`.
package struct Row: Sendable {
  private let values: [SQLValue]

  init(_ values: [SQLValue]) { self.values = values }

  /// The error for a column whose type is not the requested one: the schema is not ours.
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

  /// Nil for NULL; otherwise the result of `read`.
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

/// The result of a statement.
package struct ResultSet: Sendable {
  package let rows: [Row]
  /// The number of rows that were inserted, updated or deleted. Without meaning for statements that only read.
  package let changes: Int
}

/// Why a database refused something.
package struct DatabaseError: Error, Sendable, CustomStringConvertible {
  package enum Kind: Sendable {
    /// A constraint of the schema was violated: unique, foreign key, check, or not null.
    case constraint
    /// The database is locked, full, gone or read-only. The same operation may succeed later. Answered with 503.
    case unavailable
    /// The transaction took longer than `Transaction.expire` allows. It was rolled back.
    case expired
    /// Everything else, usually a bug of ours.
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

/// Returns the error that callers receive: `AppError` `unavailable` for a transient failure of the database. Any other
/// error is returned unchanged; a request that fails with a `DatabaseError` is answered with an internal error.
func unavailable(_ error: any Error) -> any Error {
  isTransient(error) && !(error is AppError) ? AppError(.unavailable, underlying: error) : error
}

/// Whether the same operation may succeed later, because the request was not at fault.
func isTransient(_ error: any Error) -> Bool {
  switch error {
  case let failure as DatabaseError: failure.kind == .unavailable || failure.kind == .expired
  case let failure as AppError: failure.code == .unavailable
  default: false
  }
}
