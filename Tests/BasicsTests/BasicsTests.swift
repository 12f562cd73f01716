import TestSupport
import Testing

@testable import Basics

@Suite struct TimestampTests {
  @Test(arguments: [
    ("1970-01-01T00:00:00Z", 0), ("2000-02-29T12:34:56.789Z", 951_827_696_789),
    ("1969-12-31T23:59:59.999Z", -1), ("2026-11-21T04:07:50.569+02:00", 1_795_226_870_569),
    ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ("2024-01-01t00:00:00.1234567z", 1_704_067_200_124),
    ("2024-01-01t00:00:00.1230000z", 1_704_067_200_123),
    ("2016-12-31T23:59:60Z", 1_483_228_800_000),
  ])
  func `RFC 3339 is read`(text: String, milliseconds: Int64) {
    #expect(Timestamp(rfc3339: text)?.milliseconds == milliseconds)
  }

  @Test(arguments: [
    "", "2024", "2024-01-01", "2024-13-01T00:00:00Z", "2023-02-29T00:00:00Z",
    "2024-01-01T24:00:00Z",
    "2024-01-01T00:00:00", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00.Z",
    "2024-01-01T00:00:00+1:00",
    "2024-01-01T00:00:00Zx", "0000-01-01T00:00:00Z",
  ])
  func `other texts are not times`(text: String) {
    #expect(Timestamp(rfc3339: text) == nil)
  }

  @Test func `what is written is read back, and far moments are clamped`() {
    for milliseconds: Int64 in [0, -1, 951_827_696_789, 4_102_444_800_000, -62_135_596_800_000] {
      let time = Timestamp(milliseconds: milliseconds)
      #expect(Timestamp(rfc3339: time.description) == time)
    }
    #expect(Timestamp(milliseconds: .max).description == "9999-12-31T23:59:59.999Z")
    #expect(Timestamp(milliseconds: .min).description == "0001-01-01T00:00:00.000Z")
    #expect(Timestamp(milliseconds: .max).adding(milliseconds: 1).milliseconds == .max)
  }
}

@Suite struct IdentifierTests {
  @Test func `UUIDs are read in either case and written in lower`() throws {
    let uuid = try #require(UUID("0192F0C4-7B3A-7CCC-8ABC-DEF012345678"))
    #expect(uuid.description == "0192f0c4-7b3a-7ccc-8abc-def012345678")
    #expect(UUID(bytes: uuid.bytes) == uuid)
    for text in [
      "", "0192f0c4", "0192f0c47b3a7ccc8abcdef012345678", "0192f0c4-7b3a-7ccc-8abc-def01234567g",
      "0192f0c4-7b3a-7ccc-8abc-def0123456789", "0192f0c4-7b3a-7ccc-8abcdef012345678-",
    ] {
      #expect(UUID(text) == nil)
    }
  }

  @Test func `version 7 carries the time`() {
    var random = SeededRandom(seed: 3)
    let uuid = UUID.version7(at: Timestamp(milliseconds: 0x0192_F0C4_7B3A), using: &random)
    #expect(uuid.description.hasPrefix("0192f0c4-7b3a-7"))
    #expect("89ab".contains(Array(uuid.description)[19]))
  }

  @Test func `room ids are canonical decimal`() {
    #expect(RoomID("9223372036854775807")?.value == .max)
    for text in ["", "0", "01", "-1", "+1", "1 ", "9223372036854775808", "1.0", "x"] {
      #expect(RoomID(text) == nil)
    }
  }
}

@Suite struct RateLimiterTests {
  @Test func `a bucket admits its burst and then N per second`() {
    let rate = Rate(burst: 200, perSecond: 50)
    var bucket = TokenBucket(rate, now: 0)
    var admitted = 0
    // 60 frames a second for ten seconds after the burst.
    for _ in 0..<200 where bucket.take(rate, now: 0) { admitted += 1 }
    #expect(admitted == 200)
    admitted = 0
    for frame in 0..<600 where bucket.take(rate, now: UInt64(frame + 1) * 16_666_667) {
      admitted += 1
    }
    #expect((490...510).contains(admitted))
  }

  @Test func `keys do not share`() {
    let limiter = KeyedRateLimiter<Int>(Rate(burst: 1, perSecond: 1))
    #expect(limiter.take(1, now: 1) == nil)
    #expect(limiter.take(1, now: 2) == 1)
    #expect(limiter.take(2, now: 2) == nil)
    #expect(limiter.take(1, now: 1_100_000_000) == nil)
  }

  @Test func `so many in any hour, not nearly twice as many`() {
    let limit = HourlyLimit<Int>(20)
    for minute: Int64 in 0..<20 { #expect(limit.take(1, now: minute * 60_000) == nil) }
    #expect(limit.take(1, now: 1_200_000) == 2400)
    #expect(limit.take(2, now: 1_200_000) == nil)
    #expect(limit.take(1, now: 3_599_999) == 1)
    #expect(limit.take(1, now: 3_600_000) == nil)
    #expect(limit.take(1, now: 3_600_001) == 60)
  }
}

@Suite struct AddressTests {
  @Test func `ranges hold what they should`() throws {
    let ten = try #require(IPAddress.Range("10.0.0.0/8"))
    #expect(ten.contains(try #require(IPAddress("10.255.0.1"))))
    #expect(ten.contains(try #require(IPAddress("::ffff:10.1.2.3"))))
    #expect(!ten.contains(try #require(IPAddress("11.0.0.1"))))
    #expect(try #require(IPAddress.Range("0.0.0.0/0")).contains(try #require(IPAddress("1.2.3.4"))))
    #expect(!(try #require(IPAddress.Range("0.0.0.0/0"))).contains(try #require(IPAddress("::1"))))
    #expect(
      try #require(IPAddress.Range("2001:db8::/32")).contains(
        try #require(IPAddress("2001:db8:1::2"))))
    for text in ["", "10.0.0.0/33", "10.0.0.0/-1", "x/8", "10.0.0.0/8/8", "::/129"] {
      #expect(IPAddress.Range(text) == nil)
    }
    #expect(
      try #require(IPAddress("127.9.9.9")).isLoopback && (try #require(IPAddress("::1"))).isLoopback
    )
  }
}

@Suite struct SecretTests {
  @Test func `a secret is shown by nothing but reveal`() {
    let secret = Secret("hunter2")
    #expect(!"\(secret) \(String(reflecting: secret))".contains("hunter2"))
    var dumped = ""
    dump(secret, to: &dumped)
    #expect(!dumped.contains("hunter2"))
  }
}

@Suite struct LogTests {
  @Test func `a line stays one line, whatever is logged`() {
    let lines = Lines()
    for format in [Log.Format.json, .text] {
      Log(level: .info, format: format) { lines.add($0) }.info(
        "event", ["x": "a\nb \"c\"", "n": 5])
    }
    Log(level: .error, format: .text) { lines.add($0) }.info("below_level")
    let texts = lines.texts
    #expect(texts.count == 2)
    for text in texts { #expect(text.filter { $0 == "\n" }.count == 1 && text.hasSuffix("\n")) }
  }

  private final class Lines: @unchecked Sendable {
    // Unchecked: one thread.
    var texts: [String] = []
    func add(_ line: ContiguousArray<UInt8>) { texts.append(String(decoding: line, as: UTF8.self)) }
  }
}

@Suite struct MetricsTests {
  @Test func `the page is Prometheus text`() {
    let metrics = Metrics()
    metrics.counter("b_total", "B.", labels: ["route": "/a\"b"]).add(2)
    metrics.histogram("a_seconds", "A.") { Histogram(bounds: [10, 100], scale: 1000) }.observe(50)
    let page = metrics.render()
    #expect(
      page.hasPrefix(
        "# HELP a_seconds A.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"0.01\"} 0\n"))
    #expect(
      page.contains("a_seconds_bucket{le=\"+Inf\"} 1\na_seconds_sum 0.05\na_seconds_count 1\n"))
    #expect(page.contains("b_total{route=\"/a\\\"b\"} 2\n"))
  }
}
