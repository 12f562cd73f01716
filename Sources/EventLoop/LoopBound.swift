/// Carries a value that belongs to a loop through code that must be `Sendable`. Reading the value anywhere but on
/// that loop traps.
package struct LoopBound<Value>: @unchecked Sendable {
  // Unchecked: `value` is read on one thread only, which the precondition enforces.
  package let loop: Loop
  private let stored: Value

  /// On the loop only.
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

  /// Starts a task of which every step runs on this loop. If called on the loop, the first step runs after this has
  /// returned.
  @discardableResult
  package func task(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
    Task(executorPreference: self) { await body() }
  }

  /// The same as `task`, on the loop only, but everything that the task does before its first suspension is done when
  /// this returns. For callers that answer many short requests and can be called back at once.
  @discardableResult
  package func immediateTask(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
    preconditionOnLoop()
    guard #available(macOS 26, *) else { return task(body) }
    return Task.immediate(executorPreference: self) { await body() }
  }
}
