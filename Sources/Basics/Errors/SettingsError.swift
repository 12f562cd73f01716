/// Why the settings do not allow a start; one sentence for the operator.
package struct SettingsError: Error, CustomStringConvertible, Equatable {
  package let description: String

  package init(_ description: String) { self.description = description }
}
