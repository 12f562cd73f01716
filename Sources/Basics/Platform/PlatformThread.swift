#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A thread of the operating system that runs one closure. It inherits the signal mask of the thread that starts it;
/// the server blocks its signals before it starts any thread, and the main thread waits for them.
package final class PlatformThread: @unchecked Sendable {
  // Unchecked: the handle is written once, before the object is shared.
  private let handle: pthread_t

  package enum Priority: Sendable {
    case normal
    /// For work that nobody waits for. By Linux's weights (nice 10) it gets about a tenth of a processor that one other thread
    /// wants, too.
    case background
  }

  /// Starts a thread. Traps if that fails, because the server cannot run on such a machine.
  package init(
    name: String, priority: Priority = .normal, _ body: @escaping @Sendable () -> Void
  ) {
    let box = Unmanaged.passRetained(Box(name: name, priority: priority, body: body))
    #if canImport(Glibc)
      var thread = pthread_t()
    #else
      var thread: pthread_t?
    #endif
    let status = pthread_create(
      &thread, nil,
      { argument in
        #if canImport(Glibc)
          guard let argument else { return nil }
        #endif
        let box = Unmanaged<Box>.fromOpaque(argument).takeRetainedValue()
        box.start()
        return nil
      }, box.toOpaque())
    guard status == 0 else { fatalError("pthread_create: \(systemErrorText(status))") }
    #if canImport(Glibc)
      handle = thread
    #else
      guard let thread else { fatalError("pthread_create gave no thread") }
      handle = thread
    #endif
  }

  /// Waits until the closure has returned. May be called once, and not on the thread itself.
  package func join() { pthread_join(handle, nil) }

  private final class Box {
    let name: String
    let priority: Priority
    let body: @Sendable () -> Void

    private static let backgroundNiceness: Int32 = 10

    init(name: String, priority: Priority, body: @escaping @Sendable () -> Void) {
      self.name = name
      self.priority = priority
      self.body = body
    }

    func start() {
      #if canImport(Glibc)
        // Swift cannot see pthread_setname_np in this header, but the kernel also accepts the name through this file.
        // Failures are ignored, because a thread works without its name.
        let descriptor = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
        if descriptor >= 0 {
          let bytes = Array(name.utf8.prefix(15))
          _ = write(descriptor, bytes, bytes.count)
          close(descriptor)
        }
        // On Linux 0 is the calling thread, not its process. If it fails, the thread works all the same.
        if priority == .background {
          _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, Self.backgroundNiceness)
        }
      #else
        pthread_setname_np(name)
        if priority == .background { pthread_set_qos_class_self_np(QOS_CLASS_BACKGROUND, 0) }
      #endif
      body()
    }
  }
}

/// Returns a number that identifies the calling thread. It may be reused after the thread has ended.
package func currentThreadID() -> UInt {
  #if canImport(Glibc)
    UInt(pthread_self())
  #else
    UInt(bitPattern: pthread_self())
  #endif
}
