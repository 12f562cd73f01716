internal import Basics

/// All commands, in the order of the help.
enum Commands {
  private static let email = Command.Argument(
    name: "EMAIL", meaning: "the account's e-mail address; case is ignored")

  static let all: [Command] = [
    Command("serve", summary: "run the server") { ServeCommand.run(try $0.settings()) },
    Command(
      "migrate", summary: "bring the database's schema up to date",
      details: """
        The server does this itself when it starts. There must be a database: with SQLite the
        server creates the file at its first start; with Postgres an empty database will do.
        """
    ) { call in try say(DatabaseCommands(call.settings()).migrate()) },
    Command(
      "backup", [Command.Argument(name: "FILE", meaning: "the copy; it must not exist yet")],
      summary: "save a consistent copy of the embedded database, online",
      details: """
        The server may be running. The copy is one file, which appears when it is complete.
        """
    ) { call in try say(DatabaseCommands(call.settings()).backup(to: call.arguments[0])) },
    Command(
      "renew-epoch", summary: "after restoring an older database: clients reload",
      details: """
        For a Postgres database that was restored from a dump. A copy made by `backup` does not
        need it.
        """
    ) { call in try say(DatabaseCommands(call.settings()).renewEpoch()) },
    Command(
      "admin create", [email],
      options: [
        Command.Option(
          name: "name", value: "NAME",
          meaning: "the person's name; by default the part of the address before the @")
      ],
      summary: "make an account that is a platform admin, and print its password",
      details: """
        For the first account of a server, even if MARTLET_SIGNUP lets nobody sign up.
        """
    ) { call in
      try say(
        AccountCommands(call.settings()).create(
          email: call.arguments[0], name: call.options["name"]))
    },
    Command(
      "admin list",
      options: [
        Command.Option(name: "all", value: nil, meaning: "list all accounts")
      ],
      summary: "list platform admins and suspended accounts"
    ) { call in
      try AccountCommands(call.settings()).list(all: call.options["all"] != nil) { say($0) }
      return 0
    },
    Command("admin grant", [email], summary: "make an account a platform admin") { call in
      try say(AccountCommands(call.settings()).grant(email: call.arguments[0]))
    },
    Command("admin revoke", [email], summary: "undo `admin grant`") { call in
      try say(AccountCommands(call.settings()).revoke(email: call.arguments[0]))
    },
    Command(
      "admin suspend", [email], summary: "disable log-in for an account",
      details: "Its sessions end within a second, and nobody can log in to it until it is restored."
    ) { call in
      try say(AccountCommands(call.settings()).suspend(email: call.arguments[0]))
    },
    Command("admin restore", [email], summary: "undo `admin suspend`") { call in
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
