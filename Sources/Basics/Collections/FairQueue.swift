/// First in, first out for each key, and the keys in turn: who adds much waits behind its own, not in front of others.
package struct FairQueue<Key: Hashable, Element> {
  private var queues: [Key: Queue<Element>] = [:]
  /// The keys that have something, in the order of their turns.
  private var turns = Queue<Key>()
  package private(set) var count = 0

  package init() {}

  /// How many of a key wait.
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
