#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The limits that the system sets for this process.
package enum ProcessLimits {
  /// Raises the soft limit of open files to the hard limit. Returns the limit that is then in force, or 1024 if the
  /// system does not tell.
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

  /// The number of files that may be open at once; 0 if the system does not tell.
  package static var openFiles: Int {
    var limit = rlimit()
    return getrlimit(resource, &limit) == 0 ? Int(clamping: limit.rlim_cur) : 0
  }

  /// The number of processors that are online, at least 1. Does not consider the process's CPU affinity or quota.
  package static var cores: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }
}
