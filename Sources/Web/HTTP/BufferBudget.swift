internal import Basics
internal import Synchronization

/// How many bytes all bodies and answers in flight may take, and those of one address: an eighth of it.
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

  /// There is no room for what somebody sends or wants.
  struct Exhausted: Error {}

  /// Bytes that are held now, for metrics.
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

/// What of the budget somebody holds; given back when it is let go. For one thread at a time.
final class BufferLease {
  private let budget: BufferBudget
  private let site: IPAddress.Site
  private var held = 0

  /// What is no more than this is free: small requests and answers cost no lock.
  static let freeBytes = 16 * 1024

  init(_ budget: BufferBudget, site: IPAddress.Site) {
    self.budget = budget
    self.site = site
  }

  deinit { if held > 0 { budget.release(held, for: site) } }

  /// Whether one address may ever hold so many.
  func isPossible(_ bytes: Int) -> Bool { bytes <= budget.maximumPerSite + Self.freeBytes }

  /// Holds `bytes` from here on, in place of what it held; false, and nothing changes, where there is no room for more.
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
