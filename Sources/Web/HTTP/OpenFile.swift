package import Basics
internal import EventLoop

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A regular file that is open for reading, as long as it is referenced.
package final class OpenFile: Sendable {
  package let size: Int64
  /// When its contents were last changed.
  package let modified: Timestamp
  let descriptor: Int32

  /// Blocks. Throws `SystemError`, also if it is not a regular file (EISDIR and the like).
  package init(_ path: String) throws {
    // Otherwise opening a pipe without a writer would block for ever.
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

  /// The bytes of a part; fewer if the file ends before. Blocks. Throws `SystemError`.
  package func read(_ part: Range<Int64>) throws -> [UInt8] {
    try [UInt8](unsafeUninitializedCapacity: part.count) { buffer, filled in
      filled = try read(at: part.lowerBound, into: UnsafeMutableRawBufferPointer(buffer))
    }
  }

  private func read(at offset: Int64, into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
    let count = pread(descriptor, buffer.baseAddress, buffer.count, off_t(offset))
    guard count >= 0 else { throw SystemError("pread", errno: errno) }
    return count
  }

  // MARK: The kernel's cache

  /// The same as `read`, but never blocks. Nil if the kernel has cached nothing of it, or cannot tell.
  func readCached(_ part: Range<Int64>) -> [UInt8]? {
    let bytes = [UInt8](unsafeUninitializedCapacity: part.count) { buffer, filled in
      filled = readCachedFile(
        descriptor, at: part.lowerBound, into: UnsafeMutableRawBufferPointer(buffer))
    }
    return bytes.isEmpty ? nil : bytes
  }

  /// Whether the kernel has cached a part, judging by samples: one byte of every 64 KiB, and the last.
  func isCached(_ part: Range<Int64>) -> Bool {
    withUnsafeTemporaryAllocation(byteCount: 1, alignment: 1) { byte in
      stride(from: part.lowerBound, to: part.upperBound, by: Self.sampleBytes).allSatisfy {
        readCachedFile(descriptor, at: $0, into: byte) == 1
      } && readCachedFile(descriptor, at: part.upperBound - 1, into: byte) == 1
    }
  }

  /// Makes the kernel cache a part. Blocks. Throws `SystemError`.
  func load(_ part: Range<Int64>) throws {
    try withUnsafeTemporaryAllocation(byteCount: Self.loadedAtOnceBytes, alignment: 16) { buffer in
      var offset = part.lowerBound
      while offset < part.upperBound {
        let count = try read(at: offset, into: buffer)
        guard count > 0 else { return }
        offset += Int64(count)
      }
    }
  }

  private static let sampleBytes = 64 * 1024
  private static let loadedAtOnceBytes = 64 * 1024
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
