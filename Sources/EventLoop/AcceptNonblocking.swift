package import Basics
internal import CLibUV

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Accepts a connection (accept(2)), non-blocking and close-on-exec. Returns its descriptor, or -1 with the reason in
/// `errno`. `peer` is nil if there is no connection, or if its address is neither IPv4 nor IPv6.
package func acceptNonblocking(on descriptor: Int32) -> (descriptor: Int32, peer: IPAddress?) {
  var storage = sockaddr_storage()
  var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
  let connection = withUnsafeMutablePointer(to: &storage) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { peer in
      #if canImport(Glibc)
        return martlet_accept4(
          descriptor, peer, &length, Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue))
      #else
        let connection = accept(descriptor, peer, &length)
        guard connection >= 0 else { return connection }
        _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
        _ = fcntl(connection, F_SETFL, fcntl(connection, F_GETFL) | O_NONBLOCK)
        return connection
      #endif
    }
  }
  return (connection, connection < 0 ? nil : IPAddress(storage))
}
