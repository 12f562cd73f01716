/// A queue with one FIFO per key, served round robin, so that a key with many elements delays only itself.
package struct FairQueue<Key: Hashable, Element> {
  private var queues: [Key: Queue<Element>] = [:]
  /// The keys that have elements, in the order in which they are served next.
  private var turns = Queue<Key>()
  package private(set) var count = 0

  package init() {}

  /// The number of elements of this key.
  package func count(of key: Key) -> Int { queues[key]?.count ?? 0 }

  package mutating func append(_ element: Element, of key: Key) {
    if queues[key] == nil { turns.append(key) }
    queues[key, default: Queue()].append(element)
    count += 1
  }

  package mutating func popFirst() -> Element? {
    guard let key = turns.popFirst(), let element = queues[key]?.popFirst() else { return nil }
    count -= 1
    if queues[key]?.isEmpty == true { queues[key] = nil } else { turns.append(key) }
    return element
  }
}
