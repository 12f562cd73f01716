internal import Basics

/// Reads again what changed elsewhere, for one event loop: rooms, or accounts' memberships. Several are read
/// together, one read after the other, until each is at least at the version that was announced. Failed reads are
/// retried with exponential backoff. Used on the loop only.
final class Reloads<ID: Hashable & Sendable, Found: Sendable> {
  /// The version that was announced for something.
  private struct Wanted {
    var version: Int64
    /// Whether it was announced after the read that is under way began.
    var isLater = false
  }

  /// Called on the loop with what was read; nil if it does not exist (any more). During the call it still counts as
  /// being read.
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
  /// The ids that the next reads take. Some may not be wanted any more.
  private var waiting = Queue<ID>()
  private var isReading = false
  /// How many times everything was forgotten. Results of reads that began before are dropped.
  private var generation = 0
  private var failures = 0
  /// How many of the next reads take only one id each. Something in a larger read failed; read alone, it holds up
  /// only itself.
  private var singly = 0

  private static var maximumPerReading: Int { 200 }
  /// The pause after a failed read. It doubles with each failure in a row, up to a maximum.
  private static var retryMilliseconds: Int { 100 }
  private static var longestRetryMilliseconds: Int { 5000 }

  /// `read` fetches things that must be at least at the given versions, and later returns those that exist. `wait`
  /// calls its body after some milliseconds. `version` tells a thing's version. `what` names the things in the log.
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

  /// Whether nothing is being read or waits to be read.
  var isEmpty: Bool { wanted.isEmpty }

  /// What is being read or waits to be read.
  var all: Set<ID> { Set(wanted.keys) }

  func contains(_ id: ID) -> Bool { wanted[id] != nil }

  /// Reads something that was announced to be at this version.
  func read(_ id: ID, version: Int64) {
    if let known = wanted[id] {
      wanted[id] = Wanted(version: max(known.version, version), isLater: true)
      return
    }
    // A read that is under way may include it, if it was forgotten since.
    wanted[id] = Wanted(version: version, isLater: isReading)
    waiting.append(id)
    readNext()
  }

  /// Stops waiting for something that nobody needs any more. `done` is not called.
  func forget(_ id: ID) { wanted[id] = nil }

  /// The same as `forget`, for everything.
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
        // If it was announced during this read, the next read includes it. If it was announced before and is not in
        // the database, the announced version belonged to another database.
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
    // Six doublings already exceed the maximum, so this cannot overflow.
    let pause = min(
      Self.retryMilliseconds << min(failures, 6), Self.longestRetryMilliseconds)
    failures += 1
    for id in ids { waiting.append(id) }
    let isTransient = (failure as? AppError)?.code == .unavailable
    if ids.count > 1, !isTransient { singly = waiting.count }
    // `isReading` stays true until then.
    wait(pause) { [self] in
      isReading = false
      readNext()
    }
  }
}
