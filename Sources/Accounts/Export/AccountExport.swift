package import Access
internal import Archive
package import Basics
package import EventLoop
internal import Synchronization
package import Web

/// Hands a person everything that this server keeps about them and that they have made, as a zip.
///
/// It is made while it is sent: nothing of it is stored, and only the part that is being written is in memory. If the
/// session ends meanwhile, because the account is suspended or erased, so does the export.
package final class AccountExport: Sendable {
  private let authenticator: any Authenticator
  private let pool: ThreadPool
  private let parts: [any ExportPart]
  /// Who is getting one at this moment.
  private let running = Mutex<Set<UserID>>([])

  /// After so many seconds somebody may ask again who gets one already.
  private static let retrySeconds = 10

  /// - `pool`: for compressing.
  /// - `parts`: who adds files to it, in this order.
  package init(authenticator: any Authenticator, pool: ThreadPool, parts: [any ExportPart]) {
    self.authenticator = authenticator
    self.pool = pool
    self.parts = parts
  }

  /// The answer with the zip. Throws `rate_limited` if the person is getting one from this node already.
  package func response(for caller: Caller) throws(AppError) -> Response {
    let user = caller.userID
    guard running.withLock({ $0.insert(user).inserted }) else {
      throw AppError(
        .rateLimited, "You are getting an export already.", retryAfter: Self.retrySeconds)
    }
    let turn = Turn { [self] in running.withLock { _ = $0.remove(user) } }
    var response = Response(
      contentType: "application/zip",
      .stream(length: nil) { [self] writer in
        defer { turn.end() }
        let archive = ExportArchive(
          zip: try ZipWriter(), pool: pool, caller: caller, authenticator: authenticator,
          writer: writer)
        for part in parts { try await part.export(of: caller, to: archive) }
        // There are no files of people yet.
        try await archive.addFolder("files/")
        try await archive.finish()
      })
    response.add("cache-control", "no-store")
    response.add("content-disposition", "attachment; filename=\"martlet-export.zip\"")
    return response
  }

  /// Ends the turn of somebody, also if the answer is thrown away before it is sent.
  private final class Turn: Sendable {
    private let body: @Sendable () -> Void
    private let isOver = Atomic<Bool>(false)

    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    deinit { end() }

    func end() { if !isOver.exchange(true, ordering: .relaxed) { body() } }
  }
}

/// A feature that adds files to an export. A port, implemented by every feature that keeps something of people.
package protocol ExportPart: Sendable {
  func export(of caller: Caller, to archive: ExportArchive) async throws
}

/// The zip of an export that is being sent.
package struct ExportArchive: Sendable {
  private let zip: ZipWriter
  private let pool: ThreadPool
  private let caller: Caller
  private let authenticator: any Authenticator
  private let writer: BodyWriter

  init(
    zip: ZipWriter, pool: ThreadPool, caller: Caller, authenticator: any Authenticator,
    writer: BodyWriter
  ) {
    self.zip = zip
    self.pool = pool
    self.caller = caller
    self.authenticator = authenticator
    self.writer = writer
  }

  /// Begins a file. The path is in ASCII.
  package func begin(_ path: String) async throws {
    try await run { try $0.begin(path, at: .now) }
  }

  /// Adds to the file what `make` returns, which is called on a thread. Returns when the client has taken enough of it for
  /// more.
  package func write(_ make: @escaping @Sendable () throws -> [UInt8]) async throws {
    try await run { try $0.write(make()) }
  }

  func addFolder(_ path: String) async throws {
    try await run { try $0.addFolder(path, at: .now) }
  }

  func finish() async throws {
    try await run { try $0.finish() }
  }

  private func run(_ body: @escaping @Sendable (ZipWriter) throws -> Void) async throws {
    // Not whether the token has expired, which an export may well outlive.
    if let session = caller.sessionID, authenticator.hasEnded(session) {
      throw AppError(.invalidToken)
    }
    let output = try await pool.run(for: caller.userID) { [zip] _ in
      try body(zip)
      return zip.takeOutput()
    }
    try await writer.write(output)
  }
}
