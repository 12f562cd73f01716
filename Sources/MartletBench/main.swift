internal import Basics
internal import EventLoop

// MartletBench SCENARIO --port N [--target martlet|relay] [--path /ws/{room}] [--secret S] [--bearer T]
//   [--seconds N] [--connections N] [--rooms N] [--in-flight N] [--rate N] [--bytes N] [--hold N]
//   [--pids N,N] [--spin 1] [--entries N]
// Scenarios: fanout changes rooms ingest idle connect http subscriptions resume stalled
// Prints one JSON object. `scripts/bench` starts the servers and puts the figures side by side.
Bench.run(Array(CommandLine.arguments.dropFirst()))
