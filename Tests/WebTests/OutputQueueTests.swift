import Basics
import Testing

@testable import Web

@Suite struct OutputQueueTests {
  private func chunk(_ text: String, hasBegun: Bool = false) -> OutputQueue.Chunk {
    let bytes = Array(text.utf8)
    return OutputQueue.Chunk(
      content: .bytes(SharedBytes(bytes)), range: 0..<bytes.count, hasBegun: hasBegun)
  }

  private func content(_ queue: OutputQueue) -> String {
    var queue = queue
    var text = ""
    while let first = queue.first {
      switch first.content {
      case .bytes(let bytes): text += String(decoding: bytes.bytes[first.range], as: UTF8.self)
      case .encrypted(let bytes):
        text += "<" + String(decoding: bytes.bytes[first.range], as: UTF8.self) + ">"
      case .file: text += "file"
      }
      queue.removeFirst(first.range.count)
    }
    return text
  }

  @Test func `bytes leave in order, however they are taken`() {
    var queue = OutputQueue()
    for number in 0..<200 { queue.append(chunk("\(number),")) }
    let all = content(queue)
    var left = all
    while let first = queue.first {
      let count = min(2, first.range.count)
      queue.removeFirst(count)
      left.removeFirst(count)
      #expect(queue.byteCount == left.utf8.count)
      #expect(content(queue) == left)
    }
    #expect(queue.isEmpty && queue.byteCount == 0)
  }

  @Test func `what has begun stays when the rest is discarded`() {
    var queue = OutputQueue()
    queue.append(chunk("abc"))
    queue.append(chunk("def"))
    queue.removeFirst(1)
    queue.discardUnstarted()
    #expect(content(queue) == "bc" && queue.byteCount == 2)
    queue.removeFirst(2)
    queue.append(chunk("ghi"))
    queue.discardUnstarted()
    #expect(queue.isEmpty && queue.byteCount == 0)
  }

  @Test func `what TLS has encrypted is in front, and is never discarded`() {
    var queue = OutputQueue()
    queue.append(chunk("plain"))
    queue.removeFirst(2)
    queue.append(chunk("more"))
    queue.prepend(encrypted: Array("cipher".utf8))
    #expect(content(queue) == "<cipher>ainmore" && queue.byteCount == 13)
    queue.discardUnstarted()
    // The first two bytes of the frame were encrypted, so the rest of the frame must be kept.
    #expect(content(queue) == "<cipher>ain")
  }

  @Test func `a reader that takes nothing stands still, whatever waits`() {
    var progress = OutputProgress()
    progress.begin(now: 100)
    progress.sent = 1000
    #expect(progress.stalledMilliseconds(unread: 1000, isQueueEmpty: true, now: 1_100) == 1_000)
    // The peer has read some bytes since the last check.
    #expect(progress.stalledMilliseconds(unread: 900, isQueueEmpty: false, now: 2_000) == 0)
    progress.sent = 1_500
    #expect(progress.stalledMilliseconds(unread: 1_400, isQueueEmpty: false, now: 5_000) == 3_000)
    // The peer has read everything.
    #expect(progress.stalledMilliseconds(unread: 0, isQueueEmpty: true, now: 9_000) == 0)
    #expect(progress.stalledMilliseconds(unread: 0, isQueueEmpty: true, now: 99_000) == 0)
  }
}
