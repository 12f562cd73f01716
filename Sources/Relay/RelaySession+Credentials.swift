internal import Access
internal import Basics
internal import Chat
internal import EventLoop
internal import Live
internal import Web

/// Who a socket of relay v1 acts for, and what changes with that: renewed tokens, what the account
/// belongs to, the rooms that open or close by it.
extension RelaySession {
  private static let followAgainMilliseconds = 1000

  // MARK: Tokens

  func renew(_ token: Secret<String>, _ clientID: String?) {
    state = .renewing
    let session = LoopBound(self, on: loop.loop)
    loop.loop.task { [services] in
      do {
        let renewed = try await services.authenticator.authenticate(.bearer(token))
        session.value.renewed(renewed, clientID)
      } catch { session.value.notRenewed(error, clientID) }
    }
  }

  private func renewed(_ new: Caller, _ clientID: String?) {
    guard let old = caller, case .renewing = state else { return }
    state = .open
    // What waited is served with the claims that this brings, or with the old ones where it is refused.
    defer { serveWaiting() }
    guard new.userID == old.userID else {
      fail(.notSameUser, clientID: clientID)
      return
    }
    // A cookie's socket lives as long as its session, whatever token it shows besides.
    let keepsCookie = old.expiresAt == nil && old.sessionID == new.sessionID
    let renewed =
      keepsCookie
      ? Caller(principal: new.principal.withoutExpiry, affiliations: new.affiliations) : new
    isExpiryAnnounced = false
    send(feeds.frames.authed(renewed))
    use(renewed)
    _ = feeds.catchUp(self)
  }

  /// From here on the socket acts for the caller as it is now.
  private func use(_ new: Caller) {
    guard let old = caller else { return }
    caller = new
    // The version of what it belongs to, which drafts name, may be another all the same.
    if new.hasSameClaims(as: old) { return }
    feeds.renewed(self, from: old, in: Array(heads.keys))
    if followsAllRooms { followNewRooms() }
  }

  func affiliationsChanged(_ affiliations: Affiliations) {
    guard let caller, caller.affiliations.map({ $0.version < affiliations.version }) ?? false else {
      return
    }
    use(caller.with(affiliations))
  }

  func invited(to room: Room, _ rule: RoomRule) {
    guard let caller else { return }
    let frame = feeds.frames.invitation(
      to: room, rule, isForUser: rule.subject == caller.userID.uuid)
    // `ready` comes first.
    if case .opening = state { invitations.append(frame) } else { send(frame) }
  }

  private func notRenewed(_ error: any Error, _ clientID: String?) {
    guard case .renewing = state else { return }
    state = .open
    defer { serveWaiting() }
    let code = (error as? AppError)?.code ?? .unavailable
    services.logRefusal(error, connection.socket.address)
    fail(code == .unavailable ? .unavailable : .invalidToken, clientID: clientID)
  }

  /// Looks for rooms that new claims opened; once more at the end where claims change meanwhile.
  private func followNewRooms() {
    guard let caller else { return }
    if case .opening = state {
      mustFollowAgain = true
      return
    }
    guard !isFollowing else {
      mustFollowAgain = true
      return
    }
    isFollowing = true
    let session = LoopBound(self, on: loop.loop)
    loop.loop.task { [services] in
      do {
        let (ids, _) = try await services.rooms.latestReadableRooms(for: caller)
        session.value.found(ids)
      } catch {
        services.log.warning("rooms_not_listed", ["cause": .init("\(error)")])
        session.value.followLater()
      }
    }
  }

  private func followLater() {
    loop.loop.schedule(after: Self.followAgainMilliseconds) { [weak self] in
      guard let self, connection.socket.isOpen else { return }
      isFollowing = false
      followNewRooms()
    }
  }

  private func found(_ ids: [RoomID]) {
    isFollowing = false
    guard connection.socket.isOpen else { return }
    follow(ids)
    if mustFollowAgain {
      mustFollowAgain = false
      followNewRooms()
    }
  }

  /// Subscribes to those of the rooms that the client has not and did not leave.
  func follow(_ ids: [RoomID]) {
    for id in ids where heads[id] == nil && !left.contains(id) {
      heads[id] = 0
      feeds.attach(self, to: id, .became)
    }
  }

  func offered(_ roomID: RoomID) {
    guard followsAllRooms else { return }
    if case .opening = state {
      // `ready` comes first; it lists the room.
      becameReadable.insert(roomID)
    } else {
      follow([roomID])
    }
  }

  func sessionEnded() { loop.hub.close(connection, .revoked) }
}
