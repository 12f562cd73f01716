internal import Basics
internal import Synchronization

/// Limits the memory of all bodies and answers in flight. One address may take an eighth of it.
final class BufferBudget: Sendable {
  private struct State {
    var total = 0
    var bySite: [IPAddress.Site: Int] = [:]
  }
  private let state = Mutex(State())
  private let maximum: Int
  fileprivate let maximumPerSite: Int

  private static let siteShare = 8

  init(bytes: Int) {
    maximum = bytes
    maximumPerSite = bytes / Self.siteShare
  }

  /// The budget has no room for this request or answer.
  struct Exhausted: Error {}

  /// The bytes that are held now, for metrics.
  var heldBytes: Int { state.withLock(\.total) }

  fileprivate func take(_ count: Int, for site: IPAddress.Site) -> Bool {
    state.withLock { state in
      let held = state.bySite[site] ?? 0
      guard count <= maximum - state.total, count <= maximumPerSite - held else { return false }
      state.total += count
      state.bySite[site] = held + count
      return true
    }
  }

  fileprivate func release(_ count: Int, for site: IPAddress.Site) {
    state.withLock { state in
      state.total -= count
      guard let held = state.bySite[site] else { return }
      state.bySite[site] = held > count ? held - count : nil
    }
  }
}

/// A share of the budget, returned when it is released. Used by one thread at a time.
final class BufferLease {
  private let budget: BufferBudget
  private let site: IPAddress.Site
  private var held = 0

  /// Up to this size nothing is counted, so that small requests and answers need no lock.
  static let freeBytes = 16 * 1024

  init(_ budget: BufferBudget, site: IPAddress.Site) {
    self.budget = budget
    self.site = site
  }

  deinit { if held > 0 { budget.release(held, for: site) } }

  /// Whether one address may ever hold this many bytes.
  func isPossible(_ bytes: Int) -> Bool { bytes <= budget.maximumPerSite + Self.freeBytes }

  /// Changes the share to `bytes`. Returns false, without a change, if the budget has no room for more.
  func resize(to bytes: Int) -> Bool {
    let wanted = max(0, bytes - Self.freeBytes)
    if wanted > held {
      guard budget.take(wanted - held, for: site) else { return false }
    } else if wanted < held {
      budget.release(held - wanted, for: site)
    }
    held = wanted
    return true
  }
}
