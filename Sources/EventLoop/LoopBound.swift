/// A wrapper that carries a value that belongs to a loop through code that must be `Sendable`. Reading the value
/// anywhere but on that loop traps.
package struct LoopBound<Value>: @unchecked Sendable {
  // Unchecked: `value` is read on one thread only, which the precondition enforces.
  package let loop: Loop
  private let stored: Value

  /// Wraps a value. On the loop only.
  package init(_ value: Value, on loop: Loop) {
    loop.preconditionOnLoop()
    self.loop = loop
    stored = value
  }

  package var value: Value {
    loop.preconditionOnLoop()
    return stored
  }
}

extension Loop {
  /// Runs `body` on the loop with a value that belongs to it.
  package func execute<Value>(
    with bound: LoopBound<Value>, _ body: @escaping @Sendable (Value) -> Void
  ) {
    execute { body(bound.value) }
  }

  /// Starts a task that runs on this loop from beginning to end. If this is called on the loop, the task begins after
  /// this has returned.
  @discardableResult
  package func task(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
    Task(executorPreference: self) { await body() }
  }

  /// Starts a task like `task`, but runs it up to its first suspension before this returns. For callers with many
  /// short tasks that can be called back before this returns. On the loop only. (On macOS before 26 this is `task`.)
  @discardableResult
  package func immediateTask(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
    preconditionOnLoop()
    guard #available(macOS 26, *) else { return task(body) }
    return Task.immediate(executorPreference: self) { await body() }
  }
}
