import Basics
import Testing

@Suite struct BoundedCacheTests {
  @Test func `what was not used for two ages is handed over, what was used stays`() {
    var cache = BoundedCache<Int, String>(capacity: 100)
    for number in 0..<10 { cache.insert("\(number)", for: number) }
    var dropped = cache.age()
    #expect(dropped.isEmpty)
    let used = cache.value(for: 3)
    #expect(used == "3")
    dropped = cache.age()
    #expect(dropped.keys.sorted() == [0, 1, 2, 4, 5, 6, 7, 8, 9])
    let kept = cache.value(for: 3)
    #expect(kept == "3")
    dropped = cache.age()
    #expect(dropped.isEmpty)
    _ = cache.age()
    let gone = cache.value(for: 3)
    #expect(gone == nil)
  }

  @Test func `it never holds more than its capacity`() {
    var cache = BoundedCache<Int, Int>(capacity: 10)
    for number in 0..<1000 {
      cache.insert(number, for: number)
      let last = cache.value(for: number)
      #expect(last == number)
    }
    let old = cache.age()
    let young = cache.age()
    #expect(old.count + young.count <= 10)
  }
}
