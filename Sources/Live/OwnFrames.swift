/// Frames that wait for one connection alone, with the owner of each part. An owner is a topic. Its parts can be
/// discarded as long as they wait.
struct OwnFrames {
  private(set) var bytes: [UInt8] = []
  private var parts: [(owner: ObjectIdentifier, range: Range<Int>)] = []

  /// A larger buffer is released instead of being kept for another connection.
  private static let keptBytes = 16 * 1024

  var isWorthKeeping: Bool { bytes.capacity > 0 && bytes.capacity <= Self.keptBytes }

  mutating func append(_ frames: some Collection<UInt8>, of owner: ObjectIdentifier?) {
    let begin = bytes.count
    bytes.append(contentsOf: frames)
    if let owner, bytes.count > begin { parts.append((owner, begin..<bytes.count)) }
  }

  /// Puts frames before all that wait.
  mutating func prepend(_ frames: [UInt8]) {
    bytes.insert(contentsOf: frames, at: 0)
    for index in parts.indices {
      let range = parts[index].range
      parts[index].range = (range.lowerBound + frames.count)..<(range.upperBound + frames.count)
    }
  }

  /// Discards the parts of this owner.
  mutating func discard(_ owner: ObjectIdentifier) {
    guard parts.contains(where: { $0.owner == owner }) else { return }
    var kept = OwnFrames()
    var position = 0
    for part in parts {
      kept.bytes += bytes[position..<part.range.lowerBound]
      position = part.range.upperBound
      if part.owner != owner { kept.append(bytes[part.range], of: part.owner) }
    }
    kept.bytes += bytes[position...]
    self = kept
  }

  /// Keeps the buffer's capacity.
  mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    parts.removeAll(keepingCapacity: true)
  }
}
