internal import Access
package import Basics

/// Writes a line for each act that changes who may do what: who did it, from where, in which request.
package struct Audit: Sendable {
  private let log: Log

  package init(_ log: Log) { self.log = log }

  /// Call it when the act is done. `fields` say to what it was done.
  package func record(
    _ act: StaticString, _ request: Request, _ fields: KeyValuePairs<StaticString, Log.Value> = [:]
  ) {
    var line: [(key: StaticString, value: Log.Value)] = [
      ("act", .string("\(act)")), ("request_id", .string(request.id)),
      ("address", .init(request.address)),
    ]
    if let caller = request.authenticated { line.append(("by", .init(caller.userID))) }
    line += fields
    log.record(.notice, "audit", line)
  }
}
