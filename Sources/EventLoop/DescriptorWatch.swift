internal import Basics

/// Reports when a descriptor can be read or written. Used on its loop only. The descriptor still belongs to its
/// owner, which closes it after `close`.
package final class DescriptorWatch {
  package struct Readiness: OptionSet, Sendable {
    package let rawValue: Int32
    package init(rawValue: Int32) { self.rawValue = rawValue }

    package static let readable = Readiness(rawValue: 1)
    package static let writable = Readiness(rawValue: 2)
    /// The descriptor is broken. Reported even if not requested while something is watched; nothing is reported after
    /// it.
    package static let failed = Readiness(rawValue: 4)

    // For hot paths of other targets: there the compiler would use the option set's generic operations.

    package init(isReadable: Bool, isWritable: Bool) {
      rawValue = (isReadable ? 1 : 0) | (isWritable ? 2 : 0)
    }

    package var isReadable: Bool { rawValue & 1 != 0 }
    package var isWritable: Bool { rawValue & 2 != 0 }
    package var hasFailed: Bool { rawValue & 4 != 0 }
  }

  private let loop: Loop
  private let descriptor: Int32
  private var registration: DescriptorSet.Registration?
  private var interest: Readiness
  private var ready: ((Readiness) -> Void)?

  /// `ready` is called for what is watched, until `close`. Throws `SystemError` if the kernel cannot watch the
  /// descriptor, because it is not valid or memory is short.
  package init(
    loop: Loop, descriptor: Int32, watching interest: Readiness = [],
    _ ready: @escaping (Readiness) -> Void
  ) throws {
    loop.preconditionOnLoop()
    self.loop = loop
    self.descriptor = descriptor
    self.interest = interest
    self.ready = ready
    registration = try loop.descriptors.add(descriptor, interest, self)
  }

  /// From now on watches for these events; for none if the set is empty.
  package func watch(_ interest: Readiness) {
    guard let registration, interest.rawValue != self.interest.rawValue else { return }
    self.interest = interest
    guard !loop.descriptors.change(descriptor, interest, registration) else { return }
    // The library that owns it has closed it, as libpq does when its server is gone.
    end(registration)
    loop.onNextTurn { self.ready?(.failed) }
  }

  /// Ends the watch. Calling it again does nothing.
  package func close() {
    loop.preconditionOnLoop()
    ready = nil
    if let registration { end(registration) }
  }

  private func end(_ registration: DescriptorSet.Registration) {
    self.registration = nil
    loop.descriptors.remove(descriptor, registration)
  }

  /// The descriptor has become ready in this way.
  func became(_ readiness: Readiness) {
    guard interest.rawValue != 0 else { return }
    if readiness.hasFailed {
      watch([])
      ready?(readiness)
    } else {
      let wanted = Readiness(rawValue: readiness.rawValue & interest.rawValue)
      if wanted.rawValue != 0 { ready?(wanted) }
    }
  }
}
