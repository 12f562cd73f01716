internal import Basics

/// Reads again what changed elsewhere, for one event loop: rooms, or what accounts belong to. Some are
/// read together, one reading after the other, until each is as new as it was named; what could not be
/// read is tried again, ever more slowly. On the loop only.
final class Reloads<ID: Hashable & Sendable, Found: Sendable> {
  /// A version that something said there is.
  private struct Wanted {
    var version: Int64
    /// Whether it was named after the reading that is under way began.
    var isLater = false
  }

  /// Called on the loop with what was read; nil where it does not exist (any more). While it is
  /// called, this still counts as being read.
  var found: (ID, Found?) -> Void = { _, _ in }
  /// Called when it does not count as being read any more.
  var done: (ID) -> Void = { _ in }

  typealias Read = (
    _ versions: [ID: Int64], _ then: @escaping (Result<[ID: Found], any Error>) -> Void
  ) -> Void

  private let read: Read
  private let wait: (_ milliseconds: Int, _ then: @escaping () -> Void) -> Void
  private let version: (Found) -> Int64
  private let what: String
  private let log: Log
  private var wanted: [ID: Wanted] = [:]
  /// Those of `wanted` that the next readings take. Some may not be wanted any more.
  private var waiting = Queue<ID>()
  private var isReading = false
  /// How often everything was forgotten: what was being read then is handed to nobody.
  private var generation = 0
  private var failures = 0
  /// So many readings take one thing only: something among them could not be read, and holds up only
  /// itself.
  private var singly = 0

  private static var maximumPerReading: Int { 200 }
  /// The pause after a reading failed. It doubles with each failure in a row, up to the longest.
  private static var retryMilliseconds: Int { 100 }
  private static var longestRetryMilliseconds: Int { 5000 }

  /// `read` gets things with the versions that they are at least at, and later hands over those that
  /// exist; `wait` lets time pass; `version` is that of one; `what` names them in the log.
  init(
    of what: String, log: Log, version: @escaping (Found) -> Int64,
    wait: @escaping (_ milliseconds: Int, _ then: @escaping () -> Void) -> Void,
    read: @escaping Read
  ) {
    self.what = what
    self.log = log
    self.version = version
    self.wait = wait
    self.read = read
  }

  /// Whether nothing is being read, nor waits for it.
  var isEmpty: Bool { wanted.isEmpty }

  /// What is being read, or waits for it.
  var all: Set<ID> { Set(wanted.keys) }

  func contains(_ id: ID) -> Bool { wanted[id] != nil }

  /// Reads something of which somebody said that it is at this version.
  func read(_ id: ID, version: Int64) {
    if let known = wanted[id] {
      wanted[id] = Wanted(version: max(known.version, version), isLater: true)
      return
    }
    // A reading that is under way may have it, for who forgot it since.
    wanted[id] = Wanted(version: version, isLater: isReading)
    waiting.append(id)
    readNext()
  }

  /// Nobody needs it any more. `done` is not called.
  func forget(_ id: ID) { wanted[id] = nil }

  /// As `forget`, everything.
  func forgetAll() {
    wanted = [:]
    generation += 1
  }

  private func readNext() {
    guard !isReading else { return }
    var versions: [ID: Int64] = [:]
    let maximum = singly > 0 ? 1 : Self.maximumPerReading
    singly = max(0, singly - 1)
    while versions.count < maximum, let id = waiting.popFirst() {
      guard let known = wanted[id] else { continue }
      wanted[id]?.isLater = false
      versions[id] = known.version
    }
    guard !versions.isEmpty else { return }
    isReading = true
    let ids = Array(versions.keys)
    read(versions) { [self, generation] result in
      switch result {
      case .success(let found):
        finished(generation == self.generation ? ids : [], found)
      case .failure(let error): failed(ids, error)
      }
    }
  }

  private func finished(_ ids: [ID], _ all: [ID: Found]) {
    isReading = false
    failures = 0
    for id in ids where wanted[id] != nil {
      found(id, all[id])
      guard let known = wanted[id] else { continue }
      if known.isLater, let one = all[id], version(one) < known.version {
        // Named while this was read: the next reading has it. What was named before, and is not in the
        // database, is no version of this database's.
        waiting.append(id)
      } else {
        wanted[id] = nil
        done(id)
      }
    }
    readNext()
  }

  private func failed(_ ids: [ID], _ failure: any Error) {
    if failures == 0 {
      log.warning(
        "not_read_again",
        ["what": .init(what), "count": .init(wanted.count), "cause": .init("\(failure)")])
    }
    // Six doublings are beyond the longest: no overflow.
    let pause = min(
      Self.retryMilliseconds << min(failures, 6), Self.longestRetryMilliseconds)
    failures += 1
    for id in ids { waiting.append(id) }
    let isTransient = (failure as? AppError)?.code == .unavailable
    if ids.count > 1, !isTransient { singly = waiting.count }
    // `isReading` until then.
    wait(pause) { [self] in
      isReading = false
      readNext()
    }
  }
}
