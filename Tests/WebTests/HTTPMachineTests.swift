import Basics
import TestSupport
import Testing

@testable import Web

@Suite struct HTTPMachineTests {
  /// A simulated connection around the machine. It answers requests at once or, if `answers` is false, when the test
  /// calls `answer`. The test sets the clock, in milliseconds.
  private struct Driver {
    var machine: HTTPMachine
    var now: Int64 = 1000
    /// The machine's actions so far, as texts.
    var seen: [String] = []
    var readsBodies = true
    var answers = true
    var bodyLimit = 1_000_000
    var body: [UInt8] = []
    /// Whether the connection stays open after the last answer; nil before the first answer.
    var stays: Bool?

    init(headBytes: Int = 16_384) {
      machine = HTTPMachine(
        limits: HTTPMachine.Limits(
          headBytes: headBytes, headMilliseconds: 10_000, bodyMilliseconds: 10_000,
          workMilliseconds: 10_000), now: 1000)
    }

    mutating func send(_ text: String) { send(Array(text.utf8)) }

    mutating func send(_ bytes: [UInt8]) {
      bytes.withUnsafeBytes { machine.receive($0, now: now) }
      run()
    }

    mutating func end() {
      machine.endInput()
      run()
    }

    mutating func tick(after milliseconds: Int64) {
      now += milliseconds
      if let action = machine.tick(now: now) { note(action) }
      run()
    }

    mutating func run() {
      while let action = machine.next(now: now) { note(action) }
    }

    mutating func answer() {
      stays = machine.beginAnswer()
      machine.endAnswer(now: now)
      run()
    }

    private mutating func note(_ action: HTTPMachine.Action) {
      switch action {
      case .request(let head):
        seen.append("\(head.method?.rawValue ?? "?") \(head.path)")
        machine.accept(bodyLimit: bodyLimit)
        body = []
        if readsBodies, head.framing != .none {
          machine.wantBody(now: now)
        } else if answers {
          stays = machine.beginAnswer()
          machine.endAnswer(now: now)
        }
      case .sendContinue: seen.append("continue")
      case .body(let piece):
        body += piece
        machine.wantBody(now: now)
      case .bodyEnd:
        seen.append("body \(String(decoding: body, as: UTF8.self))")
        if answers {
          stays = machine.beginAnswer()
          machine.endAnswer(now: now)
        }
      case .bodyFailed(let error):
        seen.append("failed \(error.code.wire)")
        stays = machine.beginAnswer()
        machine.endAnswer(now: now)
      case .refuse(let error, _): seen.append("refused \(error.code.wire)")
      case .workTimedOut: seen.append("work timed out")
      case .close: seen.append("close")
      }
    }
  }

  private static let get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"

  private func post(_ body: String, _ fields: String = "") -> String {
    "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\(fields)\r\n\(body)"
  }

  private func chunked(_ chunks: [String], _ fields: String = "") -> String {
    "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\(fields)\r\n"
      + chunks.map { "\(String($0.utf8.count, radix: 16))\r\n\($0)\r\n" }.joined() + "0\r\n\r\n"
  }

  @Test func `requests are read one after the other, however they are cut`() {
    let requests = [
      (Self.get, ["GET /a"]), (post("hello"), ["POST /b", "body hello"]),
      (chunked(["he", "llo"]), ["POST /c", "body hello"]), (post(""), ["POST /b"]),
      (chunked([]), ["POST /c", "body "]), ("\r\n" + Self.get, ["GET /a"]),
    ]
    for seed in 1...300 as ClosedRange<UInt64> {
      var random = SeededRandom(seed: seed)
      var driver = Driver()
      var text: [UInt8] = []
      var expected: [String] = []
      for _ in 0..<5 {
        let (request, outcome) = requests[Int.random(in: 0..<requests.count, using: &random)]
        text += Array(request.utf8)
        expected += outcome
      }
      while !text.isEmpty {
        let count = Int.random(in: 1...min(text.count, 40), using: &random)
        driver.send(Array(text.prefix(count)))
        text.removeFirst(count)
      }
      #expect(driver.seen == expected, "seed \(seed)")
      #expect(driver.machine.isIdle)
    }
  }

  @Test func `the next request waits for the answer`() {
    var driver = Driver()
    driver.answers = false
    driver.send(Self.get + Self.get)
    #expect(driver.seen == ["GET /a"])
    driver.answer()
    #expect(driver.seen == ["GET /a", "GET /a"])
  }

  @Test func `a client that waits is told to go on when its body is wanted, and not before`() {
    var driver = Driver()
    driver.readsBodies = false
    driver.answers = false
    driver.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n")
    #expect(driver.seen == ["POST /"])
    driver.machine.wantBody(now: driver.now)
    driver.run()
    #expect(driver.seen == ["POST /", "continue"])
    driver.send("{}")
    #expect(driver.seen.last == "body {}")

    // The request is answered before its body arrived. The client may or may not send the body, so the connection
    // cannot be used again.
    var refused = Driver()
    refused.readsBodies = false
    refused.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    #expect(refused.stays == false)
  }

  @Test func `a small body that nobody wants is dropped, a large one ends the connection`() {
    var driver = Driver()
    driver.readsBodies = false
    driver.send(post("dropped") + Self.get)
    #expect(driver.seen == ["POST /b", "GET /a"] && driver.stays == true)
    driver.send(chunked(["dropped"]) + Self.get)
    #expect(driver.seen.suffix(2) == ["POST /c", "GET /a"] && driver.stays == true)
    driver.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
    #expect(driver.stays == false)
    var chunks = Driver()
    chunks.readsBodies = false
    // The end of the body has not arrived and may never arrive.
    chunks.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n")
    #expect(chunks.stays == false)
  }

  @Test func `chunks are read as far as the limit`() {
    var driver = Driver()
    driver.bodyLimit = 5
    driver.send(chunked(["he", "llo"]))
    #expect(driver.seen.last == "body hello")
    driver.send(chunked(["he", "llo", "!"]))
    #expect(
      driver.seen.last == "failed body_too_large" || driver.seen.contains("failed body_too_large"))
    #expect(driver.stays == false)
    var broken = Driver()
    broken.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
    #expect(broken.seen.contains("failed bad_request") && broken.stays == false)
  }

  @Test func `no more is read ahead than is allowed`() {
    var driver = Driver()
    driver.readsBodies = false
    driver.answers = false
    driver.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    #expect(driver.machine.wantedBytes > 0)
    driver.send([UInt8](repeating: 0, count: 64 * 1024))
    #expect(driver.machine.wantedBytes <= 0)
    driver.readsBodies = true
    driver.machine.wantBody(now: driver.now)
    driver.run()
    #expect(driver.machine.wantedBytes > 0 && driver.body.count == 64 * 1024)
  }

  @Test func `a slow head is told so, an idle connection is closed`() {
    var driver = Driver()
    driver.tick(after: 9_999)
    #expect(driver.seen == [])
    driver.tick(after: 1)
    #expect(driver.seen == ["close"])

    var slow = Driver()
    slow.now += 9_000
    slow.send("GET / HT")
    slow.tick(after: 9_000)
    slow.send("TP")
    #expect(slow.seen == [])
    slow.tick(after: 1_000)
    #expect(slow.seen == ["refused request_timeout"])

    var kept = Driver()
    kept.send(Self.get)
    kept.tick(after: 59_999)
    #expect(kept.seen == ["GET /a"])
    kept.tick(after: 1)
    #expect(kept.seen == ["GET /a", "close"])
  }

  @Test func `a body may take its time as long as it moves`() {
    var driver = Driver()
    driver.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    // A body that arrives at 2,000 bytes per second never times out.
    for _ in 0..<60 {
      driver.tick(after: 2_000)
      driver.send([UInt8](repeating: 0, count: 4_000))
    }
    #expect(driver.seen == ["POST /"])
    driver.tick(after: 9_999)
    #expect(driver.seen == ["POST /"])
    driver.tick(after: 1)
    #expect(driver.seen.contains("failed request_timeout") && driver.stays == false)
  }

  @Test func `a body that drips is not welcome for more than a minute`() {
    var driver = Driver()
    driver.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    for _ in 0..<59 {
      driver.send("x")
      driver.tick(after: 1_000)
      #expect(driver.seen == ["POST /"])
    }
    driver.tick(after: 1_000)
    #expect(driver.seen.contains("failed request_timeout"))
  }

  @Test func `work has its time, which begins again with each piece of the body`() {
    var driver = Driver()
    driver.answers = false
    driver.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
    driver.tick(after: 9_000)
    driver.send("{")
    driver.tick(after: 9_000)
    driver.send("}")
    driver.tick(after: 9_999)
    #expect(driver.seen == ["POST /", "body {}"])
    driver.tick(after: 1)
    #expect(driver.seen.last == "work timed out")
  }

  @Test func `a half-closed client gets its answers`() {
    var driver = Driver()
    driver.answers = false
    driver.send(Self.get + Self.get)
    driver.end()
    #expect(driver.seen == ["GET /a"])
    driver.answer()
    #expect(driver.stays == true)
    #expect(driver.seen == ["GET /a", "GET /a"])
    driver.answer()
    #expect(driver.stays == false)

    var cut = Driver()
    cut.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")
    cut.end()
    #expect(cut.seen.contains("failed bad_request") && cut.stays == false)

    var idle = Driver()
    idle.send("GET / HT")
    idle.end()
    #expect(idle.seen == ["close"])
  }

  @Test func `a broken head ends it, whatever follows`() {
    var driver = Driver()
    driver.send("GET  / HTTP/1.1\r\nHost: x\r\n\r\n" + Self.get)
    driver.send(Self.get)
    #expect(driver.seen == ["refused bad_request"])
    var large = Driver(headBytes: 100)
    large.send("GET /" + String(repeating: "a", count: 200))
    #expect(large.seen == ["refused headers_too_large"])
  }
}
