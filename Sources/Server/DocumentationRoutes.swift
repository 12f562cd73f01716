internal import Documents
internal import Web

/// The routes `/openapi.yaml` and `/docs`, with pages on the HTTP interface and the protocols. They are part of the
/// binary.
struct DocumentationRoutes: Sendable {
  private let answers: [String: PreparedAnswer]

  /// Without the documents, for printing the table of routes.
  static let described = DocumentationRoutes(answers: [:])

  private init(answers: [String: PreparedAnswer]) { self.answers = answers }

  /// Compresses all documents. That takes some milliseconds, so do not call this on a loop.
  init(isSecure: Bool) {
    var answers: [String: PreparedAnswer] = [:]
    for document in UnsafeBufferPointer(start: martlet_documents, count: martlet_document_count) {
      let name = String(cString: document.name)
      answers[name] = PreparedAnswer(
        contentType: Self.contentType(of: name),
        body: Array(UnsafeBufferPointer(start: document.bytes, count: document.count)),
        headers: Self.headers, isSecure: isSecure)
    }
    self.init(answers: answers)
  }

  func add(to router: inout Router) {
    router.prepared("/openapi.yaml") { answers["openapi.yaml"] }
    router.prepared("/docs") { answers["api.html"] }
    router.prepared("/docs/{page}") { (page: String) in answers[page] }
  }

  /// The pages need only their style sheet. Browsers revalidate them on each use.
  private static let headers: [(name: String, value: String)] = [
    ("cache-control", "no-cache"),
    (
      "content-security-policy",
      "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
  ]

  private static func contentType(of name: String) -> String {
    // YAML's media type was registered by RFC 9512.
    if name.hasSuffix(".yaml") { return "application/yaml; charset=utf-8" }
    return name.hasSuffix(".css") ? "text/css; charset=utf-8" : "text/html; charset=utf-8"
  }
}
