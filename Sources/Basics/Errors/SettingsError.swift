/// Why the server cannot start with these settings: one sentence for the operator.
package struct SettingsError: Error, CustomStringConvertible, Equatable {
  package let description: String

  package init(_ description: String) { self.description = description }
}
