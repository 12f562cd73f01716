internal import Basics
internal import Server

// The process ends here rather than by returning: threads of the server may still be at work.
let status = MartletCommand.run(
  Array(CommandLine.arguments.dropFirst()), environment: ProcessEnvironment.all)
ProcessEnvironment.exit(status)
