internal import Basics

/// Dates in the formats of HTTP (RFC 9110, 5.6.7).
package enum HTTPDate {
  private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]
  private static let secondsPerDay: Int64 = 86_400

  /// For example `Sun, 06 Nov 1994 08:49:37 GMT`, from seconds since 1970.
  package static func text(_ seconds: Int64) -> String {
    let clamped = max(0, min(seconds, Timestamp.latest.milliseconds / 1000))
    let (day, second) = clamped.quotientAndRemainder(dividingBy: secondsPerDay)
    let date = CivilCalendar.date(ofDay: day)
    func twoDigits(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
    // 1970 began on a Thursday.
    let weekday = days[Int((day + 4) % 7)]
    return "\(weekday), \(twoDigits(date.day)) \(months[Int(date.month) - 1]) \(date.year) "
      + "\(twoDigits(second / 3600)):\(twoDigits(second / 60 % 60)):\(twoDigits(second % 60)) GMT"
  }

  /// Seconds since 1970, from any of the three formats that HTTP has had; nil for anything else.
  static func seconds(_ text: String) -> Int64? {
    let words = text.split(separator: " ")
    switch words.count {
    case 6:  // Sun, 06 Nov 1994 08:49:37 GMT
      guard words[0].last == ",", words[5] == "GMT", words[1].utf8.count == 2 else { return nil }
      return seconds(year: number(words[3]), month: words[2], day: number(words[1]), words[4])
    case 4:  // Sunday, 06-Nov-94 08:49:37 GMT
      let date = words[1].split(separator: "-")
      guard words[0].last == ",", words[3] == "GMT", date.count == 3 else { return nil }
      // A year with two digits is taken to be between 1970 and 2069.
      let year = number(date[2]).map { $0 < 70 ? 2000 + $0 : 1900 + $0 }
      return seconds(year: year, month: date[1], day: number(date[0]), words[2])
    case 5:  // Sun Nov  6 08:49:37 1994
      return seconds(year: number(words[4]), month: words[1], day: number(words[2]), words[3])
    default: return nil
    }
  }

  private static func seconds(
    year: Int64?, month: Substring, day: Int64?, _ time: Substring
  ) -> Int64? {
    let parts = time.split(separator: ":").map(number)
    guard let year, let day, let index = months.firstIndex(of: String(month)), parts.count == 3,
      let hour = parts[0], let minute = parts[1], let second = parts[2],
      (1970...9999).contains(year), hour <= 23, minute <= 59, second <= 60
    else { return nil }
    let month = Int64(index + 1)
    guard day >= 1, day <= CivilCalendar.daysIn(month: month, year: year) else { return nil }
    let dayNumber = CivilCalendar.days(year: year, month: month, day: day)
    return dayNumber * secondsPerDay + hour * 3600 + minute * 60 + second
  }

  private static func number(_ text: Substring) -> Int64? {
    guard (1...4).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }) else {
      return nil
    }
    return Int64(text)
  }
}
