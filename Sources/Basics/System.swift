#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// What `strerror` says of an `errno`.
package func systemErrorText(_ number: Int32) -> String {
  // strerror gives a static text for every number, never NULL.
  String(cString: strerror(number))
}

/// A mutual exclusion for threads that also wait: POSIX mutex and condition variable.
///
/// For plain critical sections use `Synchronization.Mutex`.
package final class Monitor: @unchecked Sendable {
  // Unchecked: both are made for use from many threads; they stay at one address until `deinit`.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  package init() {
    pthread_mutex_init(mutex, nil)
    #if canImport(Glibc)
      // Waits are measured by a clock that nobody sets.
      var attributes = pthread_condattr_t()
      pthread_condattr_init(&attributes)
      pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
      pthread_cond_init(condition, &attributes)
      pthread_condattr_destroy(&attributes)
    #else
      pthread_cond_init(condition, nil)
    #endif
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  package func locked<Result>(_ body: () throws -> Result) rethrows -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body()
  }

  /// Waits for a signal; call inside `locked`, in a loop over the condition.
  package func wait() { pthread_cond_wait(condition, mutex) }

  /// As `wait`, for so many milliseconds at most.
  package func wait(milliseconds: Int64) {
    #if canImport(Glibc)
      let now = Monotonic.milliseconds
    #else
      let now = Timestamp.now.milliseconds
    #endif
    let until = now + max(0, milliseconds)
    var time = timespec(tv_sec: Int(until / 1000), tv_nsec: Int(until % 1000) * 1_000_000)
    pthread_cond_timedwait(condition, mutex, &time)
  }

  package func signal() { pthread_cond_signal(condition) }
  package func broadcast() { pthread_cond_broadcast(condition) }
}

/// A thread of the operating system that runs one closure; signals are left to the main thread.
package final class Thread: @unchecked Sendable {
  // Unchecked: the handle is written once, before anyone else sees the object.
  private let handle: pthread_t

  /// Starts a thread. A machine that cannot start one cannot run the server: traps.
  package init(name: String, _ body: @escaping @Sendable () -> Void) {
    let box = Unmanaged.passRetained(Box(name: name, body: body))
    #if canImport(Glibc)
      var thread = pthread_t()
    #else
      var thread: pthread_t?
    #endif
    let status = pthread_create(
      &thread, nil,
      { argument in
        #if canImport(Glibc)
          guard let argument else { return nil }
        #endif
        let box = Unmanaged<Box>.fromOpaque(argument).takeRetainedValue()
        box.start()
        return nil
      }, box.toOpaque())
    guard status == 0 else { fatalError("pthread_create: \(systemErrorText(status))") }
    #if canImport(Glibc)
      handle = thread
    #else
      guard let thread else { fatalError("pthread_create gave no thread") }
      handle = thread
    #endif
  }

  package func join() { pthread_join(handle, nil) }

  private final class Box {
    let name: String
    let body: @Sendable () -> Void

    init(name: String, body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }

    func start() {
      #if canImport(Glibc)
        // The header hides pthread_setname_np from Swift; the kernel takes the name here as well.
        // A thread without its name still does its work.
        let descriptor = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
        if descriptor >= 0 {
          let bytes = Array(name.utf8.prefix(15))
          _ = write(descriptor, bytes, bytes.count)
          close(descriptor)
        }
      #else
        pthread_setname_np(name)
      #endif
      body()
    }
  }
}

/// Files, as far as the server touches them itself. Every function throws `SystemError`.
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

  /// Bytes that this process may still write below `path`.
  package static func freeBytes(_ path: String) throws -> Int64 {
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { throw SystemError("statvfs \(path)", errno: errno) }
    return Int64(clamping: UInt64(status.f_bavail) &* UInt64(status.f_frsize))
  }

  /// Takes the kernel's lock on a file, made if need be, until the process ends, however it ends.
  /// False where another process holds it.
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
      // Removed between the two calls: another file may have the name by now.
      close(descriptor)
    }
  }

  package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  /// The regular files below a folder, by their path from there on, in order. What begins with a dot is left out. Throws
  /// `SystemError`.
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

  /// What changes when a file, or what a link leads to, is written or replaced. Nil where there is none.
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

  /// Makes an empty file that only its owner may read. Throws where there is one already.
  package static func createPrivate(_ path: String) throws {
    let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw SystemError("open \(path)", errno: errno) }
    close(descriptor)
  }

  /// Takes everything out of a file, for its owner's eyes only from here on.
  package static func emptyPrivately(_ path: String) throws {
    guard chmod(path, 0o600) == 0 else { throw SystemError("chmod \(path)", errno: errno) }
    guard truncate(path, 0) == 0 else { throw SystemError("truncate \(path)", errno: errno) }
  }

  /// Gives a finished file its name, once its contents are on the disk. Throws where the name is taken.
  package static func publish(_ path: String, as name: String) throws {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw SystemError("open \(path)", errno: errno) }
    let synced = fsync(descriptor)
    let failure = errno
    close(descriptor)
    guard synced == 0 else { throw SystemError("fsync \(path)", errno: failure) }
    // Not rename, which would replace a file that came meanwhile.
    guard link(path, name) == 0 else { throw SystemError("link \(name)", errno: errno) }
    remove(path)
  }

  /// Removes a file of ours; one that is not there is as good.
  package static func remove(_ path: String) { unlink(path) }
}

private func readSome(_ descriptor: Int32, _ buffer: inout [UInt8], _ count: Int) -> Int {
  read(descriptor, &buffer, count)
}

/// A number that tells threads apart, equal for one thread throughout.
package func currentThreadID() -> UInt {
  #if canImport(Glibc)
    UInt(pthread_self())
  #else
    UInt(bitPattern: pthread_self())
  #endif
}

/// The process's limits.
package enum ProcessLimits {
  /// Raises the soft limit of open files to the hard one; returns what is in force.
  package static func raiseOpenFiles() -> Int {
    var limit = rlimit()
    guard getrlimit(resource, &limit) == 0 else { return 1024 }
    limit.rlim_cur = limit.rlim_max
    _ = setrlimit(resource, &limit)
    _ = getrlimit(resource, &limit)
    return Int(clamping: limit.rlim_cur)
  }

  #if canImport(Glibc)
    private static let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
  #else
    private static let resource = RLIMIT_NOFILE
  #endif

  /// How many files may be open.
  package static var openFiles: Int {
    var limit = rlimit()
    return getrlimit(resource, &limit) == 0 ? Int(clamping: limit.rlim_cur) : 0
  }
}

/// The process's environment and end.
package enum ProcessEnvironment {
  /// Every variable by name.
  package static var all: [String: String] {
    var variables: [String: String] = [:]
    var entry = environ
    while let text = entry.pointee {
      let line = String(cString: text)
      if let equals = line.firstIndex(of: "=") {
        variables[String(line[..<equals])] = String(line[line.index(after: equals)...])
      }
      entry += 1
    }
    return variables
  }

  /// The folder of the binary that runs; nil where the system does not say.
  package static var binaryFolder: String? {
    var path = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &path, path.count)
    guard count > 0, count < path.count else { return nil }
    let text = String(decoding: path[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    return text.lastIndex(of: "/").map { String(text[..<$0]) }
  }

  /// Ends the process without unwinding.
  package static func exit(_ status: Int32) -> Never {
    fflush(nil)
    LogOutput.flush()
    // Not `exit`: it takes libraries apart (libpq's Kerberos, OpenSSL) while other threads use them.
    _exit(status)
  }
}

extension ProcessLimits {
  /// Processors that this process may use; at least 1.
  package static var cores: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }
}
