package import Basics

/// A person with an account on this server.
package struct User: Sendable {
  package let id: UserID
  /// As it was entered. Unique, ignoring case.
  package let email: String
  package let name: String
  package let isPlatformAdmin: Bool
  /// Whether log-in is disabled.
  package let isSuspended: Bool

  package init(
    id: UserID, email: String, name: String, isPlatformAdmin: Bool, isSuspended: Bool = false
  ) {
    self.id = id
    self.email = email
    self.name = name
    self.isPlatformAdmin = isPlatformAdmin
    self.isSuspended = isSuspended
  }
}

/// An account as administrators see it.
package struct AccountSummary: Sendable {
  package let user: User
  package let createdAt: Timestamp
  /// Nil if the account is not suspended.
  package let suspendedAt: Timestamp?
  package let suspensionReason: String?
  /// When one of its sessions was last used, to the minute; nil if there is none.
  package let lastSeenAt: Timestamp?
}

/// Selects one account.
package enum AccountSelector: Sendable {
  case id(UserID)
  /// Ignoring case.
  case email(String)
}

/// A session of a user, from log-in to its end.
package struct Session: Sendable {
  package let id: SessionID
  package let userID: UserID
  package let ip: String
  package let userAgent: String
  /// What the client said about itself: a JSON object.
  package let data: String
  package let createdAt: Timestamp
  /// With a resolution of one minute.
  package let lastSeenAt: Timestamp
}

/// Where a session comes from.
package struct ClientDescription: Sendable {
  package let ip: String
  package let userAgent: String
  package let data: String
}

/// The credentials that a successful log-in returns.
package struct Grant: Sendable {
  package let user: User
  package let accessToken: Secret<String>
  package let expiresAt: Timestamp
  package let refreshToken: Secret<String>
  package let cookie: Secret<String>
}
