internal import Basics

/// The received frames of one socket: which is served now, which wait, and when reading stops. A value; the caller
/// provides the clock.
struct FrameIntake {
  private var allowance: FrameAllowance
  private var waiting = WaitingFrames()
  private var ending: Ending?
  private var isReading = true

  /// A frame that ends the connection. `object` is nil for a text that is not one JSON object.
  struct Ending {
    let object: JSONObject?
    /// When the frame is served at the latest, whatever it waits for, by `Monotonic.milliseconds`.
    fileprivate let due: Int64
  }

  /// How often waiting frames are checked, in case nothing announces that they may be served now.
  private static let lookMilliseconds: Int64 = 250
  /// How long a frame that ends the connection waits for the frames before it, at most.
  private static let endMilliseconds: Int64 = 500

  init(_ allowance: FrameAllowance) { self.allowance = allowance }

  // MARK: Rates

  /// Takes one frame from the rate limits, see `FrameAllowance.take`.
  mutating func take(now: UInt64, ofUser: () -> Bool) -> Bool {
    allowance.take(now: now, ofUser: ofUser)
  }

  /// The number of frames in a row that were refused.
  var refusals: Int { allowance.refusals }

  mutating func charge(_ frames: Int) { allowance.charge(frames) }

  // MARK: Waiting

  /// Whether frames wait. A frame that arrives now is queued behind them.
  var hasWaiting: Bool { !waiting.isEmpty }

  /// Queues a frame until its turn. `now` is a time of `Monotonic.milliseconds`.
  mutating func wait(_ text: UnsafeRawBufferPointer, now: Int64) { waiting.add(text, now: now) }

  /// Notes that a waiting frame ends the connection. It is served in its turn, or when `takeEnding` returns it,
  /// whichever is earlier. Only the first such frame counts.
  mutating func willEnd(_ object: JSONObject?, now: Int64) {
    if ending == nil { ending = Ending(object: object, due: now + Self.endMilliseconds) }
  }

  /// Removes and returns the frame whose turn it is; nil if none waits.
  mutating func next() -> [UInt8]? { waiting.next() }

  /// Returns the frame that ends the connection, once, if it has waited long enough.
  mutating func takeEnding(now: Int64) -> Ending? {
    guard let due = ending, now >= due.due else { return nil }
    ending = nil
    return due
  }

  /// Removes and returns all waiting frames if the first of them has waited so long that it must be refused; otherwise
  /// returns none.
  mutating func takeOverdue(now: Int64) -> [[UInt8]] { waiting.takeOverdue(now: now) }

  /// Returns when to check the waiting frames next, by `Monotonic.milliseconds`; nil if none wait.
  func due(now: Int64) -> Int64? { waiting.isEmpty ? nil : now + Self.lookMilliseconds }

  /// Drops all waiting frames, because the socket is closed.
  mutating func removeAll() {
    waiting = WaitingFrames()
    ending = nil
  }

  /// Returns true if reading must resume, false if it must stop, and nil if nothing changes. After a stop, frames that
  /// were already read from the socket still arrive. Backpressure keeps the others at the client.
  mutating func changeOfReading() -> Bool? {
    guard waiting.isFull == isReading else { return nil }
    isReading.toggle()
    return isReading
  }
}
