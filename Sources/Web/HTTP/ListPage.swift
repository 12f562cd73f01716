package import Basics

/// A page of a list while it is written, element by element.
package struct ListPage {
  private var writer = JSONWriter(capacity: 1024)

  /// The page ends before the element that would exceed this size.
  package static let maximumBytes = 1024 * 1024
  /// The size of what surrounds the elements.
  private static let envelopeBytes = 1024

  private var isEmpty = true

  package init() {
    writer.beginObject()
    writer.key("data")
    writer.beginArray()
  }

  /// The number of bytes written so far.
  package var count: Int { writer.bytes.count }

  /// Writes an element. Returns false, without writing, if the page would become too large and has an element
  /// already.
  package mutating func append(_ write: (inout JSONWriter) -> Void) -> Bool {
    let mark = writer.mark
    write(&writer)
    if !isEmpty, writer.bytes.count + Self.envelopeBytes > Self.maximumBytes {
      writer.rewind(to: mark)
      return false
    }
    isEmpty = false
    return true
  }

  /// The answer, with the cursor of its last element if there are more.
  package mutating func finish(nextCursor: String?) -> Response {
    writer.endArray()
    if let nextCursor {
      writer.key("meta")
      writer.object { $0.member("next_cursor", nextCursor) }
    }
    writer.endObject()
    return Response(contentType: "application/json", body: writer.bytes)
  }
}
