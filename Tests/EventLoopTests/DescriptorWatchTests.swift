import Basics
import Synchronization
import Testing

@testable import EventLoop

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Watching descriptors, with real sockets.
@Suite(.timeLimit(.minutes(1))) struct DescriptorWatchTests {
  /// Two ends of a stream, and the events of the first. Used on the loop only, except for the descriptors.
  private final class Pair: @unchecked Sendable {
    // Unchecked: the rest is used on the loop only.
    let near: Int32
    let far: Int32
    var watch: DescriptorWatch?
    var told: [DescriptorWatch.Readiness] = []
    var onReady: ((DescriptorWatch.Readiness) -> Void)?

    init(_ loop: Loop, watching interest: DescriptorWatch.Readiness) throws {
      var ends: [Int32] = [0, 0]
      #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
      (near, far) = (ends[0], ends[1])
      watch = try DescriptorWatch(loop: loop, descriptor: near, watching: interest) {
        [unowned self] in
        told.append($0)
        onReady?($0)
      }
    }

    func say() { #expect(send(far, "x", 1, 0) == 1) }
    func hear() {
      var byte: UInt8 = 0
      #expect(recv(near, &byte, 1, 0) == 1)
    }

    func end() {
      watch?.close()
      watch = nil
      close(near)
      close(far)
    }
  }

  /// Lets the loop poll its sockets a few times.
  private func turns(_ loop: Loop) async { for _ in 0..<5 { await loop.nextTurn() } }

  @Test func `what is watched is told, again and again until it is done`() throws {
    let loop = Loop()
    try loop.runBlocking {
      let pair = try Pair(loop, watching: .readable)
      await turns(loop)
      #expect(pair.told.isEmpty)
      pair.say()
      await turns(loop)
      #expect(pair.told.count >= 2 && pair.told.allSatisfy { $0 == .readable })
      pair.hear()
      await turns(loop)
      let before = pair.told.count
      pair.watch?.watch([.readable, .writable])
      await turns(loop)
      #expect(pair.told.count > before && pair.told.last == .writable)
      pair.end()
    }
    loop.stop()
  }

  @Test func `while nothing is watched nothing is told, and nothing is lost`() throws {
    let loop = Loop()
    try loop.runBlocking {
      let pair = try Pair(loop, watching: .readable)
      pair.watch?.watch([])
      pair.say()
      // Both sides are shut down, which the kernel always reports.
      shutdown(pair.far, Int32(SHUT_RDWR))
      await turns(loop)
      #expect(pair.told.isEmpty)
      pair.watch?.watch(.writable)
      await turns(loop)
      #expect(pair.told.first == .writable && !pair.told.contains(.readable))
      pair.told = []
      pair.watch?.watch(.readable)
      await turns(loop)
      #expect(pair.told.first == .readable)
      pair.end()
    }
    loop.stop()
  }

  #if canImport(Glibc)
    @Test func `the kernel is silent about a descriptor that hung up and is not watched`() throws {
      let loop = Loop()
      try loop.runBlocking {
        let pair = try Pair(loop, watching: [])
        shutdown(pair.far, Int32(SHUT_RDWR))
        // Reported once, not repeatedly, which would keep the loop turning.
        await turns(loop)
        await turns(loop)
        #expect(loop.descriptors.eventCount <= 1 && pair.told.isEmpty)
        pair.end()
      }
      loop.stop()
    }
  #endif

  @Test func `a broken descriptor is told of once`() throws {
    let loop = Loop()
    try loop.runBlocking {
      let pair = try Pair(loop, watching: .readable)
      // Closing the other end with unread bytes is an error on this end (unix(7)).
      #expect(send(pair.near, "x", 1, 0) == 1)
      close(pair.far)
      await turns(loop)
      #expect(pair.told == [.failed])
      pair.watch?.close()
      close(pair.near)
    }
    loop.stop()
  }

  @Test func `whoever is closed by another's call hears nothing more, nor does who has its place`()
    throws
  {
    let loop = Loop()
    try loop.runBlocking {
      let pairs = try (0..<3).map { _ in try Pair(loop, watching: .readable) }
      var late: Pair?
      for pair in pairs {
        pair.say()
        // The first callback closes all watches, including its own; a new watch takes the place of one.
        pair.onReady = { _ in
          for pair in pairs { pair.end() }
          do { late = try Pair(loop, watching: .readable) } catch { Issue.record(error) }
        }
      }
      await turns(loop)
      #expect(pairs.map(\.told.count).reduce(0, +) == 1)
      #expect(late?.told.isEmpty == true)
      late?.end()
    }
    loop.stop()
  }

  @Test func `who has the number of a descriptor that was closed too early loses nothing`() throws {
    let loop = Loop()
    try loop.runBlocking {
      let early = try Pair(loop, watching: .readable)
      let watch = try #require(early.watch)
      // Closes one and gives its number to the other at once, so that nobody else can get it.
      let next = try Pair(loop, watching: [])
      next.watch?.close()
      #expect(dup2(next.near, early.near) == early.near)
      watch.watch(.writable)
      #expect(early.told.isEmpty)
      await turns(loop)
      #expect(early.told == [.failed])
      var count = 0
      let late = try DescriptorWatch(loop: loop, descriptor: early.near, watching: .readable) {
        #expect($0 == .readable)
        count += 1
        early.hear()
      }
      watch.watch(.readable)
      watch.close()
      next.say()
      await turns(loop)
      #expect(count == 1)
      late.close()
      early.end()
      next.end()
    }
    loop.stop()
  }

  @Test func `more than a turn tells of are all told of`() throws {
    let loop = Loop()
    try loop.runBlocking {
      let pairs = try (0..<600).map { _ in try Pair(loop, watching: .readable) }
      for pair in pairs {
        pair.onReady = { [unowned pair] _ in pair.hear() }
        pair.say()
      }
      await turns(loop)
      #expect(pairs.allSatisfy { $0.told == [.readable] })
      for pair in pairs { pair.end() }
    }
    loop.stop()
  }

  @Test func `what cannot be watched is refused`() throws {
    let loop = Loop()
    try loop.runBlocking {
      #expect(throws: SystemError.self) {
        try DescriptorWatch(loop: loop, descriptor: -1) { _ in }
      }
      let file = open("/etc/passwd", O_RDONLY)
      #expect(throws: SystemError.self) {
        try DescriptorWatch(loop: loop, descriptor: file) { _ in }
      }
      close(file)
    }
    loop.stop()
  }
}
