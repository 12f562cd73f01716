#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The file operations that the server itself needs. Their errors are `SystemError`.
package enum FileSystem {
  package static func read(_ path: String) throws -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw SystemError("open \(path)", errno: errno) }
    defer { close(descriptor) }
    var contents: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 * 1024)
    while true {
      let count = readSome(descriptor, &chunk, chunk.count)
      if count == 0 { return contents }
      guard count > 0 else {
        if errno == EINTR { continue }
        throw SystemError("read \(path)", errno: errno)
      }
      contents.append(contentsOf: chunk[..<count])
    }
  }

  /// Creates a directory and its missing parents, for their owner only (mode 0700). Existing ones stay as they are.
  package static func makeDirectory(_ path: String) throws {
    var built = path.hasPrefix("/") ? "/" : ""
    for part in path.split(separator: "/") {
      built += part
      if mkdir(built, 0o700) != 0, errno != EEXIST {
        throw SystemError("mkdir \(built)", errno: errno)
      }
      built += "/"
    }
  }

  /// Returns the number of bytes that an unprivileged process may still write to the file system of `path`.
  package static func freeBytes(_ path: String) throws -> Int64 {
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { throw SystemError("statvfs \(path)", errno: errno) }
    return Int64(clamping: UInt64(status.f_bavail) &* UInt64(status.f_frsize))
  }

  /// Locks a file (flock(2)) until the process ends, however it ends. Creates the file if needed. Returns false if
  /// another process holds the lock. The descriptor stays open on purpose: closing it would release the lock.
  package static func lockForLifetime(_ path: String) throws -> Bool {
    while true {
      let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
      guard descriptor >= 0 else { throw SystemError("open \(path)", errno: errno) }
      guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
        let failure = errno
        close(descriptor)
        if failure == EWOULDBLOCK { return false }
        throw SystemError("flock \(path)", errno: failure)
      }
      var (locked, named) = (stat(), stat())
      if fstat(descriptor, &locked) == 0, stat(path, &named) == 0, locked.st_ino == named.st_ino {
        return true
      }
      // The file was removed before it was locked, so the name may belong to another file by now.
      close(descriptor)
    }
  }

  package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  /// Returns the regular files below a folder, as sorted paths relative to it. Links are followed. Names that begin
  /// with a dot are left out.
  package static func filesBelow(_ folder: String) throws -> [String] {
    guard let directory = opendir(folder) else {
      throw SystemError("opendir \(folder)", errno: errno)
    }
    defer { closedir(directory) }
    var found: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name.hasPrefix(".") { continue }
      var status = stat()
      guard stat("\(folder)/\(name)", &status) == 0 else { continue }
      if status.st_mode & S_IFMT == S_IFDIR {
        found += try filesBelow("\(folder)/\(name)").map { "\(name)/\($0)" }
      } else if status.st_mode & S_IFMT == S_IFREG {
        found.append(name)
      }
    }
    return found.sorted()
  }

  /// Returns a value that changes when the file, or the file that a link leads to, is written or replaced. Nil if there
  /// is no such file.
  package static func version(_ path: String) -> FileVersion? {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    #if canImport(Glibc)
      let changed = status.st_ctim
    #else
      let changed = status.st_ctimespec
    #endif
    return FileVersion(
      inode: UInt64(status.st_ino), bytes: Int64(status.st_size),
      changedSeconds: Int64(changed.tv_sec), changedNanoseconds: Int64(changed.tv_nsec))
  }

  package struct FileVersion: Sendable, Equatable {
    fileprivate let inode: UInt64
    fileprivate let bytes: Int64
    fileprivate let changedSeconds: Int64
    fileprivate let changedNanoseconds: Int64
  }

  /// Creates an empty file that only its owner may read. Throws if the file exists.
  package static func createPrivate(_ path: String) throws {
    let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw SystemError("open \(path)", errno: errno) }
    close(descriptor)
  }

  /// Truncates a file and makes it readable for its owner only.
  package static func emptyPrivately(_ path: String) throws {
    guard chmod(path, 0o600) == 0 else { throw SystemError("chmod \(path)", errno: errno) }
    guard truncate(path, 0) == 0 else { throw SystemError("truncate \(path)", errno: errno) }
  }

  /// Syncs a finished file to disk, then gives it its final name. Throws if the name is taken.
  package static func publish(_ path: String, as name: String) throws {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw SystemError("open \(path)", errno: errno) }
    let synced = fsync(descriptor)
    let failure = errno
    close(descriptor)
    guard synced == 0 else { throw SystemError("fsync \(path)", errno: failure) }
    // A link and not a rename, because a rename would replace a file that was created meanwhile.
    guard link(path, name) == 0 else { throw SystemError("link \(name)", errno: errno) }
    remove(path)
  }

  /// Removes a file. Does nothing if it does not exist or cannot be removed.
  package static func remove(_ path: String) { unlink(path) }
}

private func readSome(_ descriptor: Int32, _ buffer: inout [UInt8], _ count: Int) -> Int {
  read(descriptor, &buffer, count)
}
