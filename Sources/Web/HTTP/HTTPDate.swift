internal import Basics

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A moment as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
func imfFixdate(_ secondsSince1970: Int64) -> [UInt8] {
  var time = time_t(secondsSince1970)
  var parts = tm()
  gmtime_r(&time, &parts)
  let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
  let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]
  func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
  // gmtime_r gives tm_wday 0...6 and tm_mon 0...11.
  let text =
    "\(days[Int(parts.tm_wday)]), \(two(parts.tm_mday)) \(months[Int(parts.tm_mon)]) "
    + "\(1900 + Int(parts.tm_year)) \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) GMT"
  return Array(text.utf8)
}

func closeDescriptor(_ descriptor: Int32) { close(descriptor) }
