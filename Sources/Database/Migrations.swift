internal import Basics

/// One step of the schema, of one feature. Steps are applied in order, each in a transaction, once.
package struct Migration: Sendable {
  /// The feature that owns the tables: `accounts`, `chat`.
  package let feature: StaticString
  /// From 1, without gaps.
  package let number: Int
  /// One or more statements. Never changed after a release: the checksum is kept.
  package let sql: SQL

  package init(feature: StaticString, number: Int, _ sql: SQL) {
    self.feature = feature
    self.number = number
    self.sql = sql
  }
}

/// What to do with a database whose schema is not this binary's.
package enum SchemaPolicy: Sendable {
  /// Apply the steps that are missing, all of them where there are no tables yet.
  case bringUpToDate
  /// Throw `MigrationError`: for commands that must change nothing by the way.
  case mustBeUpToDate
}

/// Why the schema does not allow a start; a sentence for the operator.
package struct MigrationError: Error, CustomStringConvertible {
  package let description: String

  /// For `SchemaPolicy.mustBeUpToDate`.
  static let noTables = MigrationError(
    description:
      "The database has no tables of Martlet yet. `martlet serve` and `martlet migrate` make them.")
  static let olderSchema = MigrationError(
    description:
      "The schema is that of an older Martlet. `martlet serve` and `martlet migrate` bring it up to date."
  )
}

/// What is applied, and what must be.
struct MigrationPlan {
  struct Applied {
    let feature: String
    let number: Int
    let checksum: Int64
  }

  /// The steps still to be done. Throws where the database is newer than this binary, or where a step
  /// was applied in another form.
  static func pending(
    _ migrations: [Migration], applied: [Applied], checksum: (Migration) -> Int64
  ) throws(MigrationError) -> [Migration] {
    for step in applied {
      guard
        let known = migrations.first(where: {
          "\($0.feature)" == step.feature && $0.number == step.number
        })
      else {
        throw MigrationError(
          description:
            "The database has step \(step.feature)/\(step.number), which this version does not know: it was written by a newer Martlet. Start that one."
        )
      }
      guard checksum(known) == step.checksum else {
        throw MigrationError(
          description:
            "Step \(step.feature)/\(step.number) of the schema is not the one that was applied to this database."
        )
      }
    }
    return migrations.filter { step in
      !applied.contains { $0.feature == "\(step.feature)" && $0.number == step.number }
    }
  }

  /// FNV-1a, 64 bits: tells an edited step from the applied one; nothing more is asked of it.
  static func checksum(_ text: StaticString) -> Int64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for index in 0..<text.utf8CodeUnitCount {
      hash = (hash ^ UInt64(text.utf8Start[index])) &* 0x100_0000_01b3
    }
    return Int64(bitPattern: hash)
  }
}
