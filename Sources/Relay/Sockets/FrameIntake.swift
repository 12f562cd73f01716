internal import Basics

/// A socket's frames on their way in: which is served now, which waits, when the client is to stop
/// sending. A value; the clock is the caller's.
struct FrameIntake {
  private var allowance: FrameAllowance
  private var waiting = WaitingFrames()
  private var ending: Ending?
  private var isReading = true

  /// A frame that ends the connection: nil is a text that is not one JSON object.
  struct Ending {
    let object: JSONObject?
    /// When it is served, whatever it waits for.
    fileprivate let due: Int64
  }

  /// How often frames that wait are looked at, where nobody says that they may be served.
  private static let lookMilliseconds: Int64 = 250
  /// How long a frame that ends the connection waits for those before it.
  private static let endMilliseconds: Int64 = 500

  init(_ allowance: FrameAllowance) { self.allowance = allowance }

  // MARK: Rates

  /// Whether another frame may be served, as `FrameAllowance.take`.
  mutating func take(now: UInt64, ofUser: () -> Bool) -> Bool {
    allowance.take(now: now, ofUser: ofUser)
  }

  /// How many frames in a row were refused.
  var refusals: Int { allowance.refusals }

  mutating func charge(_ frames: Int) { allowance.charge(frames) }

  // MARK: Waiting

  /// Whether frames wait: one that arrives now stands behind them.
  var hasWaiting: Bool { !waiting.isEmpty }

  /// Keeps a frame until its turn. `now` is `Monotonic.milliseconds`.
  mutating func wait(_ text: UnsafeRawBufferPointer, now: Int64) { waiting.add(text, now: now) }

  /// A frame that waits ends the connection. It is served when its turn comes, and at the latest when
  /// `takeEnding` gives it.
  mutating func willEnd(_ object: JSONObject?, now: Int64) {
    if ending == nil { ending = Ending(object: object, due: now + Self.endMilliseconds) }
  }

  /// The frame whose turn has come.
  mutating func next() -> [UInt8]? { waiting.next() }

  /// A frame that ends the connection and has waited long enough.
  mutating func takeEnding(now: Int64) -> Ending? {
    guard let due = ending, now >= due.due else { return nil }
    ending = nil
    return due
  }

  /// All that wait, where the first has waited so long for this node that it is to be refused.
  mutating func takeOverdue(now: Int64) -> [[UInt8]] { waiting.takeOverdue(now: now) }

  /// When those that wait are to be looked at next; nil where none does.
  func due(now: Int64) -> Int64? { waiting.isEmpty ? nil : now + Self.lookMilliseconds }

  /// Forgets all that wait: the socket is closed.
  mutating func removeAll() {
    waiting = WaitingFrames()
    ending = nil
  }

  /// Whether reading is to stop or to go on, where that has changed: what was read from the socket
  /// already still comes; the rest waits on the client's side.
  mutating func changeOfReading() -> Bool? {
    guard waiting.isFull == isReading else { return nil }
    isReading.toggle()
    return isReading
  }
}
