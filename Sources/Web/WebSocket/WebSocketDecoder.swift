/// A decoder of WebSocket frames (RFC 6455) from clients. A value: bytes go in, events come out. It has no socket and
/// no clock.
///
/// Checks what the RFC requires of a server: frames are masked and have no reserved bits set; control frames are short
/// and not fragmented; fragments are in order; texts and close reasons are UTF-8; close codes are those that may be
/// sent.
struct WebSocketDecoder {
  enum Event: Equatable {
    /// A complete text message of valid UTF-8. The bytes are valid during the callback only.
    case text(UnsafeRawBufferPointer)
    case binary
    case ping([UInt8])
    case pong
    /// A close frame; the code is nil if the frame has none (RFC 6455, 7.1.5). No further events follow.
    case close(code: UInt16?)
    /// The peer violated the protocol. The caller must close with this code. No further events follow.
    case failure(code: UInt16, reason: StaticString)

    static func == (left: Event, right: Event) -> Bool {
      switch (left, right) {
      case (.text(let left), .text(let right)): left.elementsEqual(right)
      case (.binary, .binary), (.pong, .pong): true
      case (.ping(let left), .ping(let right)): left == right
      case (.close(let left), .close(let right)): left == right
      case (.failure(let left, _), .failure(let right, _)): left == right
      default: false
      }
    }
  }

  private enum Opcode: UInt8 {
    case continuation = 0
    case text = 1
    case binary = 2
    case close = 8
    case ping = 9
    case pong = 10
  }

  private let maximumMessageBytes: Int
  /// The beginning of a frame that has not arrived completely, still masked.
  private var pending: [UInt8] = []
  /// The payload of the fragments that have arrived of a fragmented message; nil if there is none.
  private var fragments: [UInt8]?
  private var isFragmentedText = false
  /// The UTF-8 validation state of a text message's bytes so far, which may end in the middle of a frame.
  private var text = UTF8Validator()
  /// The number of bytes of the current frame's payload that `text` has already validated.
  private var checkedBytes = 0
  private var hasEnded = false

  /// The memory that is held for an unfinished frame and an unfinished message, in bytes.
  var heldBytes: Int { pending.capacity + (fragments?.capacity ?? 0) }

  init(maximumMessageBytes: Int) { self.maximumMessageBytes = maximumMessageBytes }

  /// Decodes bytes that arrived, and calls `emit` for each event. If `emit` returns false, nothing more is decoded,
  /// now or later. Bytes are unmasked in place, so that a complete frame costs no copy.
  mutating func receive(
    _ bytes: UnsafeMutableRawBufferPointer, emit: (Event) -> Bool
  ) {
    guard !hasEnded else { return }
    if pending.isEmpty {
      let used = consume(bytes, emit: emit)
      if used < bytes.count, !hasEnded { pending.append(contentsOf: bytes[used...]) }
      return
    }
    var joined = pending
    pending = []
    joined.append(contentsOf: bytes)
    let used = joined.withUnsafeMutableBytes { consume($0, emit: emit) }
    guard !hasEnded else { return }
    if used == 0 { pending = joined } else { pending.append(contentsOf: joined[used...]) }
  }

  /// Decodes the complete frames at the start of `bytes`. Returns how many bytes they took.
  private mutating func consume(
    _ bytes: UnsafeMutableRawBufferPointer, emit: (Event) -> Bool
  ) -> Int {
    var position = 0
    while !hasEnded, let header = header(UnsafeRawBufferPointer(rebasing: bytes[position...])) {
      switch header {
      case .failure(let code, let reason):
        fail(code, reason, emit)
        return position
      case .frame(let frame):
        let end = position + frame.headerBytes + frame.payloadBytes
        guard end <= bytes.count else {
          let part = bytes[(position + frame.headerBytes)...]
          if !checkPart(UnsafeRawBufferPointer(rebasing: part), of: frame) {
            fail(1007, "text is not UTF-8", emit)
          }
          return position
        }
        let payload = UnsafeMutableRawBufferPointer(
          rebasing: bytes[(position + frame.headerBytes)..<end])
        unmask(payload, key: frame.maskingKey)
        position = end
        if !handle(frame, UnsafeRawBufferPointer(payload), emit) { hasEnded = true }
      }
    }
    return position
  }

  private mutating func fail(_ code: UInt16, _ reason: StaticString, _ emit: (Event) -> Bool) {
    hasEnded = true
    pending = []
    fragments = nil
    _ = emit(.failure(code: code, reason: reason))
  }

  // MARK: Headers

  private struct Frame {
    let isFinal: Bool
    let opcode: Opcode
    let headerBytes: Int
    let payloadBytes: Int
    let maskingKey: UInt32
  }

  private enum Header {
    case frame(Frame)
    case failure(UInt16, StaticString)
  }

  /// Parses the header at the start of `bytes`. Returns nil if it is incomplete. Violations are found as early as
  /// possible: an oversized frame is refused by its announced length, before its payload arrives.
  private func header(_ bytes: UnsafeRawBufferPointer) -> Header? {
    guard bytes.count >= 2 else { return nil }
    let first = bytes[0]
    let second = bytes[1]
    guard first & 0x70 == 0 else { return .failure(1002, "reserved bit set") }
    guard let opcode = Opcode(rawValue: first & 0x0F) else {
      return .failure(1002, "unknown opcode")
    }
    guard second & 0x80 != 0 else { return .failure(1002, "frame without mask") }
    let isFinal = first & 0x80 != 0
    let isControl = opcode.rawValue >= 8
    var length = Int(second & 0x7F)
    if isControl, !isFinal || length > 125 {
      return .failure(1002, "control frame too long or cut")
    }
    switch opcode {
    case .continuation where fragments == nil: return .failure(1002, "continuation of nothing")
    case .text where fragments != nil, .binary where fragments != nil:
      return .failure(1002, "message inside a message")
    default: break
    }
    var headerBytes = 2
    if length == 126 {
      guard bytes.count >= 4 else { return nil }
      length = Int(bytes[2]) << 8 | Int(bytes[3])
      headerBytes = 4
    } else if length == 127 {
      guard bytes.count >= 10 else { return nil }
      guard bytes[2] & 0x80 == 0 else { return .failure(1002, "length with its top bit set") }
      // The top bit is clear, so the value fits into an Int.
      length = bytes[2..<10].reduce(0) { $0 << 8 | Int($1) }
      headerBytes = 10
    }
    if !isControl, length > maximumMessageBytes - (fragments?.count ?? 0) {
      return .failure(1009, "message too big")
    }
    guard bytes.count >= headerBytes + 4 else { return nil }
    let key = bytes.loadUnaligned(fromByteOffset: headerBytes, as: UInt32.self)
    return .frame(
      Frame(
        isFinal: isFinal, opcode: opcode, headerBytes: headerBytes + 4, payloadBytes: length,
        maskingKey: key))
  }

  private func unmask(_ bytes: UnsafeMutableRawBufferPointer, key: UInt32) {
    let wide = UInt64(key) | UInt64(key) << 32
    var offset = 0
    while offset + 8 <= bytes.count {
      let word = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      bytes.storeBytes(of: word ^ wide, toByteOffset: offset, as: UInt64.self)
      offset += 8
    }
    withUnsafeBytes(of: key) { keyBytes in
      while offset < bytes.count {
        bytes[offset] ^= keyBytes[offset & 3]
        offset += 1
      }
    }
  }

  // MARK: Frames

  private func isText(_ frame: Frame) -> Bool {
    frame.opcode == .text || (frame.opcode == .continuation && isFragmentedText)
  }

  /// Validates the part of a text frame's payload that has arrived, so that invalid UTF-8 is refused at once. The
  /// bytes are still masked.
  private mutating func checkPart(_ payload: UnsafeRawBufferPointer, of frame: Frame) -> Bool {
    guard isText(frame) else { return true }
    if frame.opcode == .text, checkedBytes == 0 { text = UTF8Validator() }
    return withUnsafeBytes(of: frame.maskingKey) { key in
      while checkedBytes < payload.count {
        guard text.take(payload[checkedBytes] ^ key[checkedBytes & 3]) else { return false }
        checkedBytes += 1
      }
      return true
    }
  }

  /// Validates the rest of a text frame's payload, which has arrived completely and is unmasked. Also checks that the
  /// message does not end in the middle of a character.
  private mutating func checkRest(_ payload: UnsafeRawBufferPointer, of frame: Frame) -> Bool {
    if frame.opcode == .text, checkedBytes == 0 {
      // Fast path: a complete message in one frame, as nearly all are.
      if frame.isFinal { return isValidUTF8(payload) }
      text = UTF8Validator()
    }
    let isGood = payload[min(checkedBytes, payload.count)...].allSatisfy { text.take($0) }
    checkedBytes = 0
    return isGood && (!frame.isFinal || text.isComplete)
  }

  private mutating func handle(
    _ frame: Frame, _ payload: UnsafeRawBufferPointer, _ emit: (Event) -> Bool
  ) -> Bool {
    if isText(frame), !checkRest(payload, of: frame) {
      fail(1007, "text is not UTF-8", emit)
      return false
    }
    switch frame.opcode {
    case .ping: return emit(.ping([UInt8](payload)))
    case .pong: return emit(.pong)
    case .close:
      hasEnded = true
      return emit(closeEvent(payload))
    case .text, .binary:
      if frame.isFinal { return deliver(payload, isText: frame.opcode == .text, emit) }
      fragments = [UInt8](payload)
      isFragmentedText = frame.opcode == .text
      return true
    case .continuation:
      fragments?.append(contentsOf: payload)
      guard frame.isFinal, let message = fragments else { return true }
      fragments = nil
      return message.withUnsafeBytes { deliver($0, isText: isFragmentedText, emit) }
    }
  }

  private func deliver(
    _ message: UnsafeRawBufferPointer, isText: Bool, _ emit: (Event) -> Bool
  ) -> Bool {
    isText ? emit(.text(message)) : emit(.binary)
  }

  private func closeEvent(_ payload: UnsafeRawBufferPointer) -> Event {
    if payload.isEmpty { return .close(code: nil) }
    guard payload.count >= 2 else { return .failure(code: 1002, reason: "close code cut") }
    let code = UInt16(payload[0]) << 8 | UInt16(payload[1])
    switch code {
    case 1000...1003, 1007...1014, 3000...4999: break
    default: return .failure(code: 1002, reason: "close code that may not be sent")
    }
    guard isValidUTF8(UnsafeRawBufferPointer(rebasing: payload[2...])) else {
      return .failure(code: 1007, reason: "close reason is not UTF-8")
    }
    return .close(code: code)
  }
}
