internal import Basics

/// The files of the web application, read once and served from memory.
///
/// A name with a hash (`app.3f9a1c20.js`) always has the same content, so browsers cache it for good; they revalidate
/// the others. Files that end in `.br` and `.gz` are precompressed forms of the file beside them.
package struct StaticFiles: Sendable {
  private let answers: [String: PreparedAnswer]

  package static let none = StaticFiles(answers: [:])

  private init(answers: [String: PreparedAnswer]) { self.answers = answers }

  /// The number of files.
  package var count: Int { answers.count }

  /// Reads a folder with its subfolders. Blocks, and compresses what is not precompressed, so call it at the start
  /// only. Throws `SystemError`.
  package init(folder: String, isSecure: Bool) throws {
    var answers: [String: PreparedAnswer] = [:]
    let paths = Set(try FileSystem.filesBelow(folder))
    func read(_ path: String) throws -> [UInt8]? {
      paths.contains(path) ? try FileSystem.read("\(folder)/\(path)") : nil
    }
    for path in paths where !Self.isCompressed(path, among: paths) {
      answers[path] = PreparedAnswer(
        contentType: Self.contentType(of: path), body: try read(path) ?? [],
        headers: [("cache-control", Self.isHashed(path) ? Self.immutable : "no-cache")],
        isSecure: isSecure,
        compressed: PreparedAnswer.Compressed(
          gzip: try read(path + ".gz"), brotli: try read(path + ".br")))
    }
    self.answers = answers
  }

  private static func isCompressed(_ path: String, among paths: Set<String>) -> Bool {
    [".gz", ".br"].contains { path.hasSuffix($0) && paths.contains(String(path.dropLast(3))) }
  }

  private static let immutable = "public, max-age=31536000, immutable"

  /// Adds the route of the files; none if there are no files.
  package func add(to router: inout Router) {
    guard !answers.isEmpty else { return }
    router.prepared("/assets/{path...}") { (path: String) in answers[path] }
  }

  /// Whether a part of the name, between dots or after a dash, has eight or more hexadecimal digits only.
  static func isHashed(_ path: String) -> Bool {
    let name = path.split(separator: "/").last ?? ""
    return name.split { $0 == "." || $0 == "-" }.dropFirst().contains { part in
      part.utf8.count >= 8 && part.utf8.allSatisfy { hexDigit($0) != nil }
    }
  }

  private static let types = [
    "html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8",
    "json": "application/json", "map": "application/json", "svg": "image/svg+xml",
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif",
    "webp": "image/webp", "avif": "image/avif", "ico": "image/x-icon", "woff2": "font/woff2",
    "woff": "font/woff", "txt": "text/plain; charset=utf-8", "wasm": "application/wasm",
    "webmanifest": "application/manifest+json",
  ]

  /// By the name's extension (RFC 9110, 8.3).
  static func contentType(of path: String) -> String {
    let ending = path.split(separator: ".").last.map { $0.lowercased() } ?? ""
    return types[ending] ?? "application/octet-stream"
  }
}
