internal import Basics
internal import Chat
internal import EventLoop
internal import Events

/// What the feeds of a loop read of the database: rooms that it begins to serve, and pieces of their logs.
extension RoomFeeds {
  /// Rooms in one reading: whoever asks for thousands lets others have their turn.
  private static let roomsPerRead = 256

  /// Starts to serve rooms that are not served yet: entries are kept from here on, then the rooms and
  /// their heads are read, some at a time.
  func load(_ ids: [RoomID]) {
    let ids = Set(ids).sorted()
    guard !ids.isEmpty else { return }
    for id in ids { rooms[id] = ServedRoom(id, services.ingest) }
    let feeds = LoopBound(self, on: loop)
    let generation = generation
    loop.task { [log, directory, logger] in
      for start in stride(from: 0, to: ids.count, by: Self.roomsPerRead) {
        let some = Array(ids[start..<min(start + Self.roomsPerRead, ids.count)])
        do {
          let found = try await log.heads(some)
          guard feeds.value.generation == generation else { return }
          for (room, _) in found { directory.put(room) }
          feeds.value.loaded(some, found)
        } catch {
          logger.warning(
            "rooms_not_loaded", ["count": .init(some.count), "cause": .init("\(error)")])
          if feeds.value.generation == generation { feeds.value.notLoaded(some) }
        }
      }
    }
  }

  private func loaded(_ ids: [RoomID], _ found: [(room: Room, lastSeq: Int64)]) {
    let byID = Dictionary(uniqueKeysWithValues: found.map { ($0.room.id, $0) })
    for id in ids {
      guard let served = rooms[id] else { continue }
      handle(id, .loaded(byID[id]))
      if let room = served.feed.room {
        // The room may have changed between the reading and now.
        if let newer = directory.cached(id), newer.accessVersion > room.accessVersion {
          handle(id, .changed(newer))
        } else if served.wantedVersion > room.accessVersion {
          accessChanged(id, served.wantedVersion)
        }
      }
      served.answerWaiters(.success(served.feed.room))
    }
  }

  private func notLoaded(_ ids: [RoomID]) {
    for id in ids {
      // Forgotten first: who asks again while being refused is served anew.
      guard let served = rooms.removeValue(forKey: id) else { continue }
      for output in served.feed.handle(.loadFailed) { carryOut(output, id, served) }
      served.answerWaiters(.failure(AppError(.unavailable)))
    }
  }

  /// Entries of a served room, in order; nil where they could not be read. Calls back later, on the loop.
  func readLog(
    _ id: RoomID, _ after: Int64, _ through: Int64,
    _ then: @escaping ([Entry]?) -> Void
  ) {
    let callback = LoopBound(then, on: loop)
    guard let room = rooms[id]?.feed.room else {
      // Gone meanwhile. Not in the middle of what asked for it.
      loop.execute { callback.value(nil) }
      return
    }
    loop.task { [log, logger, generation, feeds = LoopBound(self, on: loop)] in
      var entries: [Entry]?
      do { entries = try await log.entries(in: room, after: after, through: through) } catch {
        logger.warning("log_not_read", ["room_id": .init(id), "cause": .init("\(error)")])
      }
      callback.value(feeds.value.generation == generation ? entries : nil)
    }
  }
}
