#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The resources that this process uses, as /proc tells (proc(5)). All are 0 on systems without /proc.
package struct ProcessUsage: Sendable {
  /// The CPU time of all threads since the start, in user mode and in the kernel.
  package private(set) var cpuSeconds = 0.0
  package private(set) var residentBytes = 0
  package private(set) var virtualBytes = 0

  package static var now: ProcessUsage {
    var usage = ProcessUsage()
    // Not a file on disk, so reading it does not block. `try?`: if it cannot be read, the zeros above are the result.
    guard let bytes = try? FileSystem.read("/proc/self/stat") else { return usage }
    let text = String(decoding: bytes, as: UTF8.self)
    // The program's name in parentheses may contain blanks. The fields after it are counted from 0: utime is 11, stime
    // 12, vsize 20 and rss 21.
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
    // Not counted: `.`, `..` and the directory that is being read.
    return max(0, count - 3)
  }
}
