/// Who may make an account, how often, and whom accounts know.
package struct AccountConfiguration: Sendable {
  package enum SignUp: String, Sendable, CaseIterable { case open, invited, closed }

  /// Whom an account can find, and add somewhere without asking.
  package enum Directory: String, Sendable, CaseIterable { case circle, everyone }

  package var signUp: SignUp
  /// Sign-ups from one address in an hour; nil means no limit.
  package var signUpsPerHour: Int?
  package var directory: Directory
  /// The most teams that one person may have made.
  package var teamsPerPerson: Int

  package init(signUp: SignUp, signUpsPerHour: Int?, directory: Directory, teamsPerPerson: Int) {
    self.signUp = signUp
    self.signUpsPerHour = signUpsPerHour
    self.directory = directory
    self.teamsPerPerson = teamsPerPerson
  }
}
