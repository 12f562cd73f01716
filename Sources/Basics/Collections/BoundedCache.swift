/// A cache of recently used entries, about `capacity` at most. Instead of a list in order of use it has two
/// generations: when the younger one is full, the older one is dropped. An entry that is used moves to the younger
/// generation, so an entry survives at least `capacity / 2` other insertions.
///
/// Public and inlinable, unlike everything else here: otherwise it would not be specialized in other targets, and a
/// request looks into up to three of these.
public struct BoundedCache<Key: Hashable, Value> {
  @usableFromInline var young: [Key: Value] = [:]
  @usableFromInline var old: [Key: Value] = [:]
  @usableFromInline let generation: Int

  @inlinable public init(capacity: Int) { generation = max(1, capacity / 2) }

  /// The value for a key. Using it moves it to the younger generation.
  @inlinable public mutating func value(for key: Key) -> Value? {
    if let value = young[key] { return value }
    guard let value = old.removeValue(forKey: key) else { return nil }
    insert(value, for: key)
    return value
  }

  @inlinable public mutating func insert(_ value: Value, for key: Key) {
    old[key] = nil
    if young.count >= generation, young[key] == nil {
      old = young
      young = [:]
    }
    young[key] = value
  }

  /// Makes the younger generation the older one, and returns the entries that were not used since the last call.
  /// Calling this regularly bounds how long an unused entry is kept. The memory of the dropped entries belongs to the
  /// result.
  @inlinable public mutating func age() -> [Key: Value] {
    defer {
      old = young
      young = [:]
    }
    return old
  }

  @discardableResult
  @inlinable public mutating func remove(_ key: Key) -> Value? {
    young.removeValue(forKey: key) ?? old.removeValue(forKey: key)
  }

  @inlinable public mutating func removeAll(where isUnwanted: (Value) -> Bool) {
    young = young.filter { !isUnwanted($0.value) }
    old = old.filter { !isUnwanted($0.value) }
  }
}
