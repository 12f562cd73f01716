internal import COpenSSL

/// Where sessions read what came from the network and write what is to go there: memory, in place of a socket.
///
/// One wire serves any number of sessions of one thread, since it holds bytes only while a call to a session runs. So a
/// session that lies idle has no buffers here.
///
/// BIO_meth_new(3)
package final class TLSWire {
  /// Counted by OpenSSL: each session holds it once, and this object once.
  let bio: OpaquePointer
  /// What came from the network and was not read yet.
  var input = UnsafeRawBufferPointer(start: nil, count: 0)
  /// Encrypted, for the network. Whoever called a session takes it before the next session is called.
  package var output: [UInt8] = []
  /// What a session decrypted last.
  let plain = UnsafeMutableRawBufferPointer.allocate(byteCount: plainBytes, alignment: 16)

  /// The largest record holds 16 KiB (RFC 8446, 5.1).
  private static let plainBytes = 16 * 1024

  package init() {
    // Out of memory only: nothing else is set up.
    guard let bio = BIO_new(Method.shared.pointer) else { fatalError("BIO_new failed") }
    self.bio = bio
    // Unretained: sessions hold the wire as long as OpenSSL holds the BIO.
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

  /// What OpenSSL calls to read and write.
  // Unchecked: it is not changed once it is made.
  private struct Method: @unchecked Sendable {
    let pointer: OpaquePointer

    static let shared = Method()

    private init() {
      // Out of memory only.
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
      // Nothing is kept back, so flushing is done at once; the other questions are answered with no.
      BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
      pointer = method
    }
  }
}
