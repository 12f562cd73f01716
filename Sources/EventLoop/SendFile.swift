internal import CLibUV

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Sends up to `count` bytes of a file, from a position on, to a socket, without copying them to this process
/// (sendfile(2)). Returns the number of bytes that the socket accepted, 0 at the end of the file, or -1 with the reason
/// in `errno`.
package func sendFile(
  from file: Int32, at offset: Int64, count: Int, to socket: Int32
) -> Int {
  #if canImport(Glibc)
    var position = Int(offset)
    return martlet_sendfile(socket, file, &position, UInt(count))
  #else
    var length = off_t(count)
    let status = sendfile(file, socket, off_t(offset), &length, nil, 0)
    return status == 0 || length > 0 ? Int(length) : -1
  #endif
}
