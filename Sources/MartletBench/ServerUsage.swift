internal import class Foundation.FileManager

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The resources that the processes of a server have used, read from `/proc` (proc(5)). Zero on systems without it.
struct ServerUsage {
  let processes: [Int]

  /// Seconds of CPU time so far, of all processes.
  var processorSeconds: Double {
    let ticks = processes.reduce(0.0) { total, process in
      // The name in parentheses may contain blanks. utime and stime are fields 14 and 15.
      guard let text = read("/proc/\(process)/stat"), let end = text.lastIndex(of: ")") else {
        return total
      }
      let fields = text[end...].split(separator: " ")
      guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
        return total
      }
      return total + user + system
    }
    return ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
  }

  /// Resident memory of all processes.
  var residentMegabytes: Double {
    processes.reduce(0.0) { total, process in
      guard
        let line = read("/proc/\(process)/status")?.split(separator: "\n").first(where: {
          $0.hasPrefix("VmRSS:")
        }), let kilobytes = Double(line.split(separator: " ").dropFirst().first ?? "")
      else {
        return total
      }
      return total + kilobytes / 1024
    }
  }

  private func read(_ path: String) -> String? {
    FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) }
  }
}
