import Access
import Basics
import Testing

@testable import Web

@Suite struct RouterTests {
  private func router() -> Router {
    var router = Router()
    router.on(.get, "/v1/rooms", policy: .caller) { _ in .noContent }
    router.on(.get, "/v1/rooms/{id}", policy: .caller) { (_, _: String) in .noContent }
    router.on(.delete, "/v1/rooms/{id}/members/{subject}", policy: .caller) {
      (_, _: String, _: UserID) in .noContent
    }
    return router
  }

  private func outcome(_ method: Web.Method, _ path: String) -> String {
    switch router().match(method, path) {
    case .found(let index, let values): "\(router().routes[index].pattern) \(values)"
    case .methodNotAllowed(let methods): "not \(methods.map(\.rawValue).sorted())"
    case .none: "none"
    }
  }

  @Test func `values are cut by the route that was chosen`() {
    var router = Router()
    router.on(.get, "/a/{x}/c", policy: .anyone) { (_, _: String) in .noContent }
    router.on(.post, "/{y}/b/c", policy: .anyone) { (_, _: String) in .noContent }
    router.on(.get, "/files/{folder}/{path...}", policy: .anyone) {
      (_, _: String, _: String) in .noContent
    }
    func values(_ method: Web.Method, _ path: String) -> [String]? {
      if case .found(_, let values) = router.match(method, path) { values } else { nil }
    }
    #expect(values(.get, "/a/b/c") == ["b"])
    #expect(values(.post, "/a/b/c") == ["a"])
    #expect(values(.get, "/files/x/y/z%20z") == ["x", "y/z z"])
    for path in ["/files/x", "/files/x/", "/files/x/../y", "/files/x//y", "/files//y"] {
      #expect(values(.get, path) == nil, "\(path)")
    }
  }

  @Test func `paths find their route`() {
    #expect(outcome(.get, "/v1/rooms") == "/v1/rooms []")
    #expect(outcome(.head, "/v1/rooms") == "/v1/rooms []")
    #expect(outcome(.get, "/v1/rooms/5") == #"/v1/rooms/{id} ["5"]"#)
    #expect(outcome(.get, "/v1/rooms/a%2Fb") == #"/v1/rooms/{id} ["a/b"]"#)
    #expect(
      outcome(.delete, "/v1/rooms/5/members/x") == #"/v1/rooms/{id}/members/{subject} ["5", "x"]"#)
    #expect(outcome(.post, "/v1/rooms") == #"not ["GET", "HEAD"]"#)
    for path in [
      "/", "", "/v1/rooms/", "/v1//rooms", "/v1/rooms/%", "/v1/rooms/%zz", "/v1/rooms/%00",
      "/v1/rooms/%ff", "/V1/rooms",
    ] {
      #expect(outcome(.get, path) == "none", "\(path)")
    }
  }
}
