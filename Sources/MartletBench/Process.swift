internal import CLibUV
internal import EventLoop

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Holds the scenario for the life of the process.
nonisolated(unsafe) var kept: Scenario?  // Written once, on the loop.

func flushOutput() { fflush(nil) }

func waitForever() -> Never {
  while true { pause() }
}

/// Keeps the loop from ever sleeping. A generator that sleeps between two frames makes each send of
/// the server pay for waking it, or not, as chance has it: this way every target is measured alike.
func neverSleep(_ loop: EventLoop) {
  let idle = UnsafeMutablePointer<uv_idle_t>.allocate(capacity: 1)
  uv_idle_init(loop.uv, idle)
  uv_idle_start(idle) { _ in }
}
