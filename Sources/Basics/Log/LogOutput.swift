internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The output of a log that never waits for its reader: a descriptor, normally standard error.
///
/// A line is written directly if that does not block, so that it is not lost even if the process is killed (SIGKILL).
/// If the reader of the pipe does not keep up, lines wait in a ring buffer of 1 MiB, which a thread empties. Lines that
/// do not fit are counted, and the count is logged when the ring is empty again. When the process crashes or ends, the
/// ring is flushed first.
// Unchecked: everything that changes is atomic or used under `monitor`, except that the ring's bytes are read without
// it. The log's thread does that, and moves `tail` only afterwards, so that nobody overwrites what it reads. So does
// `flushAfterCrash`, which first lets that thread finish its write, for at most a second.
final class LogOutput: @unchecked Sendable {
  private let descriptor: Int32
  private let monitor = Monitor()
  private let ring = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
  /// The number of bytes that were ever added to the ring (`head`) and removed from it (`tail`). Atomic, because both
  /// are also read without the lock.
  private let head = Atomic<Int>(0)
  private let tail = Atomic<Int>(0)
  /// Whether the log's thread is writing something now, and whether the process is ending, so that the log's thread
  /// must not write.
  private let isEmptying = Atomic<Bool>(false)
  private let isEnding = Atomic<Bool>(false)
  private var lostLines = 0
  private var thread: PlatformThread?
  private let isFile: Bool
  /// Makes the line that tells how many lines were lost.
  private let lostLine: @Sendable (Int) -> ContiguousArray<UInt8>

  private static let capacity = 1 << 20
  /// The number of bytes that a pipe accepts without blocking if it is ready at all (pipe(7), PIPE_BUF).
  private static let atOnceBytes = 4096
  private static let longestWaitMilliseconds: Int32 = 1000

  init(descriptor: Int32, lostLine: @escaping @Sendable (Int) -> ContiguousArray<UInt8>) {
    self.descriptor = descriptor
    self.lostLine = lostLine
    var status = stat()
    isFile = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
  }

  deinit { ring.deallocate() }

  /// Writes a line, or queues it to be written soon. Never waits for the reader.
  func write(_ line: ContiguousArray<UInt8>) {
    monitor.locked {
      if isEmpty, !isEnding.load(ordering: .acquiring), isReady(for: line.count) {
        let written = line.withUnsafeBytes { writeAll($0) }
        // The descriptor is non-blocking and accepted less than poll(2) promised.
        if written < line.count { keep(line[written...]) }
      } else {
        keep(line[...])
      }
    }
  }

  private var isEmpty: Bool { head.load(ordering: .relaxed) == tail.load(ordering: .relaxed) }

  private func isReady(for count: Int) -> Bool {
    isFile || (count <= Self.atOnceBytes && waitUntilReady(milliseconds: 0))
  }

  private func waitUntilReady(milliseconds: Int32) -> Bool {
    var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    return poll(&request, 1, milliseconds) == 1
  }

  /// Writes the bytes and returns their number, or less if the descriptor would block. After any other failure it also
  /// returns their number, so the rest is lost: a log that cannot be written has no place to report that.
  private func writeAll(_ bytes: UnsafeRawBufferPointer) -> Int {
    var written = 0
    while written < bytes.count, let start = bytes.baseAddress {
      let count = writeSome(descriptor, start + written, bytes.count - written)
      if count < 0, errno == EINTR { continue }
      if count <= 0 { return errno == EAGAIN ? written : bytes.count }
      written += count
    }
    return written
  }

  /// Adds a line to the ring, or counts it as lost if it does not fit. Called with `monitor` locked.
  private func keep(_ line: ContiguousArray<UInt8>.SubSequence) {
    let start = head.load(ordering: .relaxed)
    guard line.count <= Self.capacity - (start - tail.load(ordering: .relaxed)) else {
      lostLines += 1
      return
    }
    for (offset, byte) in line.enumerated() { ring[(start + offset) % Self.capacity] = byte }
    head.store(start + line.count, ordering: .releasing)
    // Unowned: a log that has a thread lives as long as the process (`flushOnCrash`).
    if thread == nil { thread = PlatformThread(name: "log") { [unowned self] in empty() } }
    monitor.signal()
  }

  /// Writes what is in the ring, each piece when the reader is ready. Runs on the log's thread until the process ends.
  private func empty() {
    while true {
      let piece = monitor.locked {
        while isEmpty { monitor.wait() }
        return waitingPiece()
      }
      _ = waitUntilReady(milliseconds: -1)
      isEmptying.store(true, ordering: .sequentiallyConsistent)
      if isEnding.load(ordering: .sequentiallyConsistent) {
        isEmptying.store(false, ordering: .releasing)
        return
      }
      let count = min(piece.count, isFile ? piece.count : Self.atOnceBytes)
      let written = writeAll(
        UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(piece)[..<count]))
      tail.wrappingAdd(written, ordering: .releasing)
      isEmptying.store(false, ordering: .releasing)
      monitor.locked {
        guard isEmpty, lostLines > 0 else { return }
        keep(lostLine(lostLines)[...])
        lostLines = 0
      }
    }
  }

  /// Returns the bytes that have waited longest, up to the end of the ring's memory.
  private func waitingPiece() -> UnsafeBufferPointer<UInt8> {
    let start = tail.load(ordering: .acquiring)
    let count = head.load(ordering: .acquiring) - start
    let place = start % Self.capacity
    return UnsafeBufferPointer(start: ring + place, count: min(count, Self.capacity - place))
  }

  // MARK: The end of the process

  /// Writes what is in the ring, as long as the reader takes each piece within a second. Takes no lock, because the
  /// thread that crashed may hold it.
  private func flushAfterCrash() {
    isEnding.store(true, ordering: .sequentiallyConsistent)
    // Lets the log's thread finish its write, for at most a second: it never does if it is the thread that crashed.
    var waited: Int32 = 0
    while isEmptying.load(ordering: .sequentiallyConsistent),
      waited < Self.longestWaitMilliseconds
    {
      poll(nil, 0, 1)
      waited += 1
    }
    while !isEmpty, waitUntilReady(milliseconds: Self.longestWaitMilliseconds) {
      let piece = waitingPiece()
      let count = writeSome(descriptor, piece.baseAddress, min(piece.count, Self.atOnceBytes))
      guard count > 0 else { return }
      tail.wrappingAdd(count, ordering: .releasing)
    }
  }

  /// The address of the log that is flushed at the end, or 0. An atomic integer is safe to read in a signal handler.
  private static let current = Atomic<UInt>(0)
  private static let signals = [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT]

  /// Makes this the log that is flushed when the process crashes, and by `flush`. It then lives as long as the process.
  func flushOnCrash() {
    // Never released, because a crash can happen at any time.
    let address = UInt(bitPattern: Unmanaged.passRetained(self).toOpaque())
    Self.current.store(address, ordering: .releasing)
    for number in Self.signals {
      var action = sigaction()
      // The handler runs once. The next signal of the same number has its default effect (sigaction(2)).
      action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND)) | Int32(SA_NODEFER)
      #if canImport(Glibc)
        action.__sigaction_handler.sa_handler = LogOutput.lastWords
      #else
        action.__sigaction_u.__sa_handler = LogOutput.lastWords
      #endif
      sigaction(number, &action, nil)
    }
  }

  private static let lastWords: @convention(c) (Int32) -> Void = { number in
    LogOutput.flush()
    // The handler has been removed (SA_RESETHAND), so this ends the process as the signal would have without it.
    raise(number)
  }

  /// Writes what is in the ring of the process's log, as long as the reader takes each piece within a second. The log
  /// thread writes nothing more afterwards.
  static func flush() {
    guard let pointer = UnsafeRawPointer(bitPattern: current.load(ordering: .acquiring)) else {
      return
    }
    Unmanaged<LogOutput>.fromOpaque(pointer).takeUnretainedValue().flushAfterCrash()
  }
}

private func writeSome(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int {
  #if canImport(Glibc)
    Glibc.write(descriptor, bytes, count)
  #else
    Darwin.write(descriptor, bytes, count)
  #endif
}
