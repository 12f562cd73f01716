/// Immutable bytes, shared by reference: for example a frame on its way to many sockets.
package final class SharedBytes: Sendable {
  package let bytes: [UInt8]

  package init(_ bytes: [UInt8]) { self.bytes = bytes }

  package var count: Int { bytes.count }
}
