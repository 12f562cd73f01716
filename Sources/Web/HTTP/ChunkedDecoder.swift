internal import Basics

/// Decodes a body in chunked encoding (RFC 9112, 7.1), strictly. A value: bytes go in, data comes out.
///
/// Lines end in CR LF. A size has at most 16 hexadecimal digits. Extensions and trailers are dropped. Their total
/// length is bounded, so that a body of nothing else ends too.
struct ChunkedDecoder: Sendable {
  /// Why the body is malformed. Nothing after it on the connection can be trusted.
  struct Failure: Error, Equatable {
    let message: String
  }

  private enum State {
    /// In the line with the size of a chunk.
    case size(digits: Int, value: UInt64)
    /// After the size, in its extensions.
    case sizeExtension
    /// After the CR of a size line.
    case sizeEnd
    case data(left: UInt64)
    /// After a chunk's data: CR, then LF.
    case dataEnd
    case dataEndLine
    /// At the start of a trailer line, after `count` lines.
    case trailer
    case trailerName
    case trailerValue
    case trailerEnd
    /// After the CR of the empty line at the end.
    case lastEnd
    case done
  }

  private var state = State.size(digits: 0, value: 0)
  /// The size of the chunk that begins after this line.
  private var size: UInt64 = 0
  private var overheadBytes = 0

  /// The most bytes of extensions and trailers in one body.
  private static let maximumOverheadBytes = 8 * 1024
  private static let maximumSizeDigits = 16

  var isDone: Bool { if case .done = state { true } else { false } }

  /// Decodes bytes and calls `emit` with each piece of data, until it returns false, the bytes are used up, or the
  /// body ends. Returns how many bytes were used, including those of the last piece.
  mutating func decode(
    _ bytes: UnsafeRawBufferPointer, _ emit: (UnsafeRawBufferPointer) -> Bool
  ) throws(Failure) -> Int {
    var position = 0
    while position < bytes.count, !isDone {
      if case .data(let left) = state {
        let count = Int(min(left, UInt64(bytes.count - position)))
        let piece = UnsafeRawBufferPointer(rebasing: bytes[position..<(position + count)])
        position += count
        let rest = left - UInt64(count)
        state = rest == 0 ? .dataEnd : .data(left: rest)
        if !emit(piece) { return position }
        continue
      }
      try take(bytes[position])
      position += 1
    }
    return position
  }

  private mutating func take(_ byte: UInt8) throws(Failure) {
    switch state {
    case .size(let digits, let value): try takeSize(byte, digits, value)
    case .sizeExtension:
      try countOverhead()
      if byte == 0x0D { state = .sizeEnd } else { try checkText(byte) }
    case .sizeEnd:
      try expect(byte, 0x0A)
      state = size == 0 ? .trailer : .data(left: size)
    case .dataEnd:
      try expect(byte, 0x0D)
      state = .dataEndLine
    case .dataEndLine:
      try expect(byte, 0x0A)
      state = .size(digits: 0, value: 0)
    case .trailer:
      if byte == 0x0D {
        state = .lastEnd
      } else {
        try takeTrailerName(byte)
      }
    case .trailerName:
      if byte == UInt8(ascii: ":") {
        try countOverhead()
        state = .trailerValue
      } else {
        try takeTrailerName(byte)
      }
    case .trailerValue:
      try countOverhead()
      if byte == 0x0D { state = .trailerEnd } else { try checkText(byte) }
    case .trailerEnd:
      try expect(byte, 0x0A)
      state = .trailer
    case .lastEnd:
      try expect(byte, 0x0A)
      state = .done
    case .data, .done: break
    }
  }

  private mutating func takeSize(
    _ byte: UInt8, _ digits: Int, _ value: UInt64
  ) throws(Failure) {
    if let digit = hexDigit(byte) {
      guard digits < Self.maximumSizeDigits else {
        throw Failure(message: "The size of a chunk has too many digits.")
      }
      state = .size(digits: digits + 1, value: value << 4 | UInt64(digit))
      return
    }
    guard digits > 0, value <= UInt64(Int.max) else {
      throw Failure(message: "The size of a chunk is malformed.")
    }
    size = value
    switch byte {
    case 0x0D: state = .sizeEnd
    case UInt8(ascii: ";"): state = .sizeExtension
    default: throw Failure(message: "The size of a chunk is malformed.")
    }
  }

  private mutating func takeTrailerName(_ byte: UInt8) throws(Failure) {
    try countOverhead()
    guard isTokenByte(byte) else { throw Failure(message: "A trailer is malformed.") }
    state = .trailerName
  }

  private mutating func countOverhead() throws(Failure) {
    overheadBytes += 1
    guard overheadBytes <= Self.maximumOverheadBytes else {
      throw Failure(message: "The extensions or trailers of a chunked body are too long.")
    }
  }

  private func expect(_ byte: UInt8, _ wanted: UInt8) throws(Failure) {
    guard byte == wanted else { throw Failure(message: "A line of a chunked body is malformed.") }
  }

  private func checkText(_ byte: UInt8) throws(Failure) {
    guard byte >= 0x20 && byte != 0x7F || byte == 0x09 else {
      throw Failure(message: "A chunked body holds a control character between its chunks.")
    }
  }
}
