import TestSupport
import Testing

@testable import Live

/// Frames for one connection, compared with a list that does the same in a simple way.
struct OwnFramesTests {
  private final class Owner {}

  @Test(arguments: 1...50)
  func `taking back takes the owner's parts and no others`(seed: UInt64) {
    var random = SeededRandom(seed: seed)
    let owners = [Owner(), Owner(), Owner()]
    var frames = OwnFrames()
    var model: [(owner: ObjectIdentifier?, bytes: [UInt8])] = []
    for step in 0..<200 {
      let owner = owners.randomElement(using: &random).map { ObjectIdentifier($0) }
      switch Int.random(in: 0..<20, using: &random) {
      case 0:
        frames.removeAll()
        model = []
      case 1, 2:
        guard let owner else { continue }
        frames.discard(owner)
        model.removeAll { $0.owner == owner }
      default:
        let bytes = [UInt8](repeating: UInt8(step), count: .random(in: 0...5, using: &random))
        let isAnyones = Bool.random(using: &random)
        frames.append(bytes, of: isAnyones ? nil : owner)
        model.append((isAnyones ? nil : owner, bytes))
      }
      #expect(frames.bytes == model.flatMap(\.bytes))
    }
  }

  @Test func `memory is kept unless there is much of it`() {
    var frames = OwnFrames()
    #expect(!frames.isWorthKeeping)
    frames.append([1, 2, 3], of: nil)
    #expect(frames.isWorthKeeping)
    frames.removeAll()
    #expect(frames.bytes.isEmpty && frames.isWorthKeeping)
    frames.append([UInt8](repeating: 0, count: 32 * 1024), of: nil)
    #expect(!frames.isWorthKeeping)
  }
}
