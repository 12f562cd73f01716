package import Basics

/// The limits of sockets of both protocols.
package struct RelayConfiguration: Sendable {
  /// The rate of frames that one connection may send; nil means no limit.
  package var connectionFrames: Rate?
  /// The rate of frames that one user may send over all connections to this node; nil means no limit. Applies only if
  /// `connectionFrames` is set.
  package var userFrames: Rate?
  /// The number of sockets that one user may hold open on this node; nil means no limit.
  package var connectionsPerUser: Int?
  /// The largest `data` or `content` of a message, in bytes of UTF-8.
  package var contentBytes: Int
  /// The maximum nesting depth of a frame's JSON.
  package var jsonDepth: Int
  /// The number of bytes of held acks beyond which a socket is closed as a slow reader.
  package var heldBytes: Int
  /// The time within which a connection must reach `ready`, or on `/chat` READY. After that it is closed.
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
