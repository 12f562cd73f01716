internal import Access
internal import Accounts
package import Basics
internal import Chat
internal import Events
internal import Relay
internal import Web

extension ErrorCode {
  /// Every code of this server, in the order of `docs/ERRORS.md`.
  package static let all: [ErrorCode] = common + access + web + accounts + chat + events + frames
}
