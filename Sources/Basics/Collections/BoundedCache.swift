/// A cache of about `capacity` recently used entries at most.
///
/// Eviction approximates least recently used, without a list in order of use. There are two generations: when the
/// younger one is full, the older one is dropped. An entry that is used moves to the younger generation, so it survives
/// until at least `capacity / 2` other entries were inserted or moved.
///
/// Public and inlinable, unlike everything else in this target: otherwise it would not be specialized in other targets,
/// and a request looks into up to three of these caches.
public struct BoundedCache<Key: Hashable, Value> {
  @usableFromInline var young: [Key: Value] = [:]
  @usableFromInline var old: [Key: Value] = [:]
  @usableFromInline let generation: Int

  @inlinable public init(capacity: Int) { generation = max(1, capacity / 2) }

  /// Returns the value for a key, or nil, and moves the entry to the younger generation.
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

  /// Drops the older generation and returns its entries. The younger generation becomes the older one.
  ///
  /// If the cache was not full meanwhile, the dropped entries are those that were not used since the last call. Calling
  /// this regularly bounds how long an unused entry is kept. Only the result holds the dropped entries, so the caller
  /// can release them outside its lock.
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
