/// The limits of what a hub writes in one turn, and how much of them is used. A value.
struct FlushPass {
  let start: UInt64
  private let maximumWrites: Int
  private(set) var isOutOfTime = false
  /// Whether the gate closed during the pass.
  private(set) var isShut = false
  private var writes = 0

  /// `start` is a time of the thread's CPU clock, in nanoseconds.
  init(start: UInt64, maximumWrites: Int) {
    self.start = start
    self.maximumWrites = maximumWrites
  }

  var isOver: Bool { isOutOfTime || isShut }

  /// Ends the pass; what remains is written in another turn.
  mutating func endEarly() { isOutOfTime = true }

  /// Counts a write, and returns whether it may be done. The clock is read only for large audiences.
  mutating func mayWrite(_ gate: DeliveryGate, isLarge: Bool, _ clock: () -> UInt64) -> Bool {
    if isOver { return false }
    // Checked before each write: the process may have been stopped since the last one.
    guard gate.isOpen else {
      isShut = true
      return false
    }
    writes += 1
    if writes >= maximumWrites
      || isLarge && writes % Hub.writesPerLook == 0 && clock() >= start &+ Hub.flushNanoseconds
    {
      isOutOfTime = true
    }
    return true
  }
}

/// Buffers of batches that were sent, kept for new batches. A value.
struct BatchMemory {
  private var spare: [[UInt8]] = []

  /// Buffers that grew beyond this are released instead of kept, and so are those beyond `maximumSpare`.
  private static let keptBytes = 16 * 1024
  private static let maximumSpare = 64

  /// An empty buffer, with capacity if one was kept.
  mutating func take() -> [UInt8] { spare.popLast() ?? [] }

  mutating func recycle(_ memory: [UInt8]) {
    guard memory.capacity <= Self.keptBytes, spare.count < Self.maximumSpare else { return }
    var empty = memory
    empty.removeAll(keepingCapacity: true)
    spare.append(empty)
  }
}
