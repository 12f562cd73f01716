internal import COpenSSL

/// The memory that TLS sessions use instead of a socket: they read bytes from the network from it, and write bytes for
/// the network to it.
///
/// One wire serves all sessions of a thread, because it holds bytes only during a call of a session. So an idle session
/// has no buffers here.
///
/// See BIO_meth_new(3).
package final class TLSWire {
  /// The OpenSSL object of this wire, which is reference-counted: every session holds a reference, and so does this
  /// object.
  let bio: OpaquePointer
  /// The bytes from the network that the present session has not read yet.
  var input = UnsafeRawBufferPointer(start: nil, count: 0)
  /// The encrypted bytes for the network. The caller of a session takes them before it calls another session.
  package var output: [UInt8] = []
  /// The buffer for the data that a session has just decrypted.
  let plain = UnsafeMutableRawBufferPointer.allocate(byteCount: plainBytes, alignment: 16)

  /// The size of the data in the largest record, 16 KiB (RFC 8446, 5.1).
  private static let plainBytes = 16 * 1024

  package init() {
    // Fails only if memory runs out, because it does nothing but allocate.
    guard let bio = BIO_new(Method.shared.pointer) else { fatalError("BIO_new failed") }
    self.bio = bio
    // Unretained: sessions retain the wire as long as OpenSSL holds the BIO.
    BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
    BIO_set_init(bio, 1)
  }

  deinit {
    BIO_free(bio)
    plain.deallocate()
  }

  private func read(into target: UnsafeMutableRawPointer, atMost count: Int) -> Int {
    let taken = min(count, input.count)
    guard taken > 0, let start = input.baseAddress else { return 0 }
    target.copyMemory(from: start, byteCount: taken)
    input = UnsafeRawBufferPointer(rebasing: input[taken...])
    return taken
  }

  private static func of(_ bio: OpaquePointer?) -> TLSWire? {
    BIO_get_data(bio).map { Unmanaged<TLSWire>.fromOpaque($0).takeUnretainedValue() }
  }

  /// The functions that OpenSSL calls to read and write.
  // Unchecked: it is not modified after `init`.
  private struct Method: @unchecked Sendable {
    let pointer: OpaquePointer

    static let shared = Method()

    private init() {
      // Fails only if memory runs out.
      guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "martlet") else {
        fatalError("BIO_meth_new failed")
      }
      BIO_meth_set_read_ex(method) { bio, target, count, taken in
        martlet_bio_clear_retry(bio)
        guard let target, let taken, let wire = TLSWire.of(bio) else { return 0 }
        taken.pointee = wire.read(into: UnsafeMutableRawPointer(target), atMost: count)
        if taken.pointee == 0 { martlet_bio_retry_read(bio) }
        return taken.pointee > 0 ? 1 : 0
      }
      BIO_meth_set_write_ex(method) { bio, source, count, taken in
        martlet_bio_clear_retry(bio)
        guard let source, let taken, let wire = TLSWire.of(bio) else { return 0 }
        wire.output.append(contentsOf: UnsafeRawBufferPointer(start: source, count: count))
        taken.pointee = count
        return 1
      }
      // Nothing is buffered, so a flush always succeeds. All other requests are answered with 0.
      BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
      pointer = method
    }
  }
}
