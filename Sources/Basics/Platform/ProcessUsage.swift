#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The resources that this process uses. Zeros if the system has no /proc (proc(5)).
package struct ProcessUsage: Sendable {
  package private(set) var cpuSeconds = 0.0
  package private(set) var residentBytes = 0
  package private(set) var virtualBytes = 0

  package static var now: ProcessUsage {
    var usage = ProcessUsage()
    // A file of the kernel: reading it does not block. Without it, the zeros above are the answer.
    guard let bytes = try? FileSystem.read("/proc/self/stat") else { return usage }
    let text = String(decoding: bytes, as: UTF8.self)
    // The name in parentheses may contain blanks. After it, counted from 0: utime 11, stime 12, vsize 20, rss 21.
    guard let end = text.lastIndex(of: ")") else { return usage }
    let fields = text[text.index(after: end)...].split(separator: " ")
    guard fields.count > 21, let user = Double(fields[11]), let system = Double(fields[12]) else {
      return usage
    }
    usage.cpuSeconds = (user + system) / Double(max(1, sysconf(Int32(_SC_CLK_TCK))))
    usage.virtualBytes = Int(fields[20]) ?? 0
    usage.residentBytes = (Int(fields[21]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE)))
    return usage
  }

  /// The number of open files and sockets.
  package static var openFiles: Int {
    guard let directory = opendir("/proc/self/fd") else { return 0 }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    // `.`, `..` and the directory itself.
    return max(0, count - 3)
  }
}
