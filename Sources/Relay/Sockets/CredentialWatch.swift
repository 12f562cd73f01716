internal import Access
internal import Basics

/// The credential of one socket: which caller the socket acts for, and until when. Covers the credential that the
/// socket was opened with, its renewals and its expiry. A value; the caller of its methods provides the clocks.
struct CredentialWatch {
  /// The person that the socket acts for; nil until a token is shown.
  private(set) var caller: Caller?
  private var isExpiryAnnounced = false
  /// When the use of the credential must next be reported (`Authenticator.noteUse`), by `Monotonic.milliseconds`.
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

  /// Decides what a valid token means for this socket. Changes nothing.
  func judge(_ new: Caller) -> Acceptance {
    guard let old = caller else { return .first(new) }
    guard new.userID == old.userID else { return .otherUser }
    // A socket that was opened with a cookie lives as long as its session, also if it later shows an access token of
    // that session. A token of another session brings its own expiry.
    let keepsCookie = old.expiresAt == nil && old.sessionID == new.sessionID
    return .renewed(
      keepsCookie
        ? Caller(principal: new.principal.withoutExpiry, affiliations: new.affiliations) : new)
  }

  /// Makes the socket act for this caller from now on. Returns whether the caller's rights differ from before; true
  /// for the first caller.
  mutating func use(_ new: Caller) -> Bool {
    let old = caller
    caller = new
    if old?.principal !== new.principal { isExpiryAnnounced = false }
    return old.map { !new.hasSameClaims(as: $0) } ?? true
  }

  /// Returns the caller with these memberships of its account. Returns nil if the caller has them already, for tokens
  /// of another system, and before a token is shown.
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

  /// Returns whether the credential has expired or will expire soon. `mayAnnounce` tells whether `soon` can be passed
  /// on to the client now; if not, a later call returns it.
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

  /// Returns when to check the expiry and the use next, by `Monotonic.milliseconds`. `now` and `time` are the present
  /// moment on the two clocks.
  func due(now: Int64, at time: Timestamp) -> Int64 {
    guard let expiresAt = caller?.expiresAt else { return useDue }
    let left = expiresAt.milliseconds - time.milliseconds
    return min(useDue, now + (isExpiryAnnounced ? left : left - Self.warningMilliseconds))
  }

  /// Returns whether the use of the credential must be reported now, and sets the time of the next report. A
  /// long-lived socket uses its session all the time.
  mutating func takeUseDue(now: Int64) -> Bool {
    guard caller != nil, now >= useDue else { return false }
    useDue = now + Self.useMilliseconds
    return true
  }
}
