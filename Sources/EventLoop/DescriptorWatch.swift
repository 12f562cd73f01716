internal import Basics

/// Tells when a descriptor can be read or written. On its loop only; the descriptor stays its owner's
/// and is closed after `close`.
package final class DescriptorWatch {
  package struct Readiness: OptionSet, Sendable {
    package let rawValue: Int32
    package init(rawValue: Int32) { self.rawValue = rawValue }

    package static let readable = Readiness(rawValue: 1)
    package static let writable = Readiness(rawValue: 2)
    /// The descriptor is broken; comes unasked while something is watched, and as the last.
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
  private let descriptor: Int32
  private var registration: DescriptorSet.Registration?
  private var interest: Readiness
  private var ready: ((Readiness) -> Void)?

  /// `ready` is called for what is watched, until `close`. Throws `SystemError` where the kernel does
  /// not watch it: a bad descriptor, or no memory.
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

  /// Watches for these from now on; for nothing where it is empty.
  package func watch(_ interest: Readiness) {
    guard let registration, interest.rawValue != self.interest.rawValue else { return }
    self.interest = interest
    guard !loop.descriptors.change(descriptor, interest, registration) else { return }
    // A library that owns it has closed it (libpq does, when its server is gone).
    end(registration)
    loop.onNextTurn { self.ready?(.failed) }
  }

  /// Ends it; harmless a second time.
  package func close() {
    loop.preconditionOnLoop()
    ready = nil
    if let registration { end(registration) }
  }

  private func end(_ registration: DescriptorSet.Registration) {
    self.registration = nil
    loop.descriptors.remove(descriptor, registration)
  }

  /// Something has come of what is watched.
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
