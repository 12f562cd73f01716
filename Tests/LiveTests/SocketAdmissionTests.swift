import Testing

@testable import Live

@Suite struct SocketAdmissionTests {
  @Test func `a crowd leaves a quarter of the places to members`() {
    let admission = SocketAdmission(capacity: 100)
    var crowd: [SocketAdmission.Place] = []
    while let place = admission.take(.anyone) { crowd.append(place) }
    #expect(crowd.count == 75)
    var members: [SocketAdmission.Place] = []
    while let place = admission.take(.member) { members.append(place) }
    #expect(members.count == 25)
    // Members may have all places.
    crowd = []
    while let place = admission.take(.member) { members.append(place) }
    #expect(members.count == 100)
    #expect(admission.take(.anyone) == nil)
  }

  @Test func `who has shown who they are makes room for others, and places come back`() {
    let admission = SocketAdmission(capacity: 8)
    var places = (0..<6).compactMap { _ in admission.take(.anyone) }
    #expect(places.count == 6)
    #expect(admission.take(.anyone) == nil)
    places[0].becomeMember()
    places[0].becomeMember()
    #expect(admission.count(of: .member) == 1)
    #expect(admission.take(.anyone) != nil)
    places = []
    #expect(SocketAdmission.Audience.allCases.allSatisfy { admission.count(of: $0) == 0 })
  }

  @Test func `the smallest server admits someone`() {
    let admission = SocketAdmission(capacity: 1)
    let place = admission.take(.anyone)
    #expect(place != nil)
    #expect(admission.take(.member) == nil)
  }
}
