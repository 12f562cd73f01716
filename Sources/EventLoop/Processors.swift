internal import CLibUV

/// The machine's processors, by number. Known on Linux only.
enum Processors {
  /// The processors that the process may use, in ascending order; empty if the system does not tell
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

  /// Pins the calling thread to this processor. If the system refuses, the thread runs on any processor, as before.
  static func pinCurrentThread(on processor: Int) {
    #if os(Linux)
      guard (0..<(words * 64)).contains(processor) else { return }
      var mask = [CUnsignedLongLong](repeating: 0, count: words)
      mask[processor / 64] = 1 << (processor % 64)
      _ = martlet_set_affinity(0, CUnsignedLong(words * 8), mask)
    #endif
  }

  /// The number of 64-bit words in a mask of 1,024 processors, the size of the C library's `cpu_set_t`.
  private static let words = 16
}
