/// A check of a client's handshake before OpenSSL reads it, which refuses messages that announce too large a size.
///
/// OpenSSL allocates the announced size of a message as soon as it has the header, so nine bytes from a client could
/// cost 128 KiB. The check is a value without a socket. It sees what is not encrypted, which is everything before keys
/// are agreed (RFC 8446, 4 and 5.1; RFC 5246, 7.4).
struct HandshakeGuard {
  /// The number of bytes of the record's header that have been seen, its content type, and how many bytes of it remain.
  private var recordHeaderCount = 0
  private var recordType: UInt8 = 0
  private var recordLeft = 0
  /// The same for the handshake message, which may span several records.
  private var messageHeaderCount = 0
  private var messageLeft = 0
  /// Whether the client has sent ChangeCipherSpec, after which it encrypts. In TLS 1.3 that has no meaning.
  private(set) var hasChangedCipher = false

  /// The size of the largest message that is accepted. Messages of clients with many extensions have 2 KiB.
  private static let maximumMessageBytes = 16 * 1024
  private static let recordHeaderBytes = 5
  private static let messageHeaderBytes = 4
  private static let changeCipherSpec: UInt8 = 20
  private static let handshake: UInt8 = 22

  /// Checks the next bytes from the client. Returns how many of them, at most to the end of a record, may be passed on
  /// to OpenSSL; the next call begins with the rest. Throws `TLSError` if a message announces too large a size.
  mutating func next(_ bytes: UnsafeRawBufferPointer) throws(TLSError) -> Int {
    var position = 0
    while position < bytes.count {
      if recordHeaderCount < Self.recordHeaderBytes {
        readRecordHeader(bytes[position])
        position += 1
      }
      guard recordHeaderCount == Self.recordHeaderBytes else { continue }
      let count = min(recordLeft, bytes.count - position)
      if recordType == Self.handshake {
        try readMessages(UnsafeRawBufferPointer(rebasing: bytes[position..<(position + count)]))
      }
      position += count
      recordLeft -= count
      guard recordLeft == 0 else { continue }
      if recordType == Self.changeCipherSpec { hasChangedCipher = true }
      recordHeaderCount = 0
      return position
    }
    return position
  }

  private mutating func readRecordHeader(_ byte: UInt8) {
    switch recordHeaderCount {
    case 0: recordType = byte
    // The protocol version, which is not checked here.
    case 1, 2: break
    case 3: recordLeft = Int(byte) << 8
    default: recordLeft |= Int(byte)
    }
    recordHeaderCount += 1
  }

  private mutating func readMessages(_ bytes: UnsafeRawBufferPointer) throws(TLSError) {
    var position = 0
    while position < bytes.count {
      if messageHeaderCount < Self.messageHeaderBytes {
        // The message's type, then three bytes of length.
        messageLeft = messageHeaderCount == 0 ? 0 : messageLeft << 8 | Int(bytes[position])
        messageHeaderCount += 1
        position += 1
        guard
          messageHeaderCount < Self.messageHeaderBytes
            || messageLeft <= Self.maximumMessageBytes
        else { throw TLSError("the client's handshake is too long") }
      }
      guard messageHeaderCount == Self.messageHeaderBytes else { continue }
      let count = min(messageLeft, bytes.count - position)
      position += count
      messageLeft -= count
      if messageLeft == 0 { messageHeaderCount = 0 }
    }
  }
}
