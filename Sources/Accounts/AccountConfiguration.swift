/// Who may make an account.
package struct AccountConfiguration: Sendable {
  package enum SignUp: String, Sendable, CaseIterable { case open, invited, closed }

  package var signUp: SignUp
  /// Sign-ups of one address; nil: any number.
  package var signUpsPerHour: Int?

  package init(signUp: SignUp, signUpsPerHour: Int?) {
    self.signUp = signUp
    self.signUpsPerHour = signUpsPerHour
  }
}
