internal import Access
package import Basics
package import Web

/// The HTTP routes for signing up, logging in, and the caller's own account.
package struct AccountRoutes: Sendable {
  private let accounts: AccountService
  private let erasure: AccountErasure
  private let export: AccountExport
  private let isPublicURLSecure: Bool
  private let audit: Audit

  /// `isPublicURLSecure` tells whether browsers reach the server over https, whatever the last hop uses.
  package init(
    accounts: AccountService, erasure: AccountErasure, export: AccountExport,
    isPublicURLSecure: Bool, audit: Audit
  ) {
    self.accounts = accounts
    self.erasure = erasure
    self.export = export
    self.isPublicURLSecure = isPublicURLSecure
    self.audit = audit
  }

  package func add(to router: inout Router) {
    router.on(.post, "/v1/auth/signup", policy: .anyone) { try await signUp($0) }
    router.on(.post, "/v1/auth/login", policy: .anyone) { try await logIn($0) }
    router.on(.post, "/v1/auth/refresh", policy: .anyone) { try await refresh($0) }
    router.on(.post, "/v1/auth/logout", policy: .localUser) { try await logOut($0) }
    router.on(.post, "/v1/auth/logout-all", policy: .localUser) { try await logOutAll($0) }
    router.on(.get, "/v1/me", policy: .localUser) { try await me($0) }
    router.on(.patch, "/v1/me", policy: .localUser) { try await rename($0) }
    router.on(.delete, "/v1/me", policy: .localUser, body: .json) { try await erase($0) }
    router.on(.get, "/v1/me/export", policy: .localUser) { request in
      let response = try export.response(for: request.caller)
      audit.record("export_account", request)
      return response
    }
    router.on(.get, "/v1/me/settings", policy: .localUser) { try await settings($0) }
    router.on(.put, "/v1/me/settings", policy: .localUser) { try await setSettings($0) }
    router.on(.get, "/v1/me/sessions", policy: .localUser) { try await sessions($0) }
    router.on(.delete, "/v1/me/sessions/{id}", policy: .localUser) {
      (request, id: SessionID) in
      try await accounts.endSession(id, of: request.caller.userID)
      audit.record("end_session", request, ["session_id": .init(id)])
      return .noContent
    }
    router.on(.post, "/v1/me/password", policy: .localUser) { try await changePassword($0) }
  }

  private static let maximumSettingsBytes = 16 * 1024
  private static let maximumDataBytes = 4 * 1024

  // MARK: Log-in

  private func signUp(_ request: Request) async throws -> Response {
    var fields = Fields(try await request.json())
    let email = email(&fields)
    let password = fields.secret("password", AccountRules.passwordLength)
    let name = fields.string("name", AccountRules.nameLength)
    let client = client(request, &fields)
    try fields.finish()
    let grant = try await accounts.signUp(
      email: email, password: password, name: name, client, from: request.address)
    audit.record("sign_up", request, ["user_id": .init(grant.user.id)])
    return response(grant, status: 201, request)
  }

  private func logIn(_ request: Request) async throws -> Response {
    var fields = Fields(try await request.json())
    let email = fields.secret("email", 1...254)
    let password = fields.secret("password", 1...256)
    let client = client(request, &fields)
    try fields.finish()
    let grant: Grant
    do {
      grant = try await accounts.logIn(
        email: email, password: password, client, from: request.address)
    } catch let error as AppError where error.code.status < 500 {
      // The account if there is one, but never the address as it was typed: people also type passwords into that
      // field.
      let account = try await accounts.account(email: email)
      audit.record(
        "log_in_refused", request,
        [
          "code": .string(error.code.wire),
          "user_id": .string(account.map { "\($0)" } ?? "no such account"),
        ])
      throw error
    }
    audit.record("log_in", request, ["user_id": .init(grant.user.id)])
    return response(grant, status: 200, request)
  }

  private func refresh(_ request: Request) async throws -> Response {
    var fields = Fields(try await request.json())
    let token = fields.secret("refresh_token", 1...512)
    try fields.finish()
    switch try await accounts.refresh(token) {
    case .granted(let grant): return response(grant, status: 200, request)
    case .reused(let session):
      audit.record("refresh_token_reused", request, ["session_id": .init(session)])
      throw AppError(.invalidRefreshToken)
    }
  }

  private func email(_ fields: inout Fields) -> String {
    let text = fields.string("email", AccountRules.emailLength)
    if !AccountRules.isEmailAddress(text) { fields.fault("email", "must be an e-mail address") }
    return text
  }

  private func client(_ request: Request, _ fields: inout Fields) -> ClientDescription {
    var data = "{}"
    switch fields.value("data") {
    case nil: break
    case .object(let object)?:
      var writer = JSONWriter()
      writer.value(JSON.object(object))
      data = String(decoding: writer.bytes, as: UTF8.self)
      if data.utf8.count > Self.maximumDataBytes {
        fields.fault("data", "must be an object of at most \(Self.maximumDataBytes) bytes")
      } else if JSON.object(object).containsNUL {
        fields.fault("data", "must not hold U+0000")
      }
    default: fields.fault("data", "must be an object")
    }
    let agent = String(
      decoding: (request.headers["user-agent"] ?? "").utf8.prefix(512), as: UTF8.self)
    return ClientDescription(ip: request.address.description, userAgent: agent, data: data)
  }

  private func response(_ grant: Grant, status: Int, _ request: Request) -> Response {
    var response = Response.data(status: status) {
      $0.object {
        $0.key("user")
        $0.value(grant.user)
        $0.member("access_token", grant.accessToken.reveal())
        $0.member("expires_at", grant.expiresAt)
        $0.member("refresh_token", grant.refreshToken.reveal())
      }
    }
    response.add("set-cookie", cookie(grant.cookie.reveal(), request, seconds: 30 * 86_400))
    return response
  }

  private func cookie(_ value: String, _ request: Request, seconds: Int) -> String {
    let secure = isPublicURLSecure || request.isSecure ? "; Secure" : ""
    return
      "\(Authentication.cookieName)=\(value); Path=/; Max-Age=\(seconds); HttpOnly; SameSite=Lax\(secure)"
  }

  // MARK: Log-out

  private func logOut(_ request: AuthenticatedRequest) async throws -> Response {
    if let session = request.caller.sessionID {
      try await accounts.endSession(session, of: request.caller.userID)
      audit.record("log_out", request, ["session_id": .init(session)])
    }
    return loggedOut(request)
  }

  private func logOutAll(_ request: AuthenticatedRequest) async throws -> Response {
    try await accounts.endAllSessions(of: request.caller.userID)
    audit.record("log_out_all", request)
    return loggedOut(request)
  }

  private func loggedOut(_ request: AuthenticatedRequest) -> Response {
    var response = Response.noContent
    response.add("set-cookie", cookie("", request.request, seconds: 0))
    return response
  }

  // MARK: The caller's account

  private func me(_ request: AuthenticatedRequest) async throws -> Response {
    let user = try await accounts.user(request.caller.userID)
    return .data { $0.value(user) }
  }

  private func rename(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = Fields(try await request.json())
    let name = fields.optionalString("name", AccountRules.nameLength)
    if fields.value("avatar_file_id") != nil {
      fields.fault("avatar_file_id", "names no image of yours")
    }
    for fixed in ["id", "email", "platform_admin"] where fields.value(fixed) != nil {
      fields.fault(fixed, "cannot be changed here")
    }
    try fields.finish()
    let id = request.caller.userID
    let user =
      if let name { try await accounts.rename(id, to: name) } else { try await accounts.user(id) }
    return .data { $0.value(user) }
  }

  private func erase(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = Fields(try await request.json())
    let password = fields.secret("password", 1...256)
    let messages: MessagesOfErased? = fields.has("messages") ? fields.word("messages") : .keep
    try fields.finish()
    let user = request.caller.userID
    try await accounts.requirePassword(password, of: user, from: request.address)
    try await erasure.erase(user, messages: messages ?? .keep, by: AuditActor(request))
    audit.record("erase_account", request, ["user_id": .init(user)])
    return loggedOut(request)
  }

  private func settings(_ request: AuthenticatedRequest) async throws -> Response {
    let text = try await accounts.settings(of: request.caller.userID)
    let value = try JSONParser.parse(Array(text.utf8), maximumDepth: .max)
    return .data { $0.value(value) }
  }

  private func setSettings(_ request: AuthenticatedRequest) async throws -> Response {
    let object = try await request.json()
    var writer = JSONWriter()
    writer.value(JSON.object(object))
    guard writer.bytes.count <= Self.maximumSettingsBytes else {
      throw AppError(.bodyTooLarge, "Settings may have \(Self.maximumSettingsBytes) bytes.")
    }
    let faults = object.members.filter { $0.key.containsNUL || $0.value.containsNUL }
    guard faults.isEmpty else {
      throw AppError(
        .validationFailed,
        details: faults.map { AppError.Detail(field: $0.key, message: "must not hold U+0000") })
    }
    let stored = try await accounts.setSettings(object, of: request.caller.userID)
    return .data { $0.value(JSON.object(stored)) }
  }

  private func sessions(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    let page = PageRequest(&fields)
    let place = page.cursor.flatMap { ListPlace($0) }
    if page.cursor != nil, place == nil { fields.fault("cursor", "is not one of ours") }
    try fields.finish()
    let sessions = try await accounts.sessions(
      of: request.caller.userID, behind: place.map { ($0.time, SessionID($0.id)) },
      limit: page.limit)
    let current = request.caller.sessionID
    return .list(sessions, limit: page.limit) {
      ListPlace(time: $0.createdAt, id: $0.id.uuid).description
    } _: { writer, session in
      writer.object {
        $0.member("id", session.id)
        $0.member("ip", session.ip)
        $0.member("user_agent", session.userAgent)
        // Written by this server. If it cannot be parsed, it is shown as empty.
        $0.member(
          "data", (try? JSONParser.parse(Array(session.data.utf8), maximumDepth: .max)) ?? .null)
        $0.member("created_at", session.createdAt)
        $0.member("last_seen_at", session.lastSeenAt)
        $0.member("current", session.id == current)
      }
    }
  }

  private func changePassword(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = Fields(try await request.json())
    let old = fields.secret("current_password", 1...256)
    let new = fields.secret("new_password", AccountRules.passwordLength)
    try fields.finish()
    let caller = request.caller
    try await accounts.changePassword(
      of: caller.userID, from: old, to: new, keeping: caller.sessionID, from: request.address)
    audit.record("change_password", request)
    return .noContent
  }
}

extension JSONWriter {
  package mutating func value(_ user: User) {
    object {
      $0.member("id", user.id)
      $0.member("email", user.email)
      $0.member("name", user.name)
      if user.isPlatformAdmin { $0.member("platform_admin", true) }
    }
  }
}
