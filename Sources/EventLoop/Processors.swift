internal import CLibUV

/// The processors of the machine by their numbers. On other systems than Linux none are known.
enum Processors {
  /// Those that the process may use, in ascending order; empty where the system does not tell
  /// (sched_getaffinity(2)).
  static var allowed: [Int] {
    #if os(Linux)
      var mask = [CUnsignedLongLong](repeating: 0, count: words)
      guard martlet_get_affinity(0, CUnsignedLong(words * 8), &mask) >= 0 else { return [] }
      return (0..<(words * 64)).filter { mask[$0 / 64] >> ($0 % 64) & 1 == 1 }
    #else
      return []
    #endif
  }

  /// From here on the calling thread runs on this processor alone. Where the system refuses that it runs on
  /// any, as before.
  static func pinCurrentThread(on processor: Int) {
    #if os(Linux)
      guard (0..<(words * 64)).contains(processor) else { return }
      var mask = [CUnsignedLongLong](repeating: 0, count: words)
      mask[processor / 64] = 1 << (processor % 64)
      _ = martlet_set_affinity(0, CUnsignedLong(words * 8), mask)
    #endif
  }

  /// Of a mask: 1,024 processors, as in the C library's `cpu_set_t`.
  private static let words = 16
}
