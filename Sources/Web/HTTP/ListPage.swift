package import Basics

/// A page of a list while it is written, one element after the other.
package struct ListPage {
  private var writer = JSONWriter(capacity: 1024)

  /// A page ends before the element with which it would pass this.
  package static let maximumBytes = 1024 * 1024
  /// The envelope around the elements.
  private static let envelopeBytes = 1024

  private var isEmpty = true

  package init() {
    writer.beginObject()
    writer.key("data")
    writer.beginArray()
  }

  /// Bytes written so far.
  package var count: Int { writer.bytes.count }

  /// Writes an element; false, and nothing is written, where the page would be too large with it and has
  /// one already.
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

  /// The answer, with the place behind its last element where there is more.
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
