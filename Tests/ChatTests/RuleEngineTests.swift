import Access
import Basics
import Events
import TestSupport
import Testing

@testable import Chat

/// The rules of access as a table: letters and levels of people in rooms.
@Suite struct RuleEngineTests {
  // The people and entities of the table.
  static let creator = UUID(high: 1, low: 1)
  static let ada = UUID(high: 1, low: 2)
  static let bob = UUID(high: 1, low: 3)
  static let owners = UUID(high: 2, low: 1)
  static let guests = UUID(high: 2, low: 2)

  static func room(_ rules: [RoomRule], type: RoomType = .group, levelAdmin: Int64 = 500) -> Room {
    Room(
      id: RoomID(1),
      Room.Properties(
        name: "r", kind: type == .group ? .group : .dialog, levelAdmin: levelAdmin,
        ownerUser: UserID(creator), ownerEntity: owners, createdAt: Timestamp(milliseconds: 0)),
      rules: rules, accessVersion: 1)
  }

  static func rule(_ subject: UUID, _ letters: String, _ level: Int64 = 0, accepted: Bool = true)
    -> RoomRule
  {
    RoomRule(
      subject: subject, permissions: Permissions(letters: letters) ?? [], level: level,
      isAccepted: accepted)
  }

  static func caller(_ user: UUID, of entities: [UUID] = [], level: Int64 = 0) -> Caller {
    .foreign(user, of: entities, level: level)
  }

  static func platformAdmin(_ user: UUID) -> Caller {
    .local(user, Affiliations(version: 1, isPlatformAdmin: true))
  }

  static func member(_ user: UUID, of team: UUID, _ role: TeamRole = .user) -> Caller {
    .local(
      user, Affiliations(version: 4, teams: [TeamID(team): TeamMembership(role, channel: nil)]))
  }

  struct Case: Sendable {
    let name: String
    let rules: [RoomRule]
    var type = RoomType.group
    let caller: Caller
    /// nil: stranger; "b": banned; otherwise the letters.
    let letters: String?
    var level: Int64 = 0
  }

  static let standings: [Case] = [
    Case(name: "no rule", rules: [], caller: caller(ada), letters: nil),
    Case(
      name: "a rule of one's own", rules: [rule(ada, "r", 3)], caller: caller(ada), letters: "r",
      level: 3),
    Case(
      name: "a rule of one's entity", rules: [rule(guests, "rw", 2)],
      caller: caller(ada, of: [guests]), letters: "rw", level: 2),
    Case(
      name: "someone else's rule", rules: [rule(bob, "rwa", 9)], caller: caller(ada), letters: nil),
    Case(
      name: "letters add up, the highest level counts",
      rules: [rule(ada, "r", 7), rule(guests, "w", 3)], caller: caller(ada, of: [guests]),
      letters: "rw", level: 7),
    Case(
      name: "a waiting rule does not count", rules: [rule(ada, "rw", 3, accepted: false)],
      caller: caller(ada), letters: nil),
    Case(
      name: "a waiting rule beside an accepted one",
      rules: [rule(ada, "a", 9, accepted: false), rule(guests, "r", 1)],
      caller: caller(ada, of: [guests]), letters: "r", level: 1),
    Case(
      name: "a ban of one's own", rules: [rule(ada, "b", 5), rule(guests, "rwa", 9)],
      caller: caller(ada, of: [guests]), letters: "b"),
    Case(
      name: "a ban of one's entity", rules: [rule(ada, "rw", 5), rule(guests, "b")],
      caller: caller(ada, of: [guests]), letters: "b"),
    Case(
      name: "a ban of one's entity does not reach an admin by name",
      rules: [rule(ada, "ra", 5), rule(guests, "wb", 7)], caller: caller(ada, of: [guests]),
      letters: "rwa", level: 7),
    Case(
      name: "a ban by name reaches an admin", rules: [rule(ada, "rab", 5)], caller: caller(ada),
      letters: "b"),
    Case(
      name: "nor does an entity's a save from another entity's ban",
      rules: [rule(owners, "rwa"), rule(guests, "b")], caller: caller(ada, of: [owners, guests]),
      letters: "b"),
    Case(
      name: "a team's rule means its members", rules: [rule(guests, "rw", 4)],
      caller: member(ada, of: guests), letters: "rw", level: 4),
    Case(
      name: "an account's level counts where the owner entity is its own",
      rules: [rule(owners, "r", 4)], caller: member(ada, of: owners), letters: "r", level: 100),
    Case(
      name: "a waiting ban does not count",
      rules: [rule(ada, "r"), rule(guests, "b", accepted: false)],
      caller: caller(ada, of: [guests]), letters: "r"),
    Case(
      name: "the owner entity's people bring their level", rules: [rule(owners, "rw", 1)],
      caller: caller(ada, of: [owners], level: 300), letters: "rw", level: 300),
    Case(
      name: "also where another rule matched", rules: [rule(ada, "r", 1)],
      caller: caller(ada, of: [owners], level: 300), letters: "r", level: 300),
    Case(
      name: "a level at another entity is nothing here", rules: [rule(guests, "rw", 1)],
      caller: caller(ada, of: [guests], level: 300), letters: "rw", level: 1),
    Case(
      name: "without a rule there is no level either", rules: [],
      caller: caller(ada, of: [owners], level: 300), letters: nil),
    Case(name: "the creator without any rule", rules: [], caller: caller(creator), letters: "rwa"),
    Case(
      name: "no ban takes the creator", rules: [rule(creator, "b"), rule(owners, "b")],
      caller: caller(creator, of: [owners], level: 40), letters: "rwa", level: 40),
    Case(
      name: "entities never match in a room of two", rules: [rule(guests, "rw", 5)],
      type: .userToUser, caller: caller(ada, of: [guests]), letters: nil),
    Case(
      name: "people match in a room of two", rules: [rule(ada, "rw", 5)], type: .userToUser,
      caller: caller(ada, of: [guests]), letters: "rw", level: 5),
    Case(
      name: "nor does an entity's ban match there", rules: [rule(ada, "r", 5), rule(guests, "b")],
      type: .userToUser, caller: caller(ada, of: [guests]), letters: "r", level: 5),
    Case(
      name: "a platform admin is a stranger too", rules: [], caller: platformAdmin(ada),
      letters: nil),
  ]

  @Test(arguments: standings)
  func `letters and level`(row: Case) {
    let standing = RuleEngine.standing(of: row.caller, in: Self.room(row.rules, type: row.type))
    switch row.letters {
    case nil: #expect(standing == .stranger, "\(row.name)")
    case "b": #expect(standing == .banned && standing.level == 0, "\(row.name)")
    case let letters?:
      #expect(standing.permissions.letters == letters, "\(row.name)")
      #expect(standing.level == row.level, "\(row.name)")
    }
  }

  @Test(arguments: [
    (rule(ada, "rwa", 0), true), (rule(ada, "rw", 500), true), (rule(ada, "rw", 499), false),
    (rule(ada, "a", 0), true), (rule(ada, "b", 900), false),
  ])
  func `who manages has the letter or the level`(rule: RoomRule, manages: Bool) {
    let room = Self.room([rule])
    let standing = RuleEngine.standing(of: Self.caller(Self.ada), in: room)
    #expect(RuleEngine.canManage(standing, room) == manages)
  }

  struct Change: Sendable {
    let name: String
    let rules: [RoomRule]
    var by = caller(ada)
    let subject: UUID
    let to: String?
    var level: Int64 = 0
    let isAllowed: Bool
  }

  /// Ada manages with `rwa` and level 10.
  static let manager = rule(ada, "rwa", 10)

  static let changes: [Change] = [
    Change(
      name: "grants what she has", rules: [manager], subject: bob, to: "rwa", level: 10,
      isAllowed: true),
    Change(
      name: "no level beyond her own", rules: [manager], subject: bob, to: "r", level: 11,
      isAllowed: false),
    Change(
      name: "no letter beyond her own", rules: [rule(ada, "ra", 10)], subject: bob, to: "rw",
      isAllowed: false),
    Change(
      name: "no touching of a higher level", rules: [manager, rule(bob, "r", 11)], subject: bob,
      to: "r", isAllowed: false),
    Change(
      name: "no removing of a higher level", rules: [manager, rule(bob, "r", 11)], subject: bob,
      to: nil, isAllowed: false),
    Change(
      name: "no touching of letters beyond", rules: [rule(ada, "ra", 10), rule(bob, "w")],
      subject: bob, to: "r", isAllowed: false),
    Change(
      name: "removes an equal", rules: [manager, rule(bob, "rwa", 10)], subject: bob, to: nil,
      isAllowed: true),
    Change(
      name: "bans anyone not beyond her", rules: [manager, rule(bob, "rw", 10)], subject: bob,
      to: "b", isAllowed: true),
    Change(
      name: "bans whoever has no rule", rules: [manager], subject: bob, to: "b", isAllowed: true),
    Change(
      name: "bans without the letter w", rules: [rule(ada, "ra", 10)], subject: bob, to: "b",
      isAllowed: true),
    Change(
      name: "no ban of those beyond", rules: [manager, rule(bob, "r", 11)], subject: bob, to: "b",
      isAllowed: false),
    Change(
      name: "lifts a ban", rules: [manager, rule(bob, "b")], subject: bob, to: "rw", isAllowed: true
    ),
    Change(
      name: "no ban of the creator", rules: [manager], subject: creator, to: "b", isAllowed: false),
    Change(
      name: "nothing is taken from the creator", rules: [manager, rule(creator, "rwa", 5)],
      subject: creator, to: "r", isAllowed: false),
    Change(
      name: "nor is the creator's rule removed", rules: [manager, rule(creator, "rwa", 5)],
      subject: creator, to: nil, isAllowed: false),
    Change(
      name: "not even by the creator", rules: [], by: caller(creator), subject: creator, to: nil,
      isAllowed: false),
    Change(
      name: "the creator grants anything", rules: [], by: caller(creator), subject: bob, to: "rwa",
      level: 9999, isAllowed: true),
    Change(
      name: "a platform admin who manages does too", rules: [manager], by: platformAdmin(ada),
      subject: bob, to: "rwa", level: 9999, isAllowed: true),
    Change(
      name: "a platform admin who does not manage does not", rules: [rule(ada, "rw", 10)],
      by: platformAdmin(ada), subject: bob, to: "r", isAllowed: false),
    Change(
      name: "who manages by level grants own letters", rules: [rule(ada, "r", 500)], subject: bob,
      to: "r", level: 500, isAllowed: true),
    Change(
      name: "and no others", rules: [rule(ada, "r", 500)], subject: bob, to: "rw", isAllowed: false),
    Change(
      name: "a member changes nothing", rules: [rule(ada, "rw", 10)], subject: bob, to: "r",
      isAllowed: false),
    Change(name: "a stranger changes nothing", rules: [], subject: bob, to: "r", isAllowed: false),
  ]

  @Test(arguments: changes)
  func `who may change which rule`(row: Change) {
    let room = Self.room(row.rules)
    let standing = RuleEngine.standing(of: row.by, in: room)
    let change = RuleEngine.RuleChange(
      subject: row.subject, new: row.to.map { (Permissions(letters: $0) ?? [], row.level) })
    #expect(
      RuleEngine.mayChange(change, by: row.by, standing, in: room) == row.isAllowed, "\(row.name)")
  }

  @Test func `letters by a team protect from a ban like one's own`() {
    let room = Self.room([Self.rule(Self.ada, "rwa", 10), Self.rule(Self.guests, "rwa", 11)])
    let manager = Self.caller(Self.ada)
    let standing = RuleEngine.standing(of: manager, in: room)
    let ban = RuleEngine.RuleChange(subject: Self.bob, new: (.banned, 0))
    let guests = [TeamID(Self.guests): TeamMembership(.user, channel: nil)]
    for (teams, isAllowed) in [([:], true), (guests, false)] {
      let subject = RuleEngine.standing(
        of: UserID(Self.bob), Affiliations(version: 1, teams: teams), in: room)
      #expect(
        RuleEngine.mayChange(ban, of: subject, by: manager, standing, in: room) == isAllowed)
    }
  }

  @Test func `a right to write names what it rests on`() {
    let room = Self.room([Self.rule(Self.guests, "rw"), Self.rule(Self.bob, "rw")])
    let byTeam = RuleEngine.grantToWrite(Self.member(Self.ada, of: Self.guests), in: room)
    #expect(byTeam?.accessVersion == 1 && byTeam?.affiliationsVersion == 4)
    #expect(byTeam?.session != nil)
    // A person's own rule holds whatever the person belongs to.
    let byName = RuleEngine.grantToWrite(Self.member(Self.bob, of: Self.guests), in: room)
    #expect(byName != nil && byName?.affiliationsVersion == nil)
    let foreign = RuleEngine.grantToWrite(Self.caller(Self.ada, of: [Self.guests]), in: room)
    #expect(foreign == Draft.Grant(accessVersion: 1))
    #expect(RuleEngine.grantToWrite(Self.caller(Self.ada), in: room) == nil)
  }

  @Test func `who may answer for an entity`() {
    let room = Self.room([Self.rule(Self.guests, "rw", accepted: false)])
    func mayAnswer(_ caller: Caller) -> Bool {
      !RuleEngine.invitations(of: caller, to: room).isEmpty
    }
    #expect(mayAnswer(Self.caller(Self.ada, of: [Self.guests], level: 100)))
    #expect(!mayAnswer(Self.caller(Self.ada, of: [Self.guests], level: 99)))
    #expect(mayAnswer(Self.member(Self.ada, of: Self.guests, .admin)))
    #expect(!mayAnswer(Self.member(Self.ada, of: Self.guests)))
    #expect(!mayAnswer(Self.caller(Self.ada, of: [Self.owners], level: 100)))
  }

  @Test func `letters are read in any order and written in one`() {
    #expect(Permissions(letters: "awr")?.letters == "rwa")
    #expect(Permissions(letters: "") == [])
    for text in ["x", "R", "rr", "r w"] { #expect(Permissions(letters: text) == nil) }
  }
}
