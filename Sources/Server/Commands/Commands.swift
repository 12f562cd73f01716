internal import Basics

/// All commands, in the order of the help.
enum Commands {
  private static let email = Command.Argument(
    name: "EMAIL", meaning: "the account's e-mail address, in any case")

  static let all: [Command] = [
    Command("serve", summary: "run the server") { ServeCommand.run(try $0.settings()) },
    Command(
      "migrate", summary: "bring the database's schema up to date",
      details: """
        The server does so too when it starts. Needs a database: on SQLite the server makes the
        file at its first start; on Postgres an empty database will do.
        """
    ) { call in try say(DatabaseCommands(call.settings()).migrate()) },
    Command(
      "backup", [Command.Argument(name: "FILE", meaning: "the copy; it must not exist yet")],
      summary: "save a consistent copy of the embedded database, online",
      details: """
        The server may run meanwhile. The copy is one file, and is there when it is whole.
        """
    ) { call in try say(DatabaseCommands(call.settings()).backup(to: call.arguments[0])) },
    Command(
      "renew-epoch", summary: "after restoring an older database: clients reload",
      details: """
        For a Postgres that was restored from a dump. The copy that `backup` makes needs none.
        """
    ) { call in try say(DatabaseCommands(call.settings()).renewEpoch()) },
    Command(
      "admin create", [email],
      options: [
        Command.Option(
          name: "name", value: "NAME",
          meaning: "the person's name; the address up to its @ if left out")
      ],
      summary: "make an account that is a platform admin, and print its password",
      details: """
        For the first account of a server, also where MARTLET_SIGNUP lets nobody sign up.
        """
    ) { call in
      try say(
        AccountCommands(call.settings()).create(
          email: call.arguments[0], name: call.options["name"]))
    },
    Command(
      "admin list",
      options: [
        Command.Option(name: "all", value: nil, meaning: "every account, not only those")
      ],
      summary: "list platform admins and suspended accounts"
    ) { call in
      try AccountCommands(call.settings()).list(all: call.options["all"] != nil) { say($0) }
      return 0
    },
    Command("admin grant", [email], summary: "make an account a platform admin") { call in
      try say(AccountCommands(call.settings()).grant(email: call.arguments[0]))
    },
    Command("admin revoke", [email], summary: "take that right away again") { call in
      try say(AccountCommands(call.settings()).revoke(email: call.arguments[0]))
    },
    Command(
      "admin suspend", [email], summary: "lock an account out",
      details: "Its sessions end within a second, and nobody logs in to it until it is restored."
    ) { call in
      try say(AccountCommands(call.settings()).suspend(email: call.arguments[0]))
    },
    Command("admin restore", [email], summary: "let a suspended account log in again") { call in
      try say(AccountCommands(call.settings()).restore(email: call.arguments[0]))
    },
    Command(
      "admin reset-password", [email], summary: "set a new password and print it",
      details: "All sessions of the account end within a second."
    ) { call in
      try say(AccountCommands(call.settings()).resetPassword(email: call.arguments[0]))
    },
    Command("routes", summary: "print every route and frame with its policy") { call in
      try say(DescribeCommands.routes(call.settings()))
    },
    Command("settings", summary: "print every setting (docs/CONFIGURATION.md)") { _ in
      say(DescribeCommands.settingsPage())
    },
  ]

  @discardableResult
  private static func say(_ text: String) -> Int32 {
    MartletCommand.say(text)
    return 0
  }
}
