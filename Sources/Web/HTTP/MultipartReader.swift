package import Basics

/// The parts of a request's form, one after the other, as they arrive.
///
///     var form = try MultipartReader(request)
///     while let part = try await form.nextPart() {
///       while let piece = try await form.nextPiece() { ... }
///     }
package struct MultipartReader {
  private var parser: MultipartParser
  private var body: RequestBody.AsyncIterator
  private var isBodyOver = false
  private var isInPart = false

  /// Throws `AppError`: 415 if the request has no form, 400 if its boundary is malformed.
  package init(_ request: Request, maximumParts: Int = 64) throws(AppError) {
    let type = request.headers["content-type"] ?? ""
    let media = type.prefix { $0 != ";" }
    guard media.trimmingBlanks().lowercased() == "multipart/form-data" else {
      throw AppError(.unsupportedMediaType, "Send the body as multipart/form-data.")
    }
    guard let boundary = Self.boundary(type[media.endIndex...]) else {
      throw AppError(.badRequest, "The form has no boundary that can be used.")
    }
    parser = MultipartParser(boundary: boundary, maximumParts: maximumParts)
    body = request.body.makeAsyncIterator()
  }

  /// The next part, skipping what is left of the one before; nil at the end. Throws `AppError` 400 if the form is
  /// malformed, and what `RequestBody` throws.
  package mutating func nextPart() async throws -> MultipartPart? {
    while try await nextPiece() != nil {}
    switch try await nextEvent() {
    case .part(let part):
      isInPart = true
      return part
    case .end, .partEnd, .data: return nil
    }
  }

  /// The next piece of the part's content; nil at its end. Throws the same as `nextPart`.
  package mutating func nextPiece() async throws -> [UInt8]? {
    guard isInPart else { return nil }
    if case .data(let piece) = try await nextEvent() { return piece }
    isInPart = false
    return nil
  }

  private mutating func nextEvent() async throws -> MultipartParser.Event {
    while true {
      do throws(MultipartParser.Failure) {
        if let event = try parser.next(isComplete: isBodyOver) { return event }
      } catch {
        throw AppError(.badRequest, error.message)
      }
      if let piece = try await body.next() { parser.append(piece) } else { isBodyOver = true }
    }
  }

  /// The boundary parameter of a media type. Nil if there is none, or if it is not valid (RFC 2046, 5.1.1).
  private static func boundary(_ parameters: Substring) -> String? {
    for parameter in parameters.split(separator: ";") {
      let parts = parameter.split(separator: "=", maxSplits: 1)
      guard parts.count == 2, parts[0].trimmingBlanks().lowercased() == "boundary" else { continue }
      var value = parts[1].trimmingBlanks()
      if value.count >= 2, value.hasPrefix("\""), value.hasSuffix("\"") {
        value = value.dropFirst().dropLast()
      }
      guard (1...70).contains(value.utf8.count), value.last != " ",
        value.utf8.allSatisfy({ isTokenByte($0) || Self.signs.contains($0) })
      else { return nil }
      return String(value)
    }
    return nil
  }

  private static let signs = Array("(),/:=? ".utf8)
}
