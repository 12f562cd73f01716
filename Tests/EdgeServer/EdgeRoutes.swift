import Access
import Basics
import EventLoop
import Web

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

struct EdgeRoutes: Sendable {
  let folder: String
  let pool: ThreadPool
  let isSecure: Bool

  private static let maximumUpload = 4 << 30
  private static let writtenAtOnceBytes = 256 * 1024
  private static let preparedSizes = [100, 10_240, 102_400]

  func add(to router: inout Router) throws {
    router.on(.put, "/files/{name}", policy: .anyone, body: .stream(upTo: Self.maximumUpload)) {
      (request, name: String) in try await upload(request, name)
    }
    router.on(.get, "/files/{name}", policy: .anyone) { (request, name: String) in
      try await download(request, name)
    }
    router.on(.post, "/form", policy: .anyone, body: .stream(upTo: Self.maximumUpload)) {
      try await form($0)
    }
    // Reads the first piece of a body, and no more.
    router.on(.post, "/first", policy: .anyone, body: .stream(upTo: Self.maximumUpload)) {
      request in
      for try await piece in request.body { return Self.number(piece.count) }
      return Self.number(0)
    }
    // Reads a body slowly, and returns its length.
    router.on(.post, "/slow", policy: .anyone, body: .stream(upTo: Self.maximumUpload)) { request in
      var count = 0
      for try await piece in request.body {
        count += piece.count
        await request.loop.sleep(milliseconds: 20)
      }
      return Self.number(count)
    }
    router.on(.get, "/stream", policy: .anyone) { try stream($0) }
    router.on(.get, "/never", policy: .anyone) { request in
      await request.loop.sleep(milliseconds: 3_600_000)
      return .noContent
    }
    var prepared: [String: PreparedAnswer] = [:]
    for size in Self.preparedSizes {
      prepared[String(size)] = PreparedAnswer(
        contentType: "text/html; charset=utf-8", body: Self.text(size),
        headers: [("cache-control", "public, max-age=15")], isSecure: isSecure)
    }
    let answers = prepared
    router.prepared("/prepared/{size}") { (size: String) in answers[size] }
    try StaticFiles(folder: folder, isSecure: isSecure).add(to: &router)
  }

  /// Text that compresses like pages do; half of it is random.
  private static func text(_ size: Int) -> [UInt8] {
    var state: UInt64 = 88_172_645_463_325_252
    return (0..<size).map { index in
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return index % 8 < 4 ? UInt8(ascii: "a") : UInt8(97 + state % 26)
    }
  }

  private static func number(_ count: Int) -> Response {
    .data { $0.object { $0.member("bytes", Int64(count)) } }
  }

  private func path(_ name: String) throws -> String {
    guard !name.isEmpty, !name.hasPrefix("."), !name.contains("/") else {
      throw AppError(.notFound)
    }
    return "\(folder)/\(name)"
  }

  /// Writes a body to a file as it arrives, and answers when it is synced to disk.
  private func upload(_ request: Request, _ name: String) async throws -> Response {
    let path = try path(name)
    let file = try UploadFile(path)
    var count = 0
    var gathered: [[UInt8]] = []
    var gatheredBytes = 0
    // Receives the next pieces while earlier ones are being written.
    var writing: Task<Void, any Error>?
    for try await piece in request.body {
      count += piece.count
      gathered.append(piece)
      gatheredBytes += piece.count
      guard gatheredBytes >= Self.writtenAtOnceBytes else { continue }
      try await writing?.value
      writing = Task { [gathered] in try await pool.run { _ in try file.append(gathered) } }
      gathered = []
      gatheredBytes = 0
    }
    try await writing?.value
    try await pool.run { [gathered] _ in
      try file.append(gathered)
      try file.sync()
    }
    return Self.number(count)
  }

  private func download(_ request: Request, _ name: String) async throws -> Response {
    let path = try path(name)
    let file: OpenFile
    do { file = try await pool.run { _ in try OpenFile(path) } } catch is SystemError {
      throw AppError(.notFound)
    }
    return .content(
      .file(file), tag: EntityTag("\(file.size)-\(file.modified.milliseconds)"),
      modified: file.modified, contentType: "application/octet-stream", for: request)
  }

  /// Returns the name, the length and a checksum of each part of a form.
  private func form(_ request: Request) async throws -> Response {
    var form = try MultipartReader(request)
    var parts: [(MultipartPart, Int, Int)] = []
    while let part = try await form.nextPart() {
      var (count, sum) = (0, 0)
      while let piece = try await form.nextPiece() {
        count += piece.count
        sum += piece.reduce(0) { $0 + Int($1) }
      }
      parts.append((part, count, sum))
    }
    let found = parts
    return .data {
      $0.array(of: found) { writer, entry in
        writer.object {
          $0.member("name", entry.0.name)
          $0.member("filename", entry.0.filename ?? "-")
          $0.member("type", entry.0.contentType ?? "-")
          $0.member("bytes", Int64(entry.1))
          $0.member("sum", Int64(entry.2))
        }
      }
    }
  }

  /// Sends `bytes` in pieces of `piece`. With `length=known` the length is announced. `broken` stops halfway.
  private func stream(_ request: Request) throws -> Response {
    var fields = request.query.fields
    let bytes = Int(fields.optionalInteger("bytes", 0...1 << 40) ?? 0)
    let piece = Int(fields.optionalInteger("piece", 1...1 << 20) ?? 65_536)
    let isKnown = fields.optionalString("length", 0...10) == "known"
    let isBroken = fields.optionalString("broken", 0...10) != nil
    try fields.finish()
    return Response(
      contentType: "application/octet-stream",
      .stream(length: isKnown ? Int64(bytes) : nil) { writer in
        var left = bytes
        while left > 0 {
          if isBroken, left <= bytes / 2 { throw AppError(.internalError, "broken on purpose") }
          let count = min(piece, left)
          try await writer.write([UInt8](repeating: UInt8(ascii: "s"), count: count))
          left -= count
        }
      })
  }
}
