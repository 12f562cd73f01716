import Basics
import Testing

@testable import RedisFanout

@Suite struct RedisURLTests {
  @Test func `the parts of a URL`() throws {
    let whole = try #require(RedisURL("rediss://ada:p%40ss%3A@redis.example.org:6380/2"))
    #expect(whole.host == "redis.example.org" && whole.port == 6380 && whole.usesTLS)
    #expect(whole.user == "ada" && whole.password?.reveal() == "p@ss:")
    #expect(whole.place == "redis.example.org:6380")
    let plain = try #require(RedisURL("redis://[::1]"))
    #expect(plain.host == "::1" && plain.port == 6379 && !plain.usesTLS)
    #expect(plain.user == nil && plain.password == nil)
    let password = try #require(RedisURL("redis://secret@localhost/"))
    #expect(password.user == nil && password.password?.reveal() == "secret")
    let colon = try #require(RedisURL("redis://:a:b@localhost"))
    #expect(colon.user == nil && colon.password?.reveal() == "a:b")
  }

  @Test(arguments: [
    "", "redis://", "http://h", "redis://h:0", "redis://h:65536", "redis://h:x", "redis://h:",
    "redis://[::1", "redis://[::1]x", "redis://:@h", "redis://%zz@h", "redis://%ff@h",
    "redis://h/x", "redis://h?a", "redis://a b", "redis://user:@h",
  ])
  func `what is none`(_ text: String) { #expect(RedisURL(text) == nil) }
}
