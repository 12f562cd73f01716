#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A moment in UTC, in milliseconds since 1970, as the database stores it.
package struct Timestamp: Hashable, Comparable, Sendable {
  package let milliseconds: Int64

  package init(milliseconds: Int64) { self.milliseconds = milliseconds }

  /// The present time by the wall clock, which can jump. Durations are measured with `Monotonic`.
  package static var now: Timestamp {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Timestamp(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
  }

  package static func < (left: Self, right: Self) -> Bool { left.milliseconds < right.milliseconds }

  /// Returns this moment plus this many milliseconds, clamped instead of overflowing.
  package func adding(milliseconds delta: Int64) -> Timestamp {
    let (sum, overflow) = milliseconds.addingReportingOverflow(delta)
    return Timestamp(milliseconds: overflow ? (delta > 0 ? .max : .min) : sum)
  }
}

/// A clock that never goes back: milliseconds and nanoseconds since an arbitrary moment. On Linux it stands still while
/// the machine is suspended.
package enum Monotonic {
  package static var nanoseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  package static var milliseconds: Int64 { Int64(nanoseconds / 1_000_000) }
}

/// The CPU time that the calling thread has used.
package enum ThreadClock {
  package static var nanoseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}

/// A clock that never goes back and that goes on while the machine is suspended. It measures the age of knowledge that
/// other nodes may have made outdated meanwhile.
package enum UptimeClock {
  package static var milliseconds: Int64 {
    var time = timespec()
    #if canImport(Glibc)
      clock_gettime(CLOCK_BOOTTIME, &time)
    #else
      clock_gettime(CLOCK_MONOTONIC_RAW, &time)
    #endif
    return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
  }
}

// MARK: - RFC 3339

extension Timestamp: CustomStringConvertible {
  /// The last moment that RFC 3339 can express: 9999-12-31T23:59:59.999Z.
  package static let latest = Timestamp(milliseconds: 253_402_300_799_999)
  package static let earliest = Timestamp(milliseconds: -62_135_596_800_000)

  /// The RFC 3339 form in UTC with milliseconds, such as `2026-01-02T03:04:05.678Z`; clamped to the years 1 to 9999.
  package var description: String {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(24)
    appendText(to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Appends the RFC 3339 form: exactly 24 bytes.
  package func appendText(to output: inout [UInt8]) {
    let clamped = min(max(milliseconds, Self.earliest.milliseconds), Self.latest.milliseconds)
    let days = clamped.flooredDivision(by: 86_400_000)
    let inDay = clamped - days * 86_400_000
    let (year, month, day) = CivilCalendar.date(ofDay: days)
    let milliseconds = inDay % 1000
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 24) { text in
      func put(_ value: Int64, at position: Int) {
        text[position] = UInt8(48 + value / 10 % 10)
        text[position + 1] = UInt8(48 + value % 10)
      }
      put(year / 100, at: 0)
      put(year % 100, at: 2)
      text[4] = UInt8(ascii: "-")
      put(month, at: 5)
      text[7] = UInt8(ascii: "-")
      put(day, at: 8)
      text[10] = UInt8(ascii: "T")
      put(inDay / 3_600_000, at: 11)
      text[13] = UInt8(ascii: ":")
      put(inDay / 60_000 % 60, at: 14)
      text[16] = UInt8(ascii: ":")
      put(inDay / 1000 % 60, at: 17)
      text[19] = UInt8(ascii: ".")
      text[20] = UInt8(48 + milliseconds / 100)
      put(milliseconds % 100, at: 21)
      text[23] = UInt8(ascii: "Z")
      output.append(contentsOf: text)
    }
  }

  /// Parses RFC 3339 (section 5.6) with any offset; nil for anything else. Fractions finer than milliseconds are
  /// rounded up: if they were rounded down, something earlier could seem to be at or after this moment. A leap second
  /// counts as the second after it.
  package init?(rfc3339 text: some StringProtocol) {
    var reader = DigitReader(bytes: Array(text.utf8))
    guard let year = reader.number(4), reader.skip("-"), let month = reader.number(2),
      reader.skip("-"), let day = reader.number(2), reader.skip("T", or: "t"),
      let hour = reader.number(2), reader.skip(":"), let minute = reader.number(2),
      reader.skip(":"), let second = reader.number(2),
      (1...12).contains(month), day >= 1, day <= CivilCalendar.daysIn(month: month, year: year),
      year >= 1, hour <= 23, minute <= 59, second <= 60
    else { return nil }
    var fraction: Int64 = 0
    if reader.skip(".") {
      guard let milliseconds = reader.fraction() else { return nil }
      fraction = milliseconds
    }
    var offset: Int64 = 0
    if !reader.skip("Z", or: "z") {
      let sign: Int64
      if reader.skip("+") { sign = 1 } else if reader.skip("-") { sign = -1 } else { return nil }
      guard let hours = reader.number(2), reader.skip(":"), let minutes = reader.number(2),
        hours <= 23, minutes <= 59
      else { return nil }
      offset = sign * (hours * 60 + minutes)
    }
    guard reader.isAtEnd else { return nil }
    let days = CivilCalendar.days(year: year, month: month, day: day)
    let seconds = days * 86_400 + hour * 3600 + (minute - offset) * 60 + second
    milliseconds = seconds * 1000 + fraction
  }
}

private struct DigitReader {
  let bytes: [UInt8]
  var position = 0

  var isAtEnd: Bool { position == bytes.count }

  mutating func number(_ width: Int) -> Int64? {
    guard bytes.count - position >= width else { return nil }
    var value: Int64 = 0
    for _ in 0..<width {
      guard (48...57).contains(bytes[position]) else { return nil }
      value = value * 10 + Int64(bytes[position] - 48)
      position += 1
    }
    return value
  }

  mutating func skip(_ first: Unicode.Scalar, or second: Unicode.Scalar? = nil) -> Bool {
    guard position < bytes.count else { return false }
    let byte = bytes[position]
    guard byte == UInt8(ascii: first) || second.map({ byte == UInt8(ascii: $0) }) == true else {
      return false
    }
    position += 1
    return true
  }

  mutating func fraction() -> Int64? {
    var value: Int64 = 0
    var digits = 0
    var isBeyond = false
    while position < bytes.count, (48...57).contains(bytes[position]) {
      if digits < 3 {
        value = value * 10 + Int64(bytes[position] - 48)
      } else if bytes[position] != 48 {
        isBeyond = true
      }
      digits += 1
      position += 1
    }
    guard digits > 0 else { return nil }
    for _ in min(digits, 3)..<3 { value *= 10 }
    return isBeyond ? value + 1 : value
  }
}
