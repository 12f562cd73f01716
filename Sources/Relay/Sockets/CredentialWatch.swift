internal import Access
internal import Basics

/// Knows whom a socket acts for and for how long: the credential that it was opened with, its renewals and its
/// expiry. A value; the caller provides the clocks.
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
    /// The first token of this socket.
    case first(Caller)
    /// Another token of the same user. It replaces the present one when `use` is called.
    case renewed(Caller)
    /// A token of another user. Nothing has changed.
    case otherUser
  }

  /// Judges a token that was found to be valid.
  func judge(_ new: Caller) -> Acceptance {
    guard let old = caller else { return .first(new) }
    guard new.userID == old.userID else { return .otherUser }
    // A socket that was opened with a cookie lives as long as its session, whatever token it shows later.
    let keepsCookie = old.expiresAt == nil && old.sessionID == new.sessionID
    return .renewed(
      keepsCookie
        ? Caller(principal: new.principal.withoutExpiry, affiliations: new.affiliations) : new)
  }

  /// From here on the socket acts for this caller. Returns whether the caller's rights differ from before.
  mutating func use(_ new: Caller) -> Bool {
    let old = caller
    caller = new
    if old?.principal !== new.principal { isExpiryAnnounced = false }
    return old.map { !new.hasSameClaims(as: $0) } ?? true
  }

  /// The caller with its account's present memberships. Nil if the caller has them already, and for tokens of another
  /// system.
  func joined(_ affiliations: Affiliations) -> Caller? {
    guard let caller, let known = caller.affiliations, known.version < affiliations.version else {
      return nil
    }
    return caller.with(affiliations)
  }

  // MARK: Time

  enum Expiry: Equatable {
    case notYet
    /// Returned once for each credential.
    case soon(inSeconds: Int64)
    case over
  }

  /// `mayAnnounce` tells whether `soon` could be passed on to the client now.
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

  /// When to look again, by `Monotonic.milliseconds`, which is `now` at this `time`.
  func due(now: Int64, at time: Timestamp) -> Int64 {
    guard let expiresAt = caller?.expiresAt else { return useDue }
    let left = expiresAt.milliseconds - time.milliseconds
    return min(useDue, now + (isExpiryAnnounced ? left : left - Self.warningMilliseconds))
  }

  /// Whether the use of the credential must be noted now: a long-lived socket uses its session all the time.
  mutating func takeUseDue(now: Int64) -> Bool {
    guard caller != nil, now >= useDue else { return false }
    useDue = now + Self.useMilliseconds
    return true
  }
}
