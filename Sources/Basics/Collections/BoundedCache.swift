/// What was used lately, at most about `capacity` entries, without a list of who came when: two
/// generations, of which the older is dropped when the younger is full. An entry that is used moves to
/// the younger one, so whatever was used among the last `capacity / 2` others is still there.
///
/// Public and inlinable, as nothing else here: what is neither is not specialized in other targets, and a request looks
/// into up to three of these.
public struct BoundedCache<Key: Hashable, Value> {
  @usableFromInline var young: [Key: Value] = [:]
  @usableFromInline var old: [Key: Value] = [:]
  @usableFromInline let generation: Int

  @inlinable public init(capacity: Int) { generation = max(1, capacity / 2) }

  /// The value, which is among the youngest from here on.
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

  /// Makes the younger generation the older one, and hands over what was not used since the last time that
  /// happened: called now and then, it bounds how long something unused is kept. Its memory goes with the result.
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
