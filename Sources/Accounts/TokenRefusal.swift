/// Why a credential is not valid, without the token's content. For the log; clients are told only that it is not
/// valid.
enum TokenRefusal: String, Error, CustomStringConvertible {
  case notSigned = "it is no token of a kind that is accepted here"
  case foreignTokensOff = "tokens of another system are not configured"
  case wrongIssuer = "its issuer is not the one that is configured"
  case wrongAudience = "its audience is not the one that is configured"
  case noExpiry = "it has no expiry that can be read"
  case expired = "it has expired"
  case notYetValid = "it is not valid yet"
  case livesTooLong = "it expires later than any token that this server makes"
  case noUser = "userUUID is missing or no UUID"
  case badEntity = "entityUUID is no UUID"
  case badLevel = "levelOnEntity is no number from 0 to 2^53"
  case missingClaim = "a claim is missing or wrong"
  case namesOurs = "userUUID or entityUUID is an id of this server's own"
  case sessionEnded = "its session has ended"
  case unknownSession = "there is no such session, or it has ended"
  case badCookie = "the cookie was not made by this server"

  var description: String { rawValue }
}
