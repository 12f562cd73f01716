internal import Basics

/// The resources and the version of the process, under the names that Prometheus' client libraries use.
enum ProcessMetrics {
  /// Adds the metrics. `data` is the directory whose free disk space is reported; with nil it is not reported.
  static func add(to metrics: Metrics, version: String, data: String?) {
    metrics.gauge(
      "martlet_build_info", "1; what is running is in the labels.", labels: ["version": version]
    ).set(1)
    metrics.total("process_cpu_seconds_total", "Processor time that the process took.") {
      ProcessUsage.now.cpuSeconds
    }
    metrics.reading("process_resident_memory_bytes", "Memory of the process that is resident.") {
      Double(ProcessUsage.now.residentBytes)
    }
    metrics.reading("process_virtual_memory_bytes", "Memory that the process has mapped.") {
      Double(ProcessUsage.now.virtualBytes)
    }
    metrics.reading("process_open_fds", "Open files and sockets.") {
      Double(ProcessUsage.openFiles)
    }
    metrics.reading("process_max_fds", "How many files and sockets may be open.") {
      Double(ProcessLimits.openFiles)
    }
    let started = Timestamp.now.milliseconds
    metrics.reading("process_start_time_seconds", "When the process started, since 1970.") {
      Double(started) / 1000
    }
    guard let data else { return }
    metrics.reading("martlet_disk_free_bytes", "Bytes that may still be written beside the data.") {
      // A disk that cannot be queried counts as full.
      Double((try? FileSystem.freeBytes(data)) ?? 0)
    }
  }
}
