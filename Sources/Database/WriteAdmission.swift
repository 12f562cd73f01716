internal import Basics
internal import Synchronization

/// Bounds the transactions that wait to be written, in bytes and separately for each class, so that a flood of
/// uploads or of small changes never keeps a ban from being written.
final class WriteAdmission: Sendable {
  private struct Waiting {
    var essential = 0
    var ordinary = 0
    var bulk = 0
  }
  private let waiting = Mutex(Waiting())

  /// The most bytes that may wait in each class.
  static let maximumBytes = 64 * 1024 * 1024
  /// The cost of a transaction of small rows: its task, its closure, and the largest of its texts.
  static let essentialBytes = 4 * 1024
  static let ordinaryBytes = 16 * 1024

  /// Reserves the bytes of a transaction. Returns false if too much of its class is waiting already. If it returns
  /// true, the caller must call `release` when the transaction has ended.
  func admit(_ writeClass: WriteClass) -> Bool {
    waiting.withLock { waiting in
      switch writeClass {
      case .essential: Self.add(Self.essentialBytes, to: &waiting.essential)
      case .ordinary: Self.add(Self.ordinaryBytes, to: &waiting.ordinary)
      case .bulk(let bytes): Self.add(max(0, bytes), to: &waiting.bulk)
      }
    }
  }

  /// Releases what `admit` reserved.
  func release(_ writeClass: WriteClass) {
    waiting.withLock { waiting in
      switch writeClass {
      case .essential: waiting.essential -= Self.essentialBytes
      case .ordinary: waiting.ordinary -= Self.ordinaryBytes
      case .bulk(let bytes): waiting.bulk -= max(0, bytes)
      }
    }
  }

  private static func add(_ bytes: Int, to sum: inout Int) -> Bool {
    guard bytes <= maximumBytes, sum <= maximumBytes - bytes else { return false }
    sum += bytes
    return true
  }
}
