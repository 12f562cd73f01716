#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Retains the scenario for the life of the process.
nonisolated(unsafe) var kept: Scenario?  // Written once, on the loop.

func flushOutput() { fflush(nil) }

func waitForever() -> Never {
  while true { pause() }
}
