#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// An error of the operating system: the call that failed, and its `errno`.
package struct SystemError: Error, CustomStringConvertible, Sendable {
  package let call: String
  package let errno: Int32

  package init(_ call: String, errno: Int32) {
    self.call = call
    self.errno = errno
  }

  package var description: String { "\(call): \(systemErrorText(errno))" }
}

/// Returns the text of an `errno` (strerror(3)).
package func systemErrorText(_ number: Int32) -> String {
  // strerror returns a text for every number, never NULL.
  String(cString: strerror(number))
}
