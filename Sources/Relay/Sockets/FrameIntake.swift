internal import Basics

/// A socket's received frames: which is served now, which waits, and when reading stops. A value; the caller provides
/// the clock.
struct FrameIntake {
  private var allowance: FrameAllowance
  private var waiting = WaitingFrames()
  private var ending: Ending?
  private var isReading = true

  /// A frame that ends the connection; nil is a text that is not one JSON object.
  struct Ending {
    let object: JSONObject?
    /// When it is served at the latest, whatever it waits for.
    fileprivate let due: Int64
  }

  /// How often waiting frames are looked at while nothing announces that they may be served.
  private static let lookMilliseconds: Int64 = 250
  /// How long a frame that ends the connection waits for the frames before it.
  private static let endMilliseconds: Int64 = 500

  init(_ allowance: FrameAllowance) { self.allowance = allowance }

  // MARK: Rates

  /// Whether another frame may be served, see `FrameAllowance.take`.
  mutating func take(now: UInt64, ofUser: () -> Bool) -> Bool {
    allowance.take(now: now, ofUser: ofUser)
  }

  /// The number of frames in a row that were refused.
  var refusals: Int { allowance.refusals }

  mutating func charge(_ frames: Int) { allowance.charge(frames) }

  // MARK: Waiting

  /// Whether frames wait. One that arrives now goes behind them.
  var hasWaiting: Bool { !waiting.isEmpty }

  /// Keeps a frame until its turn. `now` is a time of `Monotonic.milliseconds`.
  mutating func wait(_ text: UnsafeRawBufferPointer, now: Int64) { waiting.add(text, now: now) }

  /// Notes that a waiting frame ends the connection. It is served in its turn, or when `takeEnding` returns it,
  /// whichever is earlier.
  mutating func willEnd(_ object: JSONObject?, now: Int64) {
    if ending == nil { ending = Ending(object: object, due: now + Self.endMilliseconds) }
  }

  /// The frame whose turn it is.
  mutating func next() -> [UInt8]? { waiting.next() }

  /// The frame that ends the connection, if it has waited long enough.
  mutating func takeEnding(now: Int64) -> Ending? {
    guard let due = ending, now >= due.due else { return nil }
    ending = nil
    return due
  }

  /// All waiting frames, if the first has waited so long that it is to be refused.
  mutating func takeOverdue(now: Int64) -> [[UInt8]] { waiting.takeOverdue(now: now) }

  /// When to look at the waiting frames next; nil if none wait.
  func due(now: Int64) -> Int64? { waiting.isEmpty ? nil : now + Self.lookMilliseconds }

  /// Forgets all waiting frames, because the socket is closed.
  mutating func removeAll() {
    waiting = WaitingFrames()
    ending = nil
  }

  /// Whether reading must stop or resume; nil if nothing changes. After a stop, what was already read from the socket
  /// still arrives. The rest waits on the client's side.
  mutating func changeOfReading() -> Bool? {
    guard waiting.isFull == isReading else { return nil }
    isReading.toggle()
    return isReading
  }
}
