internal import Basics

/// A watch on a descriptor, which reports when it can be read or written. Used on its loop only. The descriptor still
/// belongs to its owner, which closes it after it has called `close`.
package final class DescriptorWatch {
  /// The ways in which a descriptor is ready, or in which the owner wants to know that it is.
  package struct Readiness: OptionSet, Sendable {
    package let rawValue: Int32
    package init(rawValue: Int32) { self.rawValue = rawValue }

    package static let readable = Readiness(rawValue: 1)
    package static let writable = Readiness(rawValue: 2)
    /// The descriptor is broken. Reported even if it was not requested, as long as anything is watched. After it
    /// nothing is watched.
    package static let failed = Readiness(rawValue: 4)

    // For hot paths of other targets, where the compiler would call the generic operations of `OptionSet` instead.

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

  /// Starts to watch a descriptor. `ready` is called on the loop, as long as the descriptor is ready in a watched way,
  /// until `close`. Throws `SystemError` if the kernel cannot watch the descriptor, because it is not valid, it is a
  /// regular file, or memory is short. On the loop only.
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

  /// Changes what is watched. An empty set watches nothing, until the next call.
  package func watch(_ interest: Readiness) {
    guard let registration, interest.rawValue != self.interest.rawValue else { return }
    self.interest = interest
    guard !loop.descriptors.change(descriptor, interest, registration) else { return }
    // The library that owns the descriptor has closed it, as libpq does when its server is gone.
    end(registration)
    loop.onNextTurn { self.ready?(.failed) }
  }

  /// Ends the watch: `ready` is not called any more. Calling it again does nothing.
  package func close() {
    loop.preconditionOnLoop()
    ready = nil
    if let registration { end(registration) }
  }

  private func end(_ registration: DescriptorSet.Registration) {
    self.registration = nil
    loop.descriptors.remove(descriptor, registration)
  }

  /// Reports what is both ready and watched. Called by the loop's `DescriptorSet`.
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
