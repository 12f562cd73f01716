#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

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
