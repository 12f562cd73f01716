internal import Basics
internal import Web

/// How much it matters that a frame arrives.
package enum Grade: Sendable {
  /// Arrives, or its connection is closed. Frames of this grade keep their order.
  case durable
  /// Left out for connections with much to read already (`Hub.droppableQueueBytes`).
  case droppable
  /// The newest state of something: of those that have not left, only the last one does. Without a place
  /// among frames of other grades.
  case latest
}

/// Something that many connections hear.
///
/// Its frames are gathered in a batch, once for all. A flush takes the batch and goes through the
/// subscribers; where there are many it stops on the way, and the next turn goes on. What is published
/// meanwhile is gathered in the next batch. A subscriber that was sent a part by itself has an offset in
/// its row: frames of its own keep their place among those of the topic.
package final class Topic {
  /// One subscriber. Rows are in ascending order of `key`, so that one is found without a table beside.
  struct Row {
    /// The connection's number (`Hub.Connection.key`).
    let key: UInt32
    /// Up to where it has been sent what this topic has: in the batch that is gathered, or, for a row that
    /// the flush has not reached, in the batch that is sent and the one behind it.
    var from: UInt32
    /// The connection's. Unmanaged: the hub keeps connections as long as they are in topics.
    let outlet: Unmanaged<Outlet>
  }

  private(set) var rows: [Row] = []
  /// What is published and no flush has taken yet.
  private(set) var gathered: [UInt8] = []
  /// The ranges of `gathered` that may be left out.
  private var droppable: [Range<Int>] = []
  /// The newest frame of grade `latest` that no flush has taken yet.
  private(set) var latest: [UInt8]?
  /// What a flush is sending; nil while there is none.
  private(set) var sending: Sending?
  /// Where in `rows` the flush stands.
  private(set) var cursor = 0

  var isDirty = false
  /// When the hub first saw what it has, by `Monotonic.nanoseconds`; nil before.
  var pendingSince: UInt64?
  /// Whether it waits for more, as the last look found.
  var isHeld = false
  private let isExpectingMore: () -> Bool

  /// A batch on its way.
  struct Sending {
    fileprivate(set) var bytes: [UInt8]
    let droppable: [Range<Int>]
    /// Where its frame of grade `latest` begins; its end where it has none.
    let latestStart: Int
    var hasLatest: Bool { latestStart < bytes.count }
    /// The same, for those who keep a part of it until their reader has taken it.
    private var kept: SharedBytes?

    init(bytes: [UInt8], droppable: [Range<Int>], latestStart: Int) {
      self.bytes = bytes
      self.droppable = droppable
      self.latestStart = latestStart
    }

    /// What must be sent of a range, without the droppable frames that begin in it; and how many those are.
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

    /// Its memory, where nobody keeps a part of it.
    mutating func takeMemory() -> [UInt8]? {
      guard kept == nil else { return nil }
      var memory: [UInt8] = []
      swap(&memory, &bytes)
      return memory
    }
  }

  /// `isExpectingMore` tells whether more is on its way, for which a flush may wait a moment.
  package init(isExpectingMore: @escaping () -> Bool = { false }) {
    self.isExpectingMore = isExpectingMore
  }

  package var isEmpty: Bool { rows.isEmpty }
  package var count: Int { rows.count }

  /// Whether what it has is to wait for more. `longest` in nanoseconds.
  func waits(now: UInt64, longest: UInt64) -> Bool {
    guard sending == nil else { return false }
    let since = pendingSince ?? now
    pendingSince = since
    return now < since &+ longest && isExpectingMore()
  }

  // MARK: Subscribers

  /// Where the row of a connection is, or would be.
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

  /// Adds a subscriber, which hears what is published from now on, and the newest state where that has not
  /// left. False where it is there already.
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

  /// Removes every subscriber; returns their keys.
  func removeAll() -> [UInt32] {
    let keys = rows.map(\.key)
    rows = []
    drop()
    return keys
  }

  /// Nobody hears what there is.
  private func drop() {
    gathered = []
    droppable = []
    latest = nil
    sending = nil
    cursor = 0
  }

  /// Calls `body` with what the subscriber has not been sent, in one or two parts.
  func withRest(of position: Int, _ body: (ArraySlice<UInt8>) -> Void) {
    var from = Int(rows[position].from)
    if let sending, position >= cursor {
      if from < sending.bytes.count { body(sending.bytes[from...]) }
      from = max(0, from - sending.bytes.count)
    }
    if from < gathered.count { body(gathered[from...]) }
  }

  /// The subscriber has all of what there is so far.
  func markCaughtUp(_ position: Int) {
    let ahead = position >= cursor ? sending?.bytes.count ?? 0 : 0
    rows[position].from = UInt32(clamping: ahead + gathered.count)
  }

  // MARK: Frames

  /// `memory` is for a batch that begins with this frame.
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

  /// Whether there is something that a flush has to take or to finish.
  var hasFrames: Bool { sending != nil || !gathered.isEmpty || latest != nil }

  /// Takes what was gathered, unless a flush is under way already.
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

  /// Goes through the subscribers that the flush has not reached, calling `body` with what each has not been
  /// sent; until `body` returns false, which leaves that subscriber for the next time.
  ///
  /// Hot path: touches the rows only.
  func advance(_ body: (_ row: Row, _ bytes: UnsafeRawBufferPointer, _ from: Int) -> Bool) {
    guard let sending else { return }
    // A newer state is waiting: the older one need not leave any more.
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

  /// Whether the flush has reached everyone.
  var isSent: Bool { cursor == rows.count }

  /// Keeps a part of what is being sent for a reader.
  func sharedSending() -> SharedBytes? { sending?.shared() }

  /// The flush has reached everyone; its memory leaves with it. Returns the memory where nobody keeps a
  /// part of it.
  func finishSending() -> [UInt8]? {
    var sent = sending
    sending = nil
    cursor = 0
    return sent?.takeMemory()
  }
}
