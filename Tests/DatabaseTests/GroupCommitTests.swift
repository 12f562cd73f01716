import Basics
import Database
import Synchronization
import TestSupport
import Testing

/// Works in the group commit, on every database.
@Suite(.timeLimit(.minutes(2))) struct GroupCommitTests {
  /// Writes numbers. Negative ones violate a constraint.
  private final class Numbers: GroupCommitWork {
    struct State {
      var waiting: [Int] = []
      var hooked: [Int] = []
      var kept: [Int] = []
      var lost: [Int] = []
    }
    let state = Mutex(State())
    let table: SQL

    init(_ table: SQL) { self.table = table }

    var isWaiting: Bool { state.withLock { !$0.waiting.isEmpty } }

    func takeBatch() -> (any GroupCommitBatch)? {
      state.withLock { state in
        let taken = Array(state.waiting.prefix(64))
        state.waiting.removeFirst(taken.count)
        return taken.isEmpty ? nil : Batch(numbers: taken, owner: self)
      }
    }

    struct Batch: GroupCommitBatch {
      let numbers: [Int]
      let owner: Numbers

      var isEssential: Bool { false }

      func write(in transaction: Transaction) async throws {
        let (numbers, owner) = (numbers, owner)
        transaction.afterCommit { owner.state.withLock { $0.hooked += numbers } }
        _ = try await transaction.pipeline(
          numbers.map { Statement(owner.table, [.integer(Int64($0))]) })
      }

      func divide() -> [any GroupCommitBatch] {
        guard numbers.count > 1 else { return [] }
        let middle = numbers.count / 2
        return [numbers[..<middle], numbers[middle...]].map {
          Batch(numbers: Array($0), owner: owner)
        }
      }

      func finish(_ failure: (any Error)?) {
        owner.state.withLock { state in
          if failure == nil { state.kept += numbers } else { state.lost += numbers }
        }
      }
    }
  }

  private static let migrations = [
    Migration(
      feature: "test", number: 1,
      """
      CREATE TABLE ones (number BIGINT PRIMARY KEY, CHECK (number >= 0));
      CREATE TABLE twos (number BIGINT PRIMARY KEY, CHECK (number >= 0));
      CREATE TABLE others (number BIGINT PRIMARY KEY);
      """)
  ]

  @Test(arguments: DatabaseKind.allCases)
  func `several works share commits, and what is refused fails alone`(
    kind: DatabaseKind
  ) async throws {
    let database = try TestDatabase(kind).open(Self.migrations)
    let works = [
      Numbers("INSERT INTO ones (number) VALUES ($1)"),
      Numbers("INSERT INTO twos (number) VALUES ($1)"),
    ]
    let signals = works.map { database.attach($0) }
    for round in 0..<40 {
      for (work, signal) in zip(works, signals) {
        let numbers = (0..<25).map { $0 == 13 && round % 4 == 0 ? -round - 1 : round * 25 + $0 }
        work.state.withLock { $0.waiting += numbers }
        signal.raise()
      }
      try await database.write {
        try await $0.execute(
          "INSERT INTO others (number) VALUES ($1)", [.integer(Int64(round))])
      }
    }
    for work in works {
      try await eventually("all 1,000 have an outcome") {
        work.state.withLock { $0.kept.count + $0.lost.count } >= 1000
      }
      let state = work.state.withLock { $0 }
      #expect(state.lost.sorted() == stride(from: -37, through: -1, by: 4).map { $0 })
      #expect(state.kept.count == 990)
      // Hooks ran once for everything that was kept, and for nothing else.
      #expect(state.hooked.sorted() == state.kept.sorted())
    }
    for (sql, work) in [
      ("SELECT number FROM ones" as SQL, works[0]), ("SELECT number FROM twos", works[1]),
    ] {
      let stored = try await database.read {
        try await $0.query(sql).map { Int(try $0.integer(0)) }
      }
      #expect(stored.sorted() == work.state.withLock { $0.kept.sorted() })
    }
    let others = try await database.read {
      try await $0.first("SELECT count(*) FROM others")?.integer(0)
    }
    #expect(others == 40)
    await database.close()
  }

  @Test(arguments: DatabaseKind.allCases)
  func `what still waits when the database closes is told so`(kind: DatabaseKind) async throws {
    let database = try TestDatabase(kind).open(Self.migrations)
    let work = Numbers("INSERT INTO ones (number) VALUES ($1)")
    let signal = database.attach(work)
    work.state.withLock { $0.waiting = Array(0..<5000) }
    signal.raise()
    await database.close()
    try await eventually("all 5,000 have an outcome") {
      work.state.withLock { $0.kept.count + $0.lost.count } >= 5000
    }
  }
}
