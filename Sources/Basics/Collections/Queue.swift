/// A first-in-first-out queue: an array with a moving start. Appending and removing take amortized constant time.
package struct Queue<Element> {
  private var elements: [Element?] = []
  private var head = 0

  package init() {}

  package var count: Int { elements.count - head }
  package var isEmpty: Bool { head == elements.count }
  package var first: Element? { isEmpty ? nil : elements[head] }

  package mutating func append(_ element: Element) { elements.append(element) }

  package mutating func append(contentsOf new: some Sequence<Element>) {
    for element in new { elements.append(element) }
  }

  package mutating func popFirst() -> Element? {
    guard !isEmpty else { return nil }
    let element = elements[head]
    // Release the element now; otherwise it would live until the array is next compacted.
    elements[head] = nil
    head += 1
    if head == elements.count {
      elements.removeAll(keepingCapacity: elements.capacity <= 1024)
      head = 0
    } else if head >= 1024, head * 2 >= elements.count {
      elements.removeFirst(head)
      head = 0
    }
    return element
  }

  /// Removes and returns the first elements, at most `maximum`.
  package mutating func take(atMost maximum: Int) -> [Element] {
    var taken: [Element] = []
    taken.reserveCapacity(min(maximum, count))
    while taken.count < maximum, let element = popFirst() { taken.append(element) }
    return taken
  }

  /// Removes and returns the leading elements for which `isWanted` holds, up to the first for which it does not.
  package mutating func popWhile(_ isWanted: (Element) -> Bool) -> [Element] {
    var taken: [Element] = []
    while let next = first, isWanted(next), let element = popFirst() { taken.append(element) }
    return taken
  }
}
