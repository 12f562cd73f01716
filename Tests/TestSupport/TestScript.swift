internal import Foundation
internal import Synchronization

/// A script of the acceptance tests that keeps servers for tests of this process: a line in asks for something, a line
/// out answers. It ends, with its servers, when this process does, since its input then ends.
final class TestScript: Sendable {
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  private struct Pipes {
    let requests: FileHandle
    let answers: FileHandle
  }
  private let name: String
  private let pipes: Mutex<Pipes>

  /// `name` is the file's in Tests/Acceptance.
  init(_ name: String) throws {
    self.name = name
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Acceptance/\(name)")
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3", script.path]
    let (input, output) = (Pipe(), Pipe())
    process.standardInput = input
    process.standardOutput = output
    // As the server does: who writes to a closed pipe is told by an error.
    signal(SIGPIPE, SIG_IGN)
    try process.run()
    pipes = Mutex(
      Pipes(requests: input.fileHandleForWriting, answers: output.fileHandleForReading))
  }

  /// The answer's bytes, without the end of the line.
  func ask(_ line: Data) throws -> Data {
    try pipes.withLock { pipes in
      try pipes.requests.write(contentsOf: line + Data("\n".utf8))
      var answer = Data()
      while true {
        guard let byte = try pipes.answers.read(upToCount: 1), !byte.isEmpty else {
          throw Failure(
            description: "\(name) has ended; scripts/install-deps --tests installs what it needs")
        }
        if byte == Data("\n".utf8) { return answer }
        answer.append(byte)
      }
    }
  }
}
