/// The reason why the server cannot start with its settings: one sentence for the operator.
package struct SettingsError: Error, CustomStringConvertible, Equatable {
  package let description: String

  package init(_ description: String) { self.description = description }
}
