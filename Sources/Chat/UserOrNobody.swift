internal import Basics
internal import Database

extension SQLValue {
  /// The author of an entry, or the creator of a room. Nobody (the server itself) is the nil UUID, which no person has.
  static func userOrNobody(_ user: UserID?) -> SQLValue { .uuid(user?.uuid ?? .zero) }
}

extension Row {
  /// Decodes what `SQLValue.userOrNobody` encoded.
  func userOrNobody(_ column: Int) throws -> UserID? {
    let uuid = try uuid(column)
    return uuid == .zero ? nil : UserID(uuid)
  }
}
