internal import COpenSSL

/// The reason why TLS failed, for the log, normally with OpenSSL's text.
package struct TLSError: Error, CustomStringConvertible, Sendable {
  package let description: String
  /// Whether the peer spoke plain HTTP instead of TLS.
  package let isPlainHTTP: Bool

  init(_ what: String, isPlainHTTP: Bool = false) {
    description = what
    self.isPlainHTTP = isPlainHTTP
  }

  /// Makes an error with OpenSSL's reason for the last failure on this thread: the first error in the thread's queue,
  /// which caused the others. Empties the queue.
  static func last(_ what: String) -> TLSError {
    var text = ""
    var isPlainHTTP = false
    while case let code = ERR_get_error(), code != 0 {
      if text.isEmpty {
        var buffer = [CChar](repeating: 0, count: 256)
        ERR_error_string_n(code, &buffer, buffer.count)
        text = String(
          decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      }
      if ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST { isPlainHTTP = true }
    }
    return TLSError(text.isEmpty ? what : "\(what): \(text)", isPlainHTTP: isPlainHTTP)
  }
}
