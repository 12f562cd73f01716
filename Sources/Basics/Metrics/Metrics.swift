internal import Synchronization

/// A number that only increases.
package final class Counter: Sendable {
  private let value = Atomic<Int>(0)

  package init() {}
  package func add(_ count: Int = 1) { value.wrappingAdd(count, ordering: .relaxed) }
  package var current: Int { value.load(ordering: .relaxed) }
}

/// A number that can increase and decrease.
package final class Gauge: Sendable {
  private let value = Atomic<Int>(0)

  package init() {}
  package func set(_ number: Int) { value.store(number, ordering: .relaxed) }
  package func add(_ number: Int) { value.wrappingAdd(number, ordering: .relaxed) }
  package var current: Int { value.load(ordering: .relaxed) }
}

/// A histogram with fixed upper bounds, in whole units (microseconds, rows). Recording an observation takes only two
/// atomic additions.
package final class Histogram: Sendable {
  private final class Cell: Sendable { let count = Atomic<Int>(0) }

  fileprivate let bounds: [Int]
  /// The divisor of observed values for display: 1e6 turns microseconds into seconds.
  fileprivate let scale: Double
  private let cells: [Cell]
  private let sum = Atomic<Int>(0)

  /// `bounds` are in ascending order.
  package init(bounds: [Int], scale: Double = 1) {
    self.bounds = bounds
    self.scale = scale
    cells = (0...bounds.count).map { _ in Cell() }
  }

  /// Makes a histogram of durations, observed in microseconds and displayed in seconds, with bounds from 50 us to 10 s.
  package static func durations() -> Histogram {
    Histogram(
      bounds: [
        50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
        1_000_000, 2_000_000, 5_000_000, 10_000_000,
      ], scale: 1e6)
  }

  package func observe(_ value: Int) {
    let index = bounds.firstIndex { value <= $0 } ?? bounds.count
    cells[index].count.wrappingAdd(1, ordering: .relaxed)
    sum.wrappingAdd(value, ordering: .relaxed)
  }

  package var count: Int { cells.reduce(0) { $0 + $1.count.load(ordering: .relaxed) } }

  fileprivate func snapshot() -> (cumulative: [Int], sum: Double) {
    var total = 0
    let cumulative = cells.map { cell in
      total += cell.count.load(ordering: .relaxed)
      return total
    }
    return (cumulative, Double(sum.load(ordering: .relaxed)) / scale)
  }
}

/// The registry of the server's metrics, which renders them in the Prometheus text format 0.0.4.
package final class Metrics: Sendable {
  package typealias Labels = KeyValuePairs<StaticString, String>

  private enum Instrument: Sendable {
    case counter(Counter)
    case gauge(Gauge)
    case histogram(Histogram)
    case reading(@Sendable () -> Double)
    case total(@Sendable () -> Double)

    var type: String {
      switch self {
      case .counter, .total: "counter"
      case .gauge, .reading: "gauge"
      case .histogram: "histogram"
      }
    }
  }

  private struct Family: Sendable {
    let help: String
    var series: [(labels: String, instrument: Instrument)]
  }

  private let families = Mutex<[String: Family]>([:])

  package init() {}

  /// Returns the counter with this name and these labels, and creates it at first use. The page shows the `help` of the
  /// name's first use. Traps if the series has another type, as do `gauge` and `histogram`.
  package func counter(_ name: String, _ help: String, labels: Labels = [:]) -> Counter {
    register(name, help, labels) {
      .counter(Counter())
    } match: {
      if case .counter(let counter) = $0 { counter } else { nil }
    }
  }

  package func gauge(_ name: String, _ help: String, labels: Labels = [:]) -> Gauge {
    register(name, help, labels) {
      .gauge(Gauge())
    } match: {
      if case .gauge(let gauge) = $0 { gauge } else { nil }
    }
  }

  package func histogram(
    _ name: String, _ help: String, labels: Labels = [:], _ make: () -> Histogram
  ) -> Histogram {
    register(name, help, labels) {
      .histogram(make())
    } match: {
      if case .histogram(let histogram) = $0 { histogram } else { nil }
    }
  }

  /// Adds a gauge whose value is read by `read` whenever the page is rendered. The first reading of a series stays.
  package func reading(
    _ name: String, _ help: String, labels: Labels = [:], _ read: @escaping @Sendable () -> Double
  ) {
    _ = register(name, help, labels) {
      .reading(read)
    } match: {
      $0
    }
  }

  /// Adds a counter whose value is read by `read` whenever the page is rendered. The first reading of a series stays.
  package func total(_ name: String, _ help: String, _ read: @escaping @Sendable () -> Double) {
    _ = register(name, help, [:]) {
      .total(read)
    } match: {
      $0
    }
  }

  private func register<Kind>(
    _ name: String, _ help: String, _ labels: Labels, make: () -> Instrument,
    match: (Instrument) -> Kind?
  ) -> Kind {
    let text = labels.map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",")
    return families.withLock { families in
      var family = families[name] ?? Family(help: help, series: [])
      if let known = family.series.first(where: { $0.labels == text }) {
        guard let instrument = match(known.instrument) else {
          preconditionFailure("metric \(name) has two types")
        }
        return instrument
      }
      let made = make()
      family.series.append((text, made))
      families[name] = family
      guard let instrument = match(made) else {
        preconditionFailure("metric \(name) has two types")
      }
      return instrument
    }
  }

  private static func escaped(_ text: String) -> String {
    var result = ""
    for character in text {
      switch character {
      case "\\": result += "\\\\"
      case "\"": result += "\\\""
      case "\n": result += "\\n"
      default: result.append(character)
      }
    }
    return result
  }

  /// Renders the whole page, with names in alphabetical order.
  package func render() -> String {
    let snapshot = families.withLock { $0 }
    var page = ""
    for (name, family) in snapshot.sorted(by: { $0.key < $1.key }) {
      guard let first = family.series.first else { continue }
      page += "# HELP \(name) \(family.help)\n# TYPE \(name) \(first.instrument.type)\n"
      for (labels, instrument) in family.series {
        let braces = labels.isEmpty ? "" : "{\(labels)}"
        switch instrument {
        case .counter(let counter): page += "\(name)\(braces) \(counter.current)\n"
        case .gauge(let gauge): page += "\(name)\(braces) \(gauge.current)\n"
        case .reading(let read), .total(let read):
          page += "\(name)\(braces) \(Self.number(read()))\n"
        case .histogram(let histogram):
          let prefix = labels.isEmpty ? "" : labels + ","
          let (cumulative, sum) = histogram.snapshot()
          for (index, bound) in histogram.bounds.enumerated() {
            let limit = Self.number(Double(bound) / histogram.scale)
            page += "\(name)_bucket{\(prefix)le=\"\(limit)\"} \(cumulative[index])\n"
          }
          let total = cumulative[histogram.bounds.count]
          page += "\(name)_bucket{\(prefix)le=\"+Inf\"} \(total)\n"
          page += "\(name)_sum\(braces) \(Self.number(sum))\n\(name)_count\(braces) \(total)\n"
        }
      }
    }
    return page
  }

  private static func number(_ value: Double) -> String {
    value.rounded() == value && value.magnitude < 1e15 ? String(Int64(value)) : String(value)
  }
}
