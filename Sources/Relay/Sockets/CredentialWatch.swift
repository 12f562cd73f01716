internal import Access
internal import Basics

/// Whose a socket is, and for how long: the credential that it was opened with, its renewals and its
/// end. A value; clocks are the caller's.
struct CredentialWatch {
  /// Nil before a token was shown.
  private(set) var caller: Caller?
  private var isExpiryAnnounced = false
  /// When the use of the credential is noted next, by `Monotonic.milliseconds`.
  private var useDue: Int64

  private static let warningMilliseconds: Int64 = 60_000
  private static let useMilliseconds: Int64 = 25_000

  init(_ caller: Caller?, now: Int64) {
    self.caller = caller
    useDue = now + Self.useMilliseconds
  }

  // MARK: Tokens

  enum Acceptance {
    /// The first that was shown.
    case first(Caller)
    /// The same user's again: from now on this counts, once `use` is called.
    case renewed(Caller)
    /// Another user's. Nothing has changed.
    case otherUser
  }

  /// Judges a token that is good.
  func judge(_ new: Caller) -> Acceptance {
    guard let old = caller else { return .first(new) }
    guard new.userID == old.userID else { return .otherUser }
    // A cookie's socket lives as long as its session, whatever token it shows besides.
    let keepsCookie = old.expiresAt == nil && old.sessionID == new.sessionID
    return .renewed(
      keepsCookie
        ? Caller(principal: new.principal.withoutExpiry, affiliations: new.affiliations) : new)
  }

  /// From here on the socket acts for the caller as it is now. Returns whether it may do other things
  /// than before.
  mutating func use(_ new: Caller) -> Bool {
    let old = caller
    caller = new
    if old?.principal !== new.principal { isExpiryAnnounced = false }
    return old.map { !new.hasSameClaims(as: $0) } ?? true
  }

  /// The caller with what its account belongs to now; nil where it knows that already, and for tokens of
  /// another system.
  func joined(_ affiliations: Affiliations) -> Caller? {
    guard let caller, let known = caller.affiliations, known.version < affiliations.version else {
      return nil
    }
    return caller.with(affiliations)
  }

  // MARK: Time

  enum Expiry: Equatable {
    case notYet
    /// Said once for each credential.
    case soon(inSeconds: Int64)
    case over
  }

  /// `mayAnnounce`: whether `soon` can be passed on now.
  mutating func expiry(at time: Timestamp, mayAnnounce: Bool) -> Expiry {
    guard let expiresAt = caller?.expiresAt else { return .notYet }
    let left = expiresAt.milliseconds - time.milliseconds
    if left <= 0 { return .over }
    guard mayAnnounce, left <= Self.warningMilliseconds, !isExpiryAnnounced else {
      return .notYet
    }
    isExpiryAnnounced = true
    return .soon(inSeconds: (left + 999) / 1000)
  }

  /// When something is to be looked at next, by `Monotonic.milliseconds`, which is `now` at this `time`.
  func due(now: Int64, at time: Timestamp) -> Int64 {
    guard let expiresAt = caller?.expiresAt else { return useDue }
    let left = expiresAt.milliseconds - time.milliseconds
    return min(useDue, now + (isExpiryAnnounced ? left : left - Self.warningMilliseconds))
  }

  /// Whether its use is to be noted now: a socket that lives long uses its session all the time.
  mutating func takeUseDue(now: Int64) -> Bool {
    guard caller != nil, now >= useDue else { return false }
    useDue = now + Self.useMilliseconds
    return true
  }
}
