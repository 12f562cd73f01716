import Basics

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A file that is being written, as long as it is referenced. Everything blocks.
final class UploadFile: Sendable {
  private let descriptor: Int32

  init(_ path: String) throws {
    descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw SystemError("open", errno: errno) }
  }

  deinit { close(descriptor) }

  func append(_ pieces: [[UInt8]]) throws {
    for piece in pieces {
      guard write(descriptor, piece, piece.count) == piece.count else {
        throw SystemError("write", errno: errno)
      }
    }
  }

  func sync() throws {
    guard fsync(descriptor) == 0 else { throw SystemError("fsync", errno: errno) }
  }
}
