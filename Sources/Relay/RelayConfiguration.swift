package import Basics

/// What sockets of both protocols may do, and for how long.
package struct RelayConfiguration: Sendable {
  /// Frames that a connection may send; nil: any number.
  package var connectionFrames: Rate?
  /// Frames that a user may send on all connections; nil: any number.
  package var userFrames: Rate?
  /// Sockets that a user may hold open; nil: any number.
  package var connectionsPerUser: Int?
  /// Largest `data` or `content` of a message, in bytes of UTF-8.
  package var contentBytes: Int
  /// Deepest nesting of a frame's JSON.
  package var jsonDepth: Int
  /// Bytes of acks that may be held back for a socket before it counts as a slow reader.
  package var heldBytes: Int
  /// Time until `ready`, and on `/chat` until READY.
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
