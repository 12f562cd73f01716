internal import Basics
internal import CLibUV

/// Tells when a descriptor can be read or written. On its loop only; the descriptor stays its owner's
/// and is closed after `close`.
///
/// http://docs.libuv.org/en/v1.x/poll.html
package final class DescriptorWatch {
  package struct Readiness: OptionSet, Sendable {
    package let rawValue: Int32
    package init(rawValue: Int32) { self.rawValue = rawValue }

    package static let readable = Readiness(rawValue: 1)
    package static let writable = Readiness(rawValue: 2)
    /// The descriptor is broken; comes unasked.
    package static let failed = Readiness(rawValue: 4)

    // For other targets' hot paths: there the compiler takes a set's own operations by their generic forms.

    package init(isReadable: Bool, isWritable: Bool) {
      rawValue = (isReadable ? 1 : 0) | (isWritable ? 2 : 0)
    }

    package var isReadable: Bool { rawValue & 1 != 0 }
    package var isWritable: Bool { rawValue & 2 != 0 }
    package var hasFailed: Bool { rawValue & 4 != 0 }
  }

  private let loop: Loop
  private let handle = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
  private var ready: ((Readiness) -> Void)?

  /// `ready` is called for what is watched, until `close`. Throws `SystemError` where the kernel does
  /// not watch it: a bad descriptor, or no memory.
  package init(loop: Loop, descriptor: Int32, _ ready: @escaping (Readiness) -> Void) throws {
    loop.preconditionOnLoop()
    self.loop = loop
    self.ready = ready
    let status = uv_poll_init(loop.uv, handle, descriptor)
    guard status == 0 else {
      handle.deallocate()
      throw SystemError("uv_poll_init", errno: -status)
    }
    // Retained until the handle is closed; released in the close callback below.
    handle.pointee.data = Unmanaged.passRetained(self).toOpaque()
  }

  /// Watches for these from now on; for nothing where it is empty.
  package func watch(_ interest: Readiness) {
    guard ready != nil else { return }
    var events: Int32 = 0
    if interest.contains(.readable) { events |= Int32(UV_READABLE.rawValue) }
    if interest.contains(.writable) { events |= Int32(UV_WRITABLE.rawValue) }
    guard events != 0 else {
      uv_poll_stop(handle)
      return
    }
    uv_poll_start(handle, events) { handle, status, events in
      guard let data = handle?.pointee.data else { return }
      let watch = Unmanaged<DescriptorWatch>.fromOpaque(data).takeUnretainedValue()
      var readiness: Readiness = status < 0 ? .failed : []
      if events & Int32(UV_READABLE.rawValue) != 0 { readiness.insert(.readable) }
      if events & Int32(UV_WRITABLE.rawValue) != 0 { readiness.insert(.writable) }
      watch.ready?(readiness)
    }
  }

  /// Ends it; harmless a second time.
  package func close() {
    loop.preconditionOnLoop()
    guard ready != nil else { return }
    ready = nil
    uv_poll_stop(handle)
    handle.withMemoryRebound(to: uv_handle_t.self, capacity: 1) {
      uv_close($0) { handle in
        guard let handle, let data = handle.pointee.data else { return }
        handle.withMemoryRebound(to: uv_poll_t.self, capacity: 1) { $0.deallocate() }
        // The other half of passRetained in init.
        Unmanaged<DescriptorWatch>.fromOpaque(data).release()
      }
    }
  }
}
