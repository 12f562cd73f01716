/// Checks a connection URL before libpq parses it. libpq repeats what it cannot parse in its errors, and a password
/// with an unescaped `/` or `@` would be taken for something else and shown.
///
/// https://www.postgresql.org/docs/15/libpq-connect.html, "Connection URIs"
enum PostgresURL {
  static func isPlausible(_ text: String) -> Bool {
    guard
      let scheme = ["postgres://", "postgresql://"].first(where: { text.hasPrefix($0) })
    else { return false }
    let authority = text.dropFirst(scheme.count).prefix { $0 != "/" && $0 != "?" }
    let parts = authority.split(separator: "@", omittingEmptySubsequences: false)
    guard parts.count <= 2, let hosts = parts.last else { return false }
    return hosts.split(separator: ",", omittingEmptySubsequences: false).allSatisfy(isHost)
  }

  /// Accepts `name`, `name:port` and `[address]:port`.
  private static func isHost(_ text: Substring) -> Bool {
    var rest = text
    if text.hasPrefix("[") {
      guard let end = text.firstIndex(of: "]") else { return false }
      rest = text[text.index(after: end)...]
    } else {
      rest = text.drop { $0 != ":" }
    }
    return rest.isEmpty || (rest.hasPrefix(":") && rest.dropFirst().allSatisfy(\.isNumber))
  }
}
