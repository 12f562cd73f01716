internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A structured log: one line per event, as JSON or text.
///
/// Secrets need not be found and removed by patterns: a `Secret` is always printed as `***`.
package struct Log: Sendable {
  package enum Level: Int, Comparable, Sendable, CaseIterable {
    case debug, info, notice, warning, error

    package var name: String {
      switch self {
      case .debug: "debug"
      case .info: "info"
      case .notice: "notice"
      case .warning: "warning"
      case .error: "error"
      }
    }

    package init?(name: String) {
      guard let level = Self.allCases.first(where: { $0.name == name }) else { return nil }
      self = level
    }

    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
  }

  package enum Format: Sendable { case json, text }

  package enum Value: Sendable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByStringInterpolation
  {
    case string(String)
    case integer(Int64)

    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int64) { self = .integer(value) }
    package init(_ value: some CustomStringConvertible) { self = .string(value.description) }
    package init(_ value: some BinaryInteger) { self = .integer(Int64(clamping: value)) }
  }

  private let sink: Sink
  /// Lines below this level are not written.
  package let level: Level

  /// Makes the log of a process: to standard error, without ever waiting for its reader (`LogOutput`), and flushed in a
  /// crash. Call it once per process.
  package init(level: Level, format: Format) {
    let output = LogOutput(descriptor: 2) { count in
      Sink.line(format, .warning, "log_lines_lost", [("count", .init(count))])
    }
    output.flushOnCrash()
    self.init(level: level, format: format) { output.write($0) }
  }

  /// Makes a log that calls `output` with each line, including its newline. Calls do not overlap.
  package init(
    level: Level, format: Format, output: @escaping @Sendable (ContiguousArray<UInt8>) -> Void
  ) {
    self.level = level
    sink = Sink(format: format, output: output)
  }

  /// A log that drops everything, for tests.
  package static let none = Log(level: .error, format: .text) { _ in }

  package func debug(_ event: StaticString, _ fields: KeyValuePairs<StaticString, Value> = [:]) {
    record(.debug, event, fields)
  }

  package func info(_ event: StaticString, _ fields: KeyValuePairs<StaticString, Value> = [:]) {
    record(.info, event, fields)
  }

  package func notice(_ event: StaticString, _ fields: KeyValuePairs<StaticString, Value> = [:]) {
    record(.notice, event, fields)
  }

  package func warning(_ event: StaticString, _ fields: KeyValuePairs<StaticString, Value> = [:]) {
    record(.warning, event, fields)
  }

  package func error(_ event: StaticString, _ fields: KeyValuePairs<StaticString, Value> = [:]) {
    record(.error, event, fields)
  }

  package func record(
    _ level: Level, _ event: StaticString, _ fields: KeyValuePairs<StaticString, Value>
  ) {
    if level >= self.level { sink.write(level, event, fields) }
  }

  package func record(
    _ level: Level, _ event: StaticString,
    _ fields: some Sequence<(key: StaticString, value: Value)>
  ) {
    if level >= self.level { sink.write(level, event, fields) }
  }

  private final class Sink: Sendable {
    private let format: Format
    // A struct, because a closure that is stored directly in a Mutex is wrapped once more at each access.
    private struct Output {
      let write: @Sendable (ContiguousArray<UInt8>) -> Void
    }
    private let output: Mutex<Output>

    init(format: Format, output: @escaping @Sendable (ContiguousArray<UInt8>) -> Void) {
      self.format = format
      self.output = Mutex(Output(write: output))
    }

    func write(
      _ level: Level, _ event: StaticString,
      _ fields: some Sequence<(key: StaticString, value: Value)>
    ) {
      let line = Self.line(format, level, event, fields)
      output.withLock { $0.write(line) }
    }

    static func line(
      _ format: Format, _ level: Level, _ event: StaticString,
      _ fields: some Sequence<(key: StaticString, value: Value)>
    ) -> ContiguousArray<UInt8> {
      var line = ContiguousArray<UInt8>()
      switch format {
      case .json:
        var writer = JSONWriter(capacity: 256)
        writer.object {
          $0.member("ts", Timestamp.now)
          $0.member("level", level.name)
          $0.member("event", "\(event)")
          for (key, value) in fields {
            switch value {
            case .string(let text): $0.member(key, text)
            case .integer(let number): $0.member(key, number)
            }
          }
        }
        line.append(contentsOf: writer.bytes)
      case .text:
        line.append(contentsOf: "\(Timestamp.now) \(level.name) \(event)".utf8)
        for (key, value) in fields {
          line.append(contentsOf: " \(key)=".utf8)
          switch value {
          case .integer(let number): line.append(contentsOf: String(number).utf8)
          case .string(let text): appendQuoted(text, to: &line)
          }
        }
      }
      line.append(UInt8(ascii: "\n"))
      return line
    }

    /// Appends a text: unchanged if it is one word of printable ASCII without quotes, otherwise as a JSON string, so
    /// that an event stays on one line.
    private static func appendQuoted(_ text: String, to line: inout ContiguousArray<UInt8>) {
      let isBare =
        !text.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\"") }
      if isBare {
        line.append(contentsOf: text.utf8)
      } else {
        var writer = JSONWriter()
        writer.value(text)
        line.append(contentsOf: writer.bytes)
      }
    }
  }
}
