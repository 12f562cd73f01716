internal import Access
package import Basics

/// Logs every action that changes what somebody may do: who did it, from where, and in which request.
package struct Audit: Sendable {
  private let log: Log

  package init(_ log: Log) { self.log = log }

  /// Call this when the action is done. `fields` name what it was done to.
  package func record(
    _ act: StaticString, _ request: AuthenticatedRequest,
    _ fields: KeyValuePairs<StaticString, Log.Value> = [:]
  ) {
    record(act, request.request, by: request.caller, Array(fields))
  }

  /// The same for actions without a known caller, such as signing up and logging in.
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
