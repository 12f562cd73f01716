internal import Basics
internal import CLibUV

#if canImport(Glibc)
  internal import Glibc

  /// The descriptors that one loop watches: an epoll set (epoll(7)) of its own, whose descriptor libuv watches. Used on
  /// the loop only.
  ///
  /// A `uv_poll_t` for each descriptor would also work, but each would cost four more system calls: libuv first tests
  /// whether the descriptor can be watched, and removes it twice before it watches it (`uv_poll_init` and
  /// `uv_poll_start` of libuv 1.44).
  final class DescriptorSet {
    /// The place of a watch in `slots`. Each place counts its generations, so that a late event for a removed watch is
    /// recognized by its old generation.
    struct Registration {
      fileprivate let index: UInt32
      fileprivate let generation: UInt32

      fileprivate var number: UInt64 { UInt64(generation) << 32 | UInt64(index) }
    }

    private struct Slot {
      var generation: UInt32 = 0
      var watch: DescriptorWatch?
    }

    private let epoll: Int32
    private let handle = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
    private var slots: [Slot] = []
    private var free: [UInt32] = []
    /// The slot of the watch that was added last for each descriptor, or `nobody`. If a descriptor was closed before
    /// its watch, its number may belong to another watch by now.
    private var owners: [UInt32] = []
    /// The number of events that the kernel has reported, for tests.
    private(set) var eventCount = 0
    private let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: eventsAtOnce)

    /// The most descriptors that are reported in one turn. The others are reported in the next turn.
    private static let eventsAtOnce = 256
    private static let nobody = UInt32.max

    init(_ uv: UnsafeMutablePointer<uv_loop_t>) {
      epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
      guard epoll >= 0, uv_poll_init(uv, handle, epoll) == 0 else {
        // Fails only if memory or descriptors run out. A server cannot run without its loops.
        fatalError("a loop could not have its epoll set")
      }
      // Unretained: the loop owns this set, and closes the handle before it ends.
      handle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
      uv_poll_start(handle, Int32(UV_READABLE.rawValue)) { handle, _, _ in
        guard let data = handle?.pointee.data else { return }
        Unmanaged<DescriptorSet>.fromOpaque(data).takeUnretainedValue().dispatch()
      }
    }

    deinit {
      Glibc.close(epoll)
      handle.deallocate()
      events.deallocate()
    }

    /// Stops watching the whole set, so that the loop can end.
    func close() {
      uv_poll_stop(handle)
      handle.withMemoryRebound(to: uv_handle_t.self, capacity: 1) { uv_close($0, nil) }
    }

    /// Adds a watch, and retains it until `remove`. Throws `SystemError` if the kernel cannot watch the descriptor.
    func add(
      _ descriptor: Int32, _ interest: DescriptorWatch.Readiness, _ watch: DescriptorWatch
    ) throws -> Registration {
      let index = free.popLast() ?? UInt32(slots.count)
      if index == slots.count { slots.append(Slot()) }
      let registration = Registration(index: index, generation: slots[Int(index)].generation)
      guard control(EPOLL_CTL_ADD, descriptor, interest, registration) else {
        let reason = errno
        free.append(index)
        throw SystemError("epoll_ctl", errno: reason)
      }
      slots[Int(index)].watch = watch
      while owners.count <= descriptor { owners.append(Self.nobody) }
      owners[Int(descriptor)] = index
      return registration
    }

    /// Changes what is watched. Returns false if the descriptor was closed meanwhile.
    func change(
      _ descriptor: Int32, _ interest: DescriptorWatch.Readiness, _ registration: Registration
    ) -> Bool {
      owners[Int(descriptor)] == registration.index
        && control(EPOLL_CTL_MOD, descriptor, interest, registration)
    }

    func remove(_ descriptor: Int32, _ registration: Registration) {
      if owners[Int(descriptor)] == registration.index {
        owners[Int(descriptor)] = Self.nobody
        // Fails if the descriptor was closed before; then the kernel has removed it already.
        _ = control(EPOLL_CTL_DEL, descriptor, [], registration)
      }
      let index = Int(registration.index)
      slots[index].generation &+= 1
      slots[index].watch = nil
      free.append(registration.index)
    }

    private func control(
      _ operation: Int32, _ descriptor: Int32, _ interest: DescriptorWatch.Readiness,
      _ registration: Registration
    ) -> Bool {
      var flags: UInt32 = 0
      if interest.isReadable { flags |= EPOLLIN.rawValue }
      if interest.isWritable { flags |= EPOLLOUT.rawValue }
      // The kernel reports errors and hang-ups even if they are not requested (epoll_ctl(2)). While nothing is watched,
      // edge triggering limits that to one report, which is ignored.
      if flags == 0 { flags = EPOLLET.rawValue }
      var event = epoll_event(events: flags, data: epoll_data_t(u64: registration.number))
      return epoll_ctl(epoll, operation, descriptor, &event) == 0
    }

    /// Calls the watches whose descriptors are ready. They may close watches and add others meanwhile.
    private func dispatch() {
      let count = max(0, Int(epoll_wait(epoll, events, Int32(Self.eventsAtOnce), 0)))
      eventCount += count
      for position in 0..<count {
        let (flags, number) = (events[position].events, events[position].data.u64)
        let index = Int(UInt32(truncatingIfNeeded: number))
        guard slots[index].generation == UInt32(truncatingIfNeeded: number >> 32),
          let watch = slots[index].watch
        else { continue }
        watch.became(Self.readiness(flags))
      }
    }

    private static func readiness(_ flags: UInt32) -> DescriptorWatch.Readiness {
      if flags & EPOLLERR.rawValue != 0 { return .failed }
      // A hang-up alone counts as readable and writable: the owner finds out about it when it reads or writes.
      if flags & (EPOLLIN.rawValue | EPOLLOUT.rawValue) == 0 { return [.readable, .writable] }
      return DescriptorWatch.Readiness(
        isReadable: flags & (EPOLLIN.rawValue | EPOLLHUP.rawValue) != 0,
        isWritable: flags & EPOLLOUT.rawValue != 0)
    }
  }
#else
  /// The descriptors that one loop watches, each with a libuv handle (http://docs.libuv.org/en/v1.x/poll.html). Used on
  /// the loop only.
  final class DescriptorSet {
    typealias Registration = UnsafeMutablePointer<uv_poll_t>

    private let uv: UnsafeMutablePointer<uv_loop_t>

    init(_ uv: UnsafeMutablePointer<uv_loop_t>) { self.uv = uv }

    func close() {}

    /// Adds a watch, and retains it until `remove`. Throws `SystemError` if the kernel cannot watch the descriptor.
    func add(
      _ descriptor: Int32, _ interest: DescriptorWatch.Readiness, _ watch: DescriptorWatch
    ) throws -> Registration {
      let handle = Registration.allocate(capacity: 1)
      let status = uv_poll_init(uv, handle, descriptor)
      guard status == 0 else {
        handle.deallocate()
        throw SystemError("uv_poll_init", errno: -status)
      }
      // Retained until the handle is closed; released in the close callback below.
      handle.pointee.data = Unmanaged.passRetained(watch).toOpaque()
      _ = change(descriptor, interest, handle)
      return handle
    }

    func change(_: Int32, _ interest: DescriptorWatch.Readiness, _ handle: Registration) -> Bool {
      guard interest.rawValue != 0 else {
        uv_poll_stop(handle)
        return true
      }
      var events: Int32 = 0
      if interest.isReadable { events |= Int32(UV_READABLE.rawValue) }
      if interest.isWritable { events |= Int32(UV_WRITABLE.rawValue) }
      uv_poll_start(handle, events) { handle, status, events in
        guard let data = handle?.pointee.data else { return }
        let watch = Unmanaged<DescriptorWatch>.fromOpaque(data).takeUnretainedValue()
        watch.became(
          status < 0
            ? .failed
            : DescriptorWatch.Readiness(
              isReadable: events & Int32(UV_READABLE.rawValue) != 0,
              isWritable: events & Int32(UV_WRITABLE.rawValue) != 0))
      }
      return true
    }

    func remove(_: Int32, _ handle: Registration) {
      uv_poll_stop(handle)
      handle.withMemoryRebound(to: uv_handle_t.self, capacity: 1) {
        uv_close($0) { handle in
          guard let handle, let data = handle.pointee.data else { return }
          handle.withMemoryRebound(to: uv_poll_t.self, capacity: 1) { $0.deallocate() }
          // Balances `passRetained` in `add`.
          Unmanaged<DescriptorWatch>.fromOpaque(data).release()
        }
      }
    }
  }
#endif
