internal import Basics
internal import EventLoop

/// What rooms cost sockets: subscribing to many of them, opening with them, and catching up.
extension Scenario {
  // MARK: subscriptions

  /// Sockets that follow all their rooms. Measures the server's memory per subscription, and the time until many that
  /// connect at once are ready.
  func subscriptions(rooms: Int, connections: Int, _ done: @escaping (Outcome) -> Void) {
    makeRooms(rooms) { [self] _ in
      // The first sockets make the server load the rooms and fill its caches.
      openFollowing(connections / 10, firstUser: 0) { [self] _ in
        let before = usage.residentMegabytes
        openFollowing(connections, firstUser: connections / 10) { [self] seconds in
          let bytes = (usage.residentMegabytes - before) * 1_048_576
          var outcome = Outcome()
          outcome.set("ready_s", seconds)
          outcome.set("bytes_per_subscription", bytes / Double(connections * rooms))
          done(outcome)
        }
      }
    }
  }

  /// Opens all connections at once. When all are ready, calls back with the seconds that it took.
  private func openFollowing(
    _ count: Int, firstUser: Int, _ done: @escaping (_ seconds: Double) -> Void
  ) {
    let start = Monotonic.nanoseconds
    var ready = 0
    for number in 0..<count {
      let handshake = target.handshake(
        user: firstUser + number, room: 0, followsAllRooms: true)
      let client = connect(.webSocket(handshake: handshake))
      client.onClose = { fail("connection \(number) was closed") }
      client.onMessage = { [loop] text in
        guard text.count > 16, text[9] == UInt8(ascii: "r"), text[10] == UInt8(ascii: "e") else {
          return
        }
        ready += 1
        let seconds = Double(Monotonic.nanoseconds - start) / 1e9
        // Waits until temporary memory has been released.
        if ready == count { loop.schedule(after: 1000) { done(seconds) } }
      }
    }
  }

  // MARK: resume

  /// This many sockets catch up at the same time, each with all entries of one room.
  func resume(entries: Int, connections: Int, _ done: @escaping (Outcome) -> Void) {
    openLog(entries) { [self] writer in
      openResuming(writer.room, connections) { [self] clients in
        let start = Monotonic.nanoseconds
        var whole = 0
        var received = 0
        for client in clients {
          client.onMessage = { text in
            if Self.seq(text) != nil { received += 1 }
            guard Self.isResumed(text) else { return }
            whole += 1
            guard whole == clients.count else { return }
            guard received >= entries * clients.count else { fail("\(received) entries only") }
            var outcome = Outcome()
            outcome.set(
              "entries_per_s", Double(received) * 1e9 / Double(Monotonic.nanoseconds - start))
            done(outcome)
          }
          client.send(resumeFrame(writer.room))
        }
      }
    }
  }

  /// The same, but none of them reads. Measures how that slows down a writer in the same room who waits for each ack.
  func stalledResume(
    entries: Int, connections: Int, messages: Int, _ done: @escaping (Outcome) -> Void
  ) {
    openLog(entries) { [self] writer in
      openResuming(writer.room, connections) { [self] clients in
        for client in clients {
          client.onMessage = nil
          client.send(resumeFrame(writer.room))
          client.stopReading()
        }
        whenQuiet { [self] in
          write(messages, by: writer) { [usage, processor = usage.processorSeconds] seconds in
            var outcome = Outcome()
            outcome.set("ms_per_message", seconds * 1000 / Double(messages))
            outcome.set("server_cpu_s", usage.processorSeconds - processor)
            outcome.set("server_mb", usage.residentMegabytes)
            done(outcome)
          }
        }
      }
    }
  }

  /// Calls back when the server is idle: it has sent everything that the kernel accepts for the clients.
  private func whenQuiet(_ done: @escaping () -> Void) {
    let before = usage.processorSeconds
    loop.schedule(after: 500) { [self] in
      if usage.processorSeconds - before < 0.02 { done() } else { whenQuiet(done) }
    }
  }

  /// A room with this many messages, and the member who wrote them.
  private func openLog(_ entries: Int, _ done: @escaping (Member) -> Void) {
    makeRooms(1) { [self] rooms in
      openMembers(rooms, perRoom: 1) { [self] members in
        write(entries, by: members[0]) { _ in done(members[0]) }
      }
    }
  }

  /// Sends messages one after the other, each after the ack of the one before.
  private func write(
    _ count: Int, by writer: Member, _ done: @escaping (_ seconds: Double) -> Void
  ) {
    let start = Monotonic.nanoseconds
    var sent = 0
    func sendOne() {
      sent += 1
      writer.client.send(
        message(room: writer.room, seq: 0, clientID: (writer.number, Int(start % 1_000_000) + sent))
      )
    }
    writer.client.onMessage = { text in
      guard Self.isAck(text) else { return }
      if sent == count { done(Double(Monotonic.nanoseconds - start) / 1e9) } else { sendOne() }
    }
    sendOne()
  }

  /// Sockets without any subscription.
  private func openResuming(
    _ room: Int, _ count: Int, _ done: @escaping ([BenchClient]) -> Void
  ) {
    var clients: [BenchClient] = []
    var ready = 0
    for number in 0..<count {
      let client = connect(.webSocket(handshake: target.handshake(user: number, room: room)))
      clients.append(client)
      client.onClose = { fail("connection \(number) was closed") }
      client.onMessage = { _ in
        ready += 1
        if ready == count { done(clients) }
      }
    }
  }

  private func resumeFrame(_ room: Int) -> [UInt8] {
    BenchClient.textFrame(Array(#"{"type":"resume","channels":{"\#(room)":0}}"#.utf8))
  }

  private static func isResumed(_ text: UnsafeRawBufferPointer) -> Bool {
    text.count > 16 && text[9] == UInt8(ascii: "r") && text[10] == UInt8(ascii: "e")
      && text[11] == UInt8(ascii: "s") && text[12] == UInt8(ascii: "u")
  }
}
