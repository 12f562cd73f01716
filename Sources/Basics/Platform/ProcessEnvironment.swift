#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The environment of the process, and the way to end it.
package enum ProcessEnvironment {
  /// All environment variables by name.
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

  /// The folder of the running binary; nil if the system has no /proc or the path is too long.
  package static var binaryFolder: String? {
    var path = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &path, path.count)
    guard count > 0, count < path.count else { return nil }
    let text = String(decoding: path[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    return text.lastIndex(of: "/").map { String(text[..<$0]) }
  }

  /// Ends the process without unwinding, after flushing the C streams and the log.
  package static func exit(_ status: Int32) -> Never {
    fflush(nil)
    LogOutput.flush()
    // Not `exit`, because its handlers tear down libraries (libpq's Kerberos, OpenSSL) that other threads still use.
    _exit(status)
  }
}
