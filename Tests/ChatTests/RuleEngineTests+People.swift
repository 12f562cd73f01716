import Access
import Basics
import Events
import TestSupport
import Testing

@testable import Chat

/// The same table for what admits people besides rules: names, roles and teams.
extension RuleEngineTests {
  static let crew = TeamID(UUID(high: 3, low: 1))
  static let editors = RoleID(UUID(high: 4, low: 1))
  static let observers = RoleID(UUID(high: 4, low: 2))
  static let managers = RoleID(UUID(high: 4, low: 3))

  static func person(_ user: UUID, _ role: RoleID? = nil, accepted: Bool = true) -> RoomPerson {
    RoomPerson(
      userID: UserID(user), roleID: role, joinedAt: Timestamp(milliseconds: 1),
      isAccepted: accepted)
  }

  static func inCrew(_ user: UUID, _ role: TeamRole) -> Caller {
    .local(
      user,
      Affiliations(version: 4, teams: [crew: TeamMembership(role, channel: RoomID(1))]))
  }

  struct PeopleCase: Sendable {
    let name: String
    var kind = RoomKind.group
    var rules: [RoomRule] = []
    var people: [RoomPerson] = []
    var defaults = "rw"
    var team: TeamID?
    var block: WriteBlock?
    var pair: DialogPair?
    var by = caller(ada)
    /// nil: stranger; "b": banned; otherwise the letters.
    let letters: String?
    var level: Int64 = 0
    var manages = false
    /// The code of the refusal to write, if there is one.
    var refusal: String?
  }

  static let peopleCases: [PeopleCase] = [
    PeopleCase(
      name: "a person without a role has the default", people: [person(ada)], letters: "rw"),
    PeopleCase(
      name: "whatever the default is", people: [person(ada)], defaults: "", letters: "",
      refusal: "forbidden"),
    PeopleCase(
      name: "a role's letters replace the default", people: [person(ada, observers)], letters: "r",
      refusal: "forbidden"),
    PeopleCase(
      name: "a role with a manages", people: [person(ada, managers)], letters: "ra", manages: true,
      refusal: "forbidden"),
    PeopleCase(
      name: "a role that is missing gives nothing", people: [person(ada, RoleID(ada))], letters: "",
      refusal: "forbidden"),
    PeopleCase(
      name: "an invitation that waits does not count", people: [person(ada, accepted: false)],
      letters: nil, refusal: "room_not_found"),
    PeopleCase(
      name: "someone else's name", people: [person(bob)], letters: nil, refusal: "room_not_found"),
    PeopleCase(
      name: "name and rule add up, the level is the rule's", rules: [rule(guests, "r", 7)],
      people: [person(ada, editors)], by: caller(ada, of: [guests]), letters: "rw", level: 7),
    PeopleCase(
      name: "a rule that bans by name reaches a person", rules: [rule(ada, "b")],
      people: [person(ada, managers)], letters: "b", refusal: "room_not_found"),
    PeopleCase(
      name: "an entity's ban reaches a person", rules: [rule(guests, "b")], people: [person(ada)],
      by: caller(ada, of: [guests]), letters: "b", refusal: "room_not_found"),
    PeopleCase(
      name: "but nobody whose role has a", rules: [rule(guests, "b")],
      people: [person(ada, managers)], by: caller(ada, of: [guests]), letters: "ra",
      manages: true, refusal: "forbidden"),
    PeopleCase(
      name: "a person of the owner entity brings the level", people: [person(ada)],
      by: caller(ada, of: [owners], level: 300), letters: "rw", level: 300),
    PeopleCase(
      name: "a member in the team's channel", kind: .channel, team: crew,
      by: inCrew(ada, .user), letters: "rw"),
    PeopleCase(
      name: "a team's admin manages its messages", kind: .channel, team: crew,
      by: inCrew(ada, .admin), letters: "rwa", manages: true),
    PeopleCase(
      name: "and its super_admin", kind: .channel, team: crew, by: inCrew(ada, .superAdmin),
      letters: "rwa", manages: true),
    PeopleCase(
      name: "someone of another team", kind: .channel, team: crew, by: member(ada, of: guests),
      letters: nil, refusal: "room_not_found"),
    PeopleCase(
      name: "a token of another system that names the team", kind: .channel, team: crew,
      by: caller(ada, of: [crew.uuid]), letters: nil, refusal: "room_not_found"),
    PeopleCase(
      name: "an organization's OWNER outside the team", kind: .channel, team: crew,
      by: .local(
        ada, Affiliations(version: 1, organizations: [OrganizationID(owners): .owner])),
      letters: nil, refusal: "room_not_found"),
    PeopleCase(
      name: "a team that is not active is read-only", kind: .channel, team: crew,
      block: .teamInactive, by: inCrew(ada, .superAdmin), letters: "ra", manages: true,
      refusal: "forbidden"),
    PeopleCase(
      name: "a group that has the team as a rule is not its channel", rules: [rule(crew.uuid, "r")],
      team: nil, by: inCrew(ada, .superAdmin), letters: "r", refusal: "forbidden"),
    PeopleCase(
      name: "the two of a dialog", kind: .dialog, people: [person(ada), person(bob)],
      pair: DialogPair(UserID(ada), UserID(bob)), letters: "rw"),
    PeopleCase(
      name: "a third one", kind: .dialog, people: [person(ada), person(bob)],
      pair: DialogPair(UserID(ada), UserID(bob)), by: caller(creator), letters: nil,
      refusal: "room_not_found"),
    PeopleCase(
      name: "a dialog of a team, with both in it", kind: .dialog,
      people: [person(ada), person(bob)], team: crew, pair: DialogPair(UserID(ada), UserID(bob)),
      by: inCrew(ada, .user), letters: "rw"),
    PeopleCase(
      name: "who is left in a dialog of a team reads", kind: .dialog, people: [person(ada)],
      team: crew, pair: DialogPair(UserID(ada), UserID(bob)), by: inCrew(ada, .user),
      letters: "r", refusal: "recipient_not_in_team"),
    PeopleCase(
      name: "who is out has nothing", kind: .dialog, people: [person(bob)], team: crew,
      pair: DialogPair(UserID(ada), UserID(bob)), letters: nil, refusal: "room_not_found"),
    PeopleCase(
      name: "a dialog whose other account was erased is read-only", kind: .dialog,
      people: [person(ada)], pair: DialogPair(UserID(ada), UserID(bob)), letters: "r",
      refusal: "forbidden"),
    PeopleCase(
      name: "a dialog of a deleted team is read-only", kind: .dialog,
      people: [person(ada), person(bob)], team: crew, block: .teamDeleted,
      pair: DialogPair(UserID(ada), UserID(bob)), letters: "r", refusal: "forbidden"),
  ]

  @Test(arguments: peopleCases)
  func `people, roles and teams`(row: PeopleCase) {
    let room = Room(
      id: RoomID(1),
      Room.Properties(
        name: "r", kind: row.kind, ownerEntity: row.kind == .group ? Self.owners : nil,
        createdAt: Timestamp(milliseconds: 0),
        defaultPermissions: Permissions(letters: row.defaults) ?? [], team: row.team,
        writeBlock: row.block, pair: row.pair),
      rules: row.rules,
      roles: [
        RoomRole(id: Self.editors, name: "editor", permissions: [.read, .write]),
        RoomRole(id: Self.observers, name: "observer", permissions: .read),
        RoomRole(id: Self.managers, name: "manager", permissions: [.read, .admin]),
      ],
      people: RoomPeople(row.people), accessVersion: 1)
    let standing = RuleEngine.standing(of: row.by, in: room)
    switch row.letters {
    case nil: #expect(standing == .stranger, "\(row.name)")
    case "b": #expect(standing == .banned, "\(row.name)")
    case let letters?:
      #expect(standing.permissions.letters == letters && standing.isMember, "\(row.name)")
    }
    #expect(standing.level == row.level, "\(row.name)")
    #expect(RuleEngine.canManage(standing, room) == row.manages, "\(row.name)")
    let grant = RuleEngine.grantToWrite(row.by, in: room)
    #expect((grant == nil) == (row.refusal != nil), "\(row.name)")
    if let refusal = row.refusal {
      #expect(RuleEngine.refusalToWrite(row.by, in: room).wire == refusal, "\(row.name)")
    }
  }

  @Test func `a right to write in a channel rests on the memberships, one by name does not`() {
    let channel = Room(
      id: RoomID(1),
      Room.Properties(
        name: "c", kind: .channel, createdAt: Timestamp(milliseconds: 0), team: Self.crew),
      accessVersion: 3)
    let byTeam = RuleEngine.grantToWrite(Self.inCrew(Self.ada, .user), in: channel)
    #expect(byTeam?.accessVersion == 3 && byTeam?.affiliationsVersion == 4)
    let group = Room(
      id: RoomID(1), Room.Properties(name: "g", createdAt: Timestamp(milliseconds: 0)),
      people: RoomPeople([Self.person(Self.ada)]), accessVersion: 3)
    let byName = RuleEngine.grantToWrite(Self.inCrew(Self.ada, .user), in: group)
    #expect(byName != nil && byName?.affiliationsVersion == nil)
  }

  @Test(arguments: [
    ("rwa", "rw", true), ("rwa", "a", true), ("ra", "w", false), ("ra", "r", true),
    ("rw", "r", false), ("a", "", true), ("a", "r", false),
  ])
  func `nobody handles letters beyond their own`(own: String, letters: String, isAllowed: Bool) {
    let room = Self.room([Self.rule(Self.ada, own)])
    let permissions = Permissions(letters: letters) ?? []
    func mayHandle(_ caller: Caller) -> Bool {
      RuleEngine.mayHandle(
        permissions, by: caller, RuleEngine.standing(of: caller, in: room), in: room)
    }
    #expect(mayHandle(Self.caller(Self.ada)) == isAllowed)
    #expect(mayHandle(Self.caller(Self.creator)))
    #expect(!mayHandle(Self.caller(Self.bob)))
    #expect(mayHandle(Self.platformAdmin(Self.ada)) == own.contains("a"))
  }

  @Test func `what admits someone is named`() {
    let room = Room(
      id: RoomID(1),
      Room.Properties(
        name: "c", kind: .channel, createdAt: Timestamp(milliseconds: 0), team: Self.crew),
      rules: [Self.rule(Self.guests, "r"), Self.rule(Self.bob, "r", accepted: false)],
      people: RoomPeople([Self.person(Self.ada), Self.person(Self.bob, accepted: false)]),
      accessVersion: 1)
    let affiliations = Affiliations(
      version: 1,
      teams: [
        Self.crew: TeamMembership(.user, channel: nil),
        TeamID(Self.guests): TeamMembership(.user, channel: nil),
      ])
    #expect(
      RuleEngine.sources(of: UserID(Self.ada), affiliations, in: room) == [.rule, .people, .team])
    #expect(
      RuleEngine.sources(of: UserID(Self.bob), Affiliations(version: 0), in: room) == [])
  }
}
