package import Basics

/// The limits of sockets of both protocols.
package struct RelayConfiguration: Sendable {
  /// Frames that one connection may send; nil means no limit.
  package var connectionFrames: Rate?
  /// Frames that one user may send over all connections; nil means no limit.
  package var userFrames: Rate?
  /// Sockets that one user may hold open; nil means no limit.
  package var connectionsPerUser: Int?
  /// The largest `data` or `content` of a message, in bytes of UTF-8.
  package var contentBytes: Int
  /// The deepest nesting of a frame's JSON.
  package var jsonDepth: Int
  /// Bytes of held acks at which a socket counts as a slow reader.
  package var heldBytes: Int
  /// How long a connection may take until `ready`, or on `/chat` until READY.
  package var openingMilliseconds: Int64

  package init(
    connectionFrames: Rate?, userFrames: Rate?, connectionsPerUser: Int?, contentBytes: Int,
    jsonDepth: Int, heldBytes: Int, openingMilliseconds: Int64
  ) {
    self.connectionFrames = connectionFrames
    self.userFrames = userFrames
    self.connectionsPerUser = connectionsPerUser
    self.contentBytes = contentBytes
    self.jsonDepth = jsonDepth
    self.heldBytes = heldBytes
    self.openingMilliseconds = openingMilliseconds
  }
}
