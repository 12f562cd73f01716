package import Basics
internal import EventLoop

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A regular file that is open for reading, until nobody holds it.
package final class OpenFile: Sendable {
  package let size: Int64
  /// When its contents were changed last.
  package let modified: Timestamp
  let descriptor: Int32

  /// Blocks. Throws `SystemError`, also where it is no regular file (EISDIR and the like).
  package init(_ path: String) throws {
    // A pipe without a writer would block for ever.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw SystemError("open \(path)", errno: errno) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let failure = errno
      close(descriptor)
      throw SystemError("fstat \(path)", errno: failure)
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw SystemError("open \(path)", errno: EISDIR)
    }
    self.descriptor = descriptor
    size = Int64(status.st_size)
    #if canImport(Glibc)
      modified = Timestamp(milliseconds: Int64(status.st_mtim.tv_sec) * 1000)
    #else
      modified = Timestamp(milliseconds: Int64(status.st_mtimespec.tv_sec) * 1000)
    #endif
  }

  deinit { close(descriptor) }

  /// As `read`, of what the kernel has in memory; does not block. Nil where it has nothing of it there, or cannot tell.
  func readCached(at offset: Int64, upTo count: Int) -> [UInt8]? {
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      filled = readCachedFile(descriptor, at: offset, into: UnsafeMutableRawBufferPointer(buffer))
    }
    return bytes.isEmpty ? nil : bytes
  }

  /// Bytes from a position on, at most so many; fewer at the end. Blocks. Throws `SystemError`.
  package func read(at offset: Int64, upTo count: Int) throws -> [UInt8] {
    var failure: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      let got = pread(descriptor, buffer.baseAddress, count, off_t(offset))
      if got < 0 { failure = errno }
      filled = max(0, got)
    }
    guard failure == 0 else { throw SystemError("pread", errno: failure) }
    return bytes
  }
}

/// A part of a file.
package struct FileSlice: Sendable {
  package let file: OpenFile
  package let range: Range<Int64>

  package init(_ file: OpenFile, _ range: Range<Int64>) {
    self.file = file
    self.range = range
  }
}
