internal import Access
internal import Basics
package import EventLoop
package import Live
package import Web

/// The two WebSocket routes: `/v1/relay` (relay v1), and `/v1/chat` with its alias `/chat` (the nano protocol).
package struct RelayRoutes: Sendable {
  /// The WebSocket subprotocol of relay v1. A client may omit it.
  package static let subprotocol = "martlet.v1"

  private let loops: [LoopBound<RelayLoop>]
  private let admission: SocketAdmission

  /// `loops` contains the relay of each event loop, at the loop's index.
  package init(
    loops: [LoopBound<RelayLoop>], admission: SocketAdmission
  ) {
    self.loops = loops
    self.admission = admission
  }

  package func add(to router: inout Router) {
    router.webSocket("/v1/relay", policy: .caller) { request in
      let follows = request.query["subscribe"] != "none"
      let caller = request.caller
      let isOffered = request.request.offers(subprotocol: Self.subprotocol)
      let subprotocol = isOffered ? Self.subprotocol : nil
      return try upgrade(request.request, subprotocol) { socket, relay, permit in
        RelaySocket(
          socket: socket, relay: relay, caller: caller, permit: permit,
          dialect: relay.services.relayDialect(followsAllRooms: follows))
      }
    }
    for path in ["/v1/chat", "/chat"] {
      router.webSocket(path, policy: .anyone) { request in
        try upgrade(request, nil) { socket, relay, permit in
          RelaySocket(
            socket: socket, relay: relay, caller: nil, permit: permit,
            dialect: relay.services.nanoDialect())
        }
      }
    }
  }

  /// Returns the upgrade of a request. `make` creates the socket's handler, on the loop of the request. Throws
  /// `too_many_connections` if the server holds as many sockets as it may.
  private func upgrade(
    _ request: Request, _ subprotocol: String?,
    _ make:
      @escaping @Sendable (WebSocket, RelayLoop, SocketAdmission.Permit) ->
      any WebSocketHandler
  ) throws -> WebSocketUpgrade {
    guard request.loop.index < loops.count, let permit = admission.take(.member) else {
      throw AppError(.tooManyConnections)
    }
    let loop = loops[request.loop.index]
    return WebSocketUpgrade(subprotocol: subprotocol, address: request.address) {
      make($0, loop.value, permit)
    }
  }

  /// All frames of both protocols with their policies, for `martlet routes`.
  package static var frames: [(socket: String, type: String, policy: String, meaning: String)] {
    RelayFrame.table.map { ("/v1/relay", $0.type, $0.policy.untyped.description, $0.meaning) }
      + NanoDialect.Kind.allCases.map {
        ("/chat", $0.rawValue, $0.policy.description, $0.meaning)
      }
  }
}

extension RelayServices {
  /// Creates the dialect of a relay v1 socket that is being opened. `followsAllRooms` is false for `?subscribe=none`.
  func relayDialect(followsAllRooms: Bool) -> RelayDialect {
    RelayDialect(
      followsAllRooms: followsAllRooms, maximumContentBytes: configuration.contentBytes,
      maximumHeldBytes: configuration.heldBytes,
      openingMilliseconds: configuration.openingMilliseconds,
      now: Monotonic.milliseconds)
  }

  /// Creates the dialect of a nano socket that is being opened.
  func nanoDialect() -> NanoDialect {
    NanoDialect(
      maximumContentBytes: configuration.contentBytes,
      readyDue: Monotonic.milliseconds + configuration.openingMilliseconds)
  }
}
