internal import Basics
internal import Server

// The process ends here instead of returning, because threads of the server may still be running.
let status = MartletCommand.run(
  Array(CommandLine.arguments.dropFirst()), environment: ProcessEnvironment.all)
ProcessEnvironment.exit(status)
