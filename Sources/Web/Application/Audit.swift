internal import Access
package import Basics

/// Writes a line for each act that changes who may do what: who did it, from where, in which request.
package struct Audit: Sendable {
  private let log: Log

  package init(_ log: Log) { self.log = log }

  /// Call it when the act is done. `fields` say to what it was done.
  package func record(
    _ act: StaticString, _ request: AuthenticatedRequest,
    _ fields: KeyValuePairs<StaticString, Log.Value> = [:]
  ) {
    record(act, request.request, by: request.caller, Array(fields))
  }

  /// As above, for acts of nobody who is known: signing up, logging in.
  package func record(
    _ act: StaticString, _ request: Request, _ fields: KeyValuePairs<StaticString, Log.Value> = [:]
  ) {
    record(act, request, by: nil, Array(fields))
  }

  private func record(
    _ act: StaticString, _ request: Request, by caller: Caller?,
    _ fields: [(key: StaticString, value: Log.Value)]
  ) {
    var line: [(key: StaticString, value: Log.Value)] = [
      ("act", .string("\(act)")), ("request_id", .string(request.id)),
      ("address", .init(request.address)),
    ]
    if let caller { line.append(("by", .init(caller.userID))) }
    line += fields
    log.record(.notice, "audit", line)
  }
}
