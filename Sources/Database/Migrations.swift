internal import Basics

/// One step of a feature's schema. Each step is applied once, in order. All missing steps are applied in one
/// transaction.
package struct Migration: Sendable {
  /// The feature that owns the tables: `accounts`, `chat`.
  package let feature: StaticString
  /// Counted from 1, without gaps.
  package let number: Int
  /// One or more statements. Never changed after a release, which the stored checksum verifies.
  package let sql: SQL

  package init(feature: StaticString, number: Int, _ sql: SQL) {
    self.feature = feature
    self.number = number
    self.sql = sql
  }
}

/// What to do if the database's schema is not that of this binary.
package enum SchemaPolicy: Sendable {
  /// Apply the missing steps; all of them if there are no tables yet.
  case bringUpToDate
  /// Throw `MigrationError`. For commands that must not migrate as a side effect.
  case mustBeUpToDate
}

/// Why the server cannot start with this schema; a sentence for the operator.
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

/// Compares the applied steps with those of this binary.
struct MigrationPlan {
  struct Applied {
    let feature: String
    let number: Int
    let checksum: Int64
  }

  /// The steps that are still to be applied. Throws if the database is newer than this binary, or if a step was
  /// applied in another form.
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

  /// FNV-1a, 64 bits. It only has to distinguish an edited step from the applied one.
  static func checksum(_ text: StaticString) -> Int64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for index in 0..<text.utf8CodeUnitCount {
      hash = (hash ^ UInt64(text.utf8Start[index])) &* 0x100_0000_01b3
    }
    return Int64(bitPattern: hash)
  }
}
