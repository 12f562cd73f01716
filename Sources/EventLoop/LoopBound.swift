/// Carries a value that belongs to a loop through code that must be `Sendable`. Reading it anywhere
/// but on that loop traps.
package struct LoopBound<Value>: @unchecked Sendable {
  // Unchecked: `value` is reached on one thread only, and the precondition proves it.
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

  /// Starts a task whose every step runs on this loop. Called there, the first runs after this has returned.
  @discardableResult
  package func task(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
    Task(executorPreference: self) { await body() }
  }

  /// As `task`, on the loop only, but what the task does before it first waits is done when this returns: for who answers
  /// many short requests, and is ready to be called back at once.
  @discardableResult
  package func immediateTask(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
    preconditionOnLoop()
    guard #available(macOS 26, *) else { return task(body) }
    return Task.immediate(executorPreference: self) { await body() }
  }
}
