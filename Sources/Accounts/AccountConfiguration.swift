/// Who may make an account, and how often.
package struct AccountConfiguration: Sendable {
  package enum SignUp: String, Sendable, CaseIterable { case open, invited, closed }

  package var signUp: SignUp
  /// Sign-ups from one address in an hour; nil means no limit.
  package var signUpsPerHour: Int?

  package init(signUp: SignUp, signUpsPerHour: Int?) {
    self.signUp = signUp
    self.signUpsPerHour = signUpsPerHour
  }
}
