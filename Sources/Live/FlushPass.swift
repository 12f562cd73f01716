/// What one turn of a hub may write, and has. A value.
struct FlushPass {
  let start: UInt64
  private let maximumWrites: Int
  private(set) var isOutOfTime = false
  /// The gate closed on the way.
  private(set) var isShut = false
  private var writes = 0

  /// `start` is the thread's time.
  init(start: UInt64, maximumWrites: Int) {
    self.start = start
    self.maximumWrites = maximumWrites
  }

  var isOver: Bool { isOutOfTime || isShut }

  /// Something waits for another turn.
  mutating func endEarly() { isOutOfTime = true }

  /// Whether another may be written. `clock` is looked at for large audiences.
  mutating func mayWrite(_ gate: DeliveryGate, isLarge: Bool, _ clock: () -> UInt64) -> Bool {
    if isOver { return false }
    // Before each write: the process may have been stopped since the last one.
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

/// Memory of batches that have left, for others to begin with. A value.
struct BatchMemory {
  private var spare: [[UInt8]] = []

  /// What grew beyond this is given back, and so is more than that many.
  private static let keptBytes = 16 * 1024
  private static let maximumSpare = 64

  /// Empty, with room for a batch where there is some.
  mutating func take() -> [UInt8] { spare.popLast() ?? [] }

  mutating func recycle(_ memory: [UInt8]) {
    guard memory.capacity <= Self.keptBytes, spare.count < Self.maximumSpare else { return }
    var empty = memory
    empty.removeAll(keepingCapacity: true)
    spare.append(empty)
  }
}
