/// A value that is always printed as `***`, so that it does not appear in a log, an error or a crash report.
///
/// Code that needs the value calls `reveal()`, which is easy to search for.
package struct Secret<Value: Sendable>: Sendable, CustomStringConvertible,
  CustomDebugStringConvertible, CustomReflectable
{
  private let value: Value

  package init(_ value: Value) { self.value = value }

  package func reveal() -> Value { value }

  package var description: String { "***" }
  package var debugDescription: String { "***" }
  package var customMirror: Mirror { Mirror(self, children: []) }
}
