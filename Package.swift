// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

/// Declares a library target of the server.
///
/// Which target may import which is part of the design (docs/ARCHITECTURE.md): `scripts/check` builds with
/// `--explicit-target-dependency-import-check error`, so importing a target that is not listed here is an error.
func target(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func testTarget(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

/// Declares a C library of the system: a module map and a shim header, without logic.
func systemLibrary(
  _ name: String, pkgConfig: String? = nil, apt: String, brew: String
) -> Target {
  .systemLibrary(
    name: name, path: "Sources/C/\(name)", pkgConfig: pkgConfig,
    providers: [.apt([apt]), .brew([brew])])
}

/// Links Swift's runtime statically into release builds for Linux, so that they run on machines without Swift.
let staticRuntime = LinkerSetting.unsafeFlags(
  ["-static-stdlib"], .when(platforms: [.linux], configuration: .release))

/// The fuzzers of the parsers. They are built as tests, or, if `MARTLET_LIBFUZZER` is set (`scripts/fuzz`), as a
/// program that is linked with libFuzzer, which brings a `main` of its own.
let fuzzDependencies: [Target.Dependency] = [
  "Access", "Accounts", "Basics", "Chat", "Crypto", "Events", "RedisFanout", "Relay", "Web",
]
let fuzzTarget: Target =
  Context.environment["MARTLET_LIBFUZZER"] == nil
  ? .testTarget(
    name: "FuzzTests", dependencies: fuzzDependencies + ["TestSupport"], exclude: ["Coverage"],
    swiftSettings: settings)
  : .executableTarget(
    name: "CoverageFuzzer", dependencies: fuzzDependencies, path: "Tests/FuzzTests",
    exclude: ["FuzzTests.swift"], swiftSettings: settings)

let package = Package(
  name: "martlet",
  platforms: [.macOS(.v15)],
  targets: [
    systemLibrary("CLibUV", pkgConfig: "libuv", apt: "libuv1-dev", brew: "libuv"),
    systemLibrary("CSQLite", pkgConfig: "sqlite3", apt: "libsqlite3-dev", brew: "sqlite"),
    systemLibrary("CPostgres", pkgConfig: "libpq", apt: "libpq-dev", brew: "libpq"),
    systemLibrary("CSodium", pkgConfig: "libsodium", apt: "libsodium-dev", brew: "libsodium"),
    systemLibrary("COpenSSL", pkgConfig: "openssl", apt: "libssl-dev", brew: "openssl"),
    systemLibrary("CArchive", pkgConfig: "libarchive", apt: "libarchive-dev", brew: "libarchive"),
    systemLibrary("CHiredis", apt: "libhiredis-dev", brew: "hiredis"),
    systemLibrary("CBrotli", pkgConfig: "libbrotlienc", apt: "libbrotli-dev", brew: "brotli"),
    .systemLibrary(name: "CAllocator", path: "Sources/C/CAllocator"),
    systemLibrary("CUTF8Proc", apt: "libutf8proc-dev", brew: "utf8proc"),
    systemLibrary("CZlib", pkgConfig: "zlib", apt: "zlib1g-dev", brew: "zlib"),

    .target(name: "Documents"),
    target("Basics"),
    target("EventLoop", ["Basics", "CLibUV"]),
    target("Crypto", ["Basics", "CSodium"]),
    target("Words", ["CUTF8Proc"]),
    target("Archive", ["Basics", "CArchive"]),
    target("Access", ["Basics"]),
    target("Web", ["Access", "Basics", "EventLoop", "TLS", "CBrotli", "CZlib"]),
    target("Database", ["Basics", "EventLoop", "CSQLite", "CPostgres"]),
    target(
      "Accounts",
      [
        "Access", "Archive", "Basics", "Crypto", "Database", "EventLoop", "Events", "Web", "Words",
      ]),
    target("Events", ["Access", "Basics"]),
    target("TLS", ["Basics", "COpenSSL"]),
    target(
      "RedisFanout", ["Access", "Basics", "Crypto", "EventLoop", "Events", "TLS", "CHiredis"]),
    target("Live", ["Basics", "EventLoop", "Web"]),
    target(
      "Chat",
      [
        "Access", "Accounts", "Basics", "Crypto", "Database", "EventLoop", "Events", "Web", "Words",
      ]),
    target("Presence", ["Access", "Accounts", "Basics", "Database", "Events"]),
    target(
      "Relay",
      [
        "Access", "Accounts", "Basics", "Chat", "EventLoop", "Events", "Live", "Presence", "Web",
        "Words",
      ]),
    target(
      "Server",
      [
        "Access", "Accounts", "Basics", "Chat", "Crypto", "Database", "Documents", "EventLoop",
        "Events", "Live", "Presence", "RedisFanout", "Relay", "TLS", "Web", "CAllocator",
      ]),
    .executableTarget(
      name: "martlet", dependencies: ["Basics", "Server"], swiftSettings: settings,
      linkerSettings: [staticRuntime]),
    .executableTarget(
      name: "MartletBench", dependencies: ["Basics", "Crypto", "EventLoop"],
      swiftSettings: settings),

    .executableTarget(
      name: "EdgeServer", dependencies: ["Access", "Basics", "EventLoop", "Server", "Web"],
      path: "Tests/EdgeServer", swiftSettings: settings, linkerSettings: [staticRuntime]),
    .target(
      name: "TestSupport",
      dependencies: ["Access", "Basics", "Database", "EventLoop", "Live", "Web"],
      path: "Tests/TestSupport", swiftSettings: settings),
    testTarget("BasicsTests", ["Basics", "TestSupport"]),
    testTarget(
      "AccountsTests", ["Access", "Accounts", "Basics", "Database", "Events", "TestSupport"]),
    testTarget("EventsTests", ["Access", "Basics", "Events", "TestSupport"]),
    testTarget(
      "RedisFanoutTests",
      ["Access", "Basics", "Crypto", "EventLoop", "Events", "RedisFanout", "TestSupport", "TLS"]),
    testTarget("ServerTests", ["Accounts", "Basics", "Relay", "Server", "Web"]),
    testTarget("EventLoopTests", ["Basics", "EventLoop", "TestSupport"]),
    testTarget("WordsTests", ["TestSupport", "Words"]),
    testTarget("CryptoTests", ["Basics", "Crypto"]),
    testTarget("TLSTests", ["Basics", "TestSupport", "TLS"]),
    testTarget("WebTests", ["Access", "Basics", "TestSupport", "Web"]),
    testTarget("LiveTests", ["Basics", "Live", "TestSupport", "Web"]),
    testTarget("DatabaseTests", ["Basics", "Database", "EventLoop", "TestSupport"]),
    testTarget(
      "ChatTests",
      ["Access", "Accounts", "Basics", "Chat", "Database", "EventLoop", "Events", "TestSupport"]),
    testTarget("PresenceTests", ["Accounts", "Basics", "Events", "Presence", "TestSupport"]),
    testTarget(
      "RelayTests",
      [
        "Access", "Accounts", "Basics", "Chat", "EventLoop", "Events", "Live", "Presence", "Relay",
        "TestSupport", "Web",
      ]),
    fuzzTarget,
  ],
  swiftLanguageModes: [.v6]
)
