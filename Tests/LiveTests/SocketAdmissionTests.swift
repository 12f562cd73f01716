import Testing

@testable import Live

@Suite struct SocketAdmissionTests {
  @Test func `a crowd leaves a quarter of the places to members`() {
    let admission = SocketAdmission(capacity: 100)
    var crowd: [SocketAdmission.Permit] = []
    while let permit = admission.take(.viewer) { crowd.append(permit) }
    #expect(crowd.count == 75)
    var members: [SocketAdmission.Permit] = []
    while let permit = admission.take(.member) { members.append(permit) }
    #expect(members.count == 25)
    // Members may use all places.
    crowd = []
    while let permit = admission.take(.member) { members.append(permit) }
    #expect(members.count == 100)
    #expect(admission.take(.viewer) == nil)
  }

  @Test func `places come back with their sockets`() {
    let admission = SocketAdmission(capacity: 8)
    var places = (0..<6).compactMap { _ in admission.take(.viewer) }
    #expect(places.count == 6)
    #expect(admission.take(.viewer) == nil)
    places.removeLast()
    #expect(admission.take(.viewer) != nil)
    places = []
    #expect(SocketAdmission.Audience.allCases.allSatisfy { admission.count(of: $0) == 0 })
  }

  @Test func `the smallest server admits someone`() {
    let admission = SocketAdmission(capacity: 1)
    let permit = admission.take(.viewer)
    #expect(permit != nil)
    #expect(admission.take(.member) == nil)
  }
}
