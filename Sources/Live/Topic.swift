internal import Basics
internal import Web

/// The delivery guarantee of a frame.
package enum Grade: Sendable {
  /// It arrives, or its connection is closed. Frames of this grade keep their order.
  case durable
  /// It is dropped for connections with much to read already (`Hub.droppableQueueBytes`).
  case droppable
  /// The newest state of something. Of several that wait, only the last one is sent. It has no defined position among
  /// frames of other grades.
  case latest
}

/// The connections of one loop that subscribe to the same frames, and the frames on their way to them.
///
/// The frames are gathered in one batch for all subscribers. A flush takes the batch and iterates over the subscribers.
/// For a large audience it pauses on the way and continues in the next turn; what is published meanwhile goes into the
/// next batch. A subscriber that was sent a part individually has an offset in its row, so that its own frames keep
/// their position among the topic's.
package final class Topic {
  /// One subscriber. Rows are sorted by `key`, so that a row is found by binary search, without an index.
  struct Row {
    /// The connection's key (`Hub.Connection.key`).
    let key: UInt32
    /// The offset up to which the subscriber has been sent the topic's bytes: in the batch that is being gathered,
    /// or, for a row that the flush has not reached, in the batch being sent followed by the gathered one.
    var from: UInt32
    /// The connection's outlet. Unmanaged: the hub retains connections as long as they are in topics.
    let outlet: Unmanaged<Outlet>
  }

  private(set) var rows: [Row] = []
  /// Published bytes that no flush has taken yet.
  private(set) var gathered: [UInt8] = []
  /// The ranges of `gathered` that may be dropped.
  private var droppable: [Range<Int>] = []
  /// The newest frame of grade `latest` that no flush has taken yet.
  private(set) var latest: [UInt8]?
  /// What a flush is sending, or nil.
  private(set) var sending: Sending?
  /// The row that the flush has reached.
  private(set) var cursor = 0

  var isDirty = false
  /// When a flush first saw the frames that wait now, by `Monotonic.nanoseconds`; nil before that.
  var pendingSince: UInt64?
  /// Whether the topic waits for more frames, as of the last check.
  var isHeld = false
  private let isExpectingMore: () -> Bool

  /// A batch that is being sent.
  struct Sending {
    fileprivate(set) var bytes: [UInt8]
    let droppable: [Range<Int>]
    /// Where the frame of grade `latest` begins; the end of the bytes if there is none.
    let latestStart: Int
    var hasLatest: Bool { latestStart < bytes.count }
    /// The same bytes as a reference, for connections that keep a part until their reader has taken it.
    private var kept: SharedBytes?

    init(bytes: [UInt8], droppable: [Range<Int>], latestStart: Int) {
      self.bytes = bytes
      self.droppable = droppable
      self.latestStart = latestStart
    }

    /// Returns the parts of a range that must be sent, without the droppable frames that lie in it, and how many frames
    /// are left out.
    func essential(_ range: Range<Int>) -> (ranges: [Range<Int>], dropped: Int) {
      var ranges: [Range<Int>] = []
      var dropped = 0
      var position = range.lowerBound
      for frame in droppable
      where frame.lowerBound >= position && frame.upperBound <= range.upperBound {
        if position < frame.lowerBound { ranges.append(position..<frame.lowerBound) }
        position = frame.upperBound
        dropped += 1
      }
      if position < range.upperBound { ranges.append(position..<range.upperBound) }
      return (ranges, dropped)
    }

    mutating func shared() -> SharedBytes {
      if let kept { return kept }
      let new = SharedBytes(bytes)
      kept = new
      return new
    }

    /// Returns the batch's buffer, or nil if a connection keeps a part of the batch.
    mutating func takeMemory() -> [UInt8]? {
      guard kept == nil else { return nil }
      var memory: [UInt8] = []
      swap(&memory, &bytes)
      return memory
    }
  }

  /// `isExpectingMore` tells whether more frames are on their way. A flush may wait a moment for them.
  package init(isExpectingMore: @escaping () -> Bool = { false }) {
    self.isExpectingMore = isExpectingMore
  }

  package var isEmpty: Bool { rows.isEmpty }
  package var count: Int { rows.count }

  /// Whether the frames should wait for more. `longest` is in nanoseconds.
  func waits(now: UInt64, longest: UInt64) -> Bool {
    guard sending == nil else { return false }
    let since = pendingSince ?? now
    pendingSince = since
    return now < since &+ longest && isExpectingMore()
  }

  // MARK: Subscribers

  /// The position of a connection's row, or where it would have to be inserted.
  private func search(_ key: UInt32) -> (position: Int, isFound: Bool) {
    var low = 0
    var high = rows.count
    while low < high {
      let middle = (low + high) / 2
      if rows[middle].key < key { low = middle + 1 } else { high = middle }
    }
    return (low, low < rows.count && rows[low].key == key)
  }

  func position(of key: UInt32) -> Int? {
    let found = search(key)
    return found.isFound ? found.position : nil
  }

  /// Adds a subscriber. It is sent what is published from now on, and the newest state if no flush has taken that yet.
  /// Returns false if it is subscribed already.
  func insert(_ key: UInt32, _ outlet: Outlet) -> Bool {
    let (position, isFound) = search(key)
    if isFound { return false }
    rows.insert(Row(key: key, from: 0, outlet: .passUnretained(outlet)), at: position)
    if position < cursor { cursor += 1 }
    markCaughtUp(position)
    return true
  }

  func remove(at position: Int) {
    rows.remove(at: position)
    if position < cursor { cursor -= 1 }
    if rows.isEmpty { drop() }
  }

  /// Removes all subscribers and returns their keys.
  func removeAll() -> [UInt32] {
    let keys = rows.map(\.key)
    rows = []
    drop()
    return keys
  }

  /// Drops what waits, because there is no subscriber.
  private func drop() {
    gathered = []
    droppable = []
    latest = nil
    sending = nil
    cursor = 0
  }

  /// Calls `body` with what the subscriber has not been sent, in at most two parts. A newest state (`latest`) that no
  /// flush has taken is not included.
  func withRest(of position: Int, _ body: (ArraySlice<UInt8>) -> Void) {
    var from = Int(rows[position].from)
    if let sending, position >= cursor {
      if from < sending.bytes.count { body(sending.bytes[from...]) }
      from = max(0, from - sending.bytes.count)
    }
    if from < gathered.count { body(gathered[from...]) }
  }

  /// Notes that the subscriber has been sent everything so far.
  func markCaughtUp(_ position: Int) {
    let ahead = position >= cursor ? sending?.bytes.count ?? 0 : 0
    rows[position].from = UInt32(clamping: ahead + gathered.count)
  }

  // MARK: Frames

  /// Adds a frame to the gathered batch. `memory` provides a buffer if the batch begins with this frame.
  func append(_ frame: [UInt8], _ grade: Grade, memory: () -> [UInt8]) {
    switch grade {
    case .durable: break
    case .droppable: droppable.append(gathered.count..<(gathered.count + frame.count))
    case .latest:
      latest = frame
      return
    }
    if gathered.isEmpty { gathered = memory() }
    gathered.append(contentsOf: frame)
  }

  /// Whether a flush has anything to take or to finish.
  var hasFrames: Bool { sending != nil || !gathered.isEmpty || latest != nil }

  /// Takes what was gathered, unless a flush is under way.
  func startSending() {
    guard sending == nil else { return }
    var bytes: [UInt8] = []
    swap(&bytes, &gathered)
    let start = bytes.count
    if let latest { bytes += latest }
    sending = Sending(bytes: bytes, droppable: droppable, latestStart: start)
    latest = nil
    droppable = []
    cursor = 0
    pendingSince = nil
  }

  /// Iterates over the subscribers that the flush has not reached, and calls `body` with what each has not been sent.
  /// If `body` returns false, the iteration stops and continues with that subscriber next time.
  ///
  /// Hot path: touches only the rows.
  func advance(_ body: (_ row: Row, _ bytes: UnsafeRawBufferPointer, _ from: Int) -> Bool) {
    guard let sending else { return }
    // A newer state waits, so the older one need not be sent.
    let end = latest == nil ? sending.bytes.count : sending.latestStart
    var position = cursor
    sending.bytes.withUnsafeBytes { bytes in
      rows.withUnsafeMutableBufferPointer { rows in
        let present = UnsafeRawBufferPointer(rebasing: bytes[..<end])
        while position < rows.count {
          let from = Int(rows[position].from)
          if from < end {
            guard body(rows[position], present, from) else { return }
            rows[position].from = 0
          } else {
            rows[position].from = UInt32(max(0, from - bytes.count))
          }
          position += 1
        }
      }
    }
    cursor = position
  }

  /// Whether the flush has reached all subscribers.
  var isSent: Bool { cursor == rows.count }

  /// Returns the bytes that are being sent as a reference, for a connection that keeps a part of them; nil if no flush
  /// is under way.
  func sharedSending() -> SharedBytes? { sending?.shared() }

  /// Ends the flush after it has reached all subscribers. Returns the batch's buffer, or nil if a connection keeps a
  /// part of the batch.
  func finishSending() -> [UInt8]? {
    var sent = sending
    sending = nil
    cursor = 0
    return sent?.takeMemory()
  }
}
