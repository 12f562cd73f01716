package import Basics
internal import CArchive

/// Writes a zip piece by piece, so that it can be sent while it is made, however large it gets (zip64).
///
/// Used by one thread at a time. By libarchive: https://github.com/libarchive/libarchive/wiki/ManPageArchiveWrite3
// Unchecked: whoever has it uses it from one place at a time.
package final class ZipWriter: @unchecked Sendable {
  private let handle: OpaquePointer
  private let entry: OpaquePointer
  private let output = Output()

  /// What was written and not yet taken.
  private final class Output {
    var bytes: [UInt8] = []
  }

  /// What libarchive refused, in its words.
  package struct Failure: Error, CustomStringConvertible {
    package let description: String
  }

  /// Throws `Failure`.
  package init() throws {
    guard let handle = archive_write_new(), let entry = archive_entry_new() else {
      throw Failure(description: "out of memory")
    }
    self.handle = handle
    self.entry = entry
    try check(archive_write_set_format_zip(handle))
    // Without padding at the end, and without gathering: `output` gathers.
    try check(archive_write_set_bytes_per_block(handle, 0))
    // Unretained: libarchive calls back during calls of this object only, which retains `output`.
    try check(
      archive_write_open2(
        handle, Unmanaged.passUnretained(output).toOpaque(), nil,
        { _, context, bytes, count in
          guard let context, let bytes else { return -1 }
          let output = Unmanaged<Output>.fromOpaque(context).takeUnretainedValue()
          output.bytes += UnsafeRawBufferPointer(start: bytes, count: count)
          return la_ssize_t(count)
        }, nil, nil))
  }

  deinit {
    archive_entry_free(entry)
    archive_write_free(handle)
  }

  /// Begins a file; ends the one before. `path` is in ASCII, its parts separated by `/`. Throws `Failure`.
  package func begin(_ path: String, at time: Timestamp) throws {
    try begin(path, UInt32(S_IFREG), 0o600, time)
  }

  /// Adds an empty folder, for example `files/`. Throws `Failure`.
  package func addFolder(_ path: String, at time: Timestamp) throws {
    try begin(path, UInt32(S_IFDIR), 0o700, time)
  }

  private func begin(
    _ path: String, _ type: UInt32, _ permissions: mode_t, _ time: Timestamp
  ) throws {
    archive_entry_clear(entry)
    archive_entry_set_pathname(entry, path)
    archive_entry_set_filetype(entry, type)
    archive_entry_set_perm(entry, permissions)
    archive_entry_set_mtime(entry, time_t(time.milliseconds / 1000), 0)
    try check(archive_write_header(handle, entry))
  }

  /// Adds to the file. Throws `Failure`.
  package func write(_ bytes: [UInt8]) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { archive_write_data(handle, $0.baseAddress, $0.count) }
      guard count > 0 else { throw failure }
      rest = rest.dropFirst(count)
    }
  }

  /// Ends the last file and the zip. Throws `Failure`.
  package func finish() throws { try check(archive_write_close(handle)) }

  /// Returns what the zip has got since the last call.
  package func takeOutput() -> [UInt8] {
    defer { output.bytes = [] }
    return output.bytes
  }

  private func check(_ status: Int32) throws {
    guard status >= ARCHIVE_WARN else { throw failure }
  }

  private var failure: Failure {
    Failure(description: archive_error_string(handle).map { String(cString: $0) } ?? "unknown")
  }
}
