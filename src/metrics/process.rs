//! The process as the kernel sees it, under the names Prometheus' own client libraries give these metrics, so that
//! ready-made dashboards find them. Read when the page is rendered; absent where there is no `/proc`.

use std::fs;

use ::metrics::{Gauge, Key, Label as Pair, Level, Metadata, Recorder};
use metrics_exporter_prometheus::PrometheusRecorder;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);
const RESIDENT: &str = "process_resident_memory_bytes";
const MAX_FDS: &str = "process_max_fds";
const BUILD: &str = "switchboard_build_info";

/// Held handles of the process' gauges.
pub(super) struct Handles {
    resident: Gauge,
    max_fds: Gauge,
}

impl Handles {
    pub(super) fn new(recorder: &PrometheusRecorder) -> Self {
        let gauge = |name: &'static str, help: &'static str, labels: Vec<Pair>| {
            recorder.describe_gauge(name.into(), None, help.into());
            recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
        };
        let version = Pair::from_static_parts("version", env!("CARGO_PKG_VERSION"));
        gauge(BUILD, "Always 1; the label says which version runs.", vec![version]).set(1.0);
        let handles = Self {
            resident: gauge(RESIDENT, "Resident memory of the process.", Vec::new()),
            max_fds: gauge(MAX_FDS, "Bound on open file descriptors of the process.", Vec::new()),
        };
        handles.sample();
        handles
    }

    /// Reads the present values. Not the number of open descriptors: with a million connections counting them
    /// takes longer than the rest of the page, and `switchboard_connections` says as much.
    pub(super) fn sample(&self) {
        if let Some(kib) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_kib) {
            self.resident.set(f64::from(kib) * 1024.0);
        }
        if let Some(files) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(max_files) {
            self.max_fds.set(f64::from(files));
        }
    }
}

fn resident_kib(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn max_files(limits: &str) -> Option<u32> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let status = "Name:\tswitchboard\nVmHWM:\t    9000 kB\nVmRSS:\t    8124 kB\nRssAnon:\t 20 kB\n";
        assert_eq!(resident_kib(status), Some(8124));
        assert_eq!(resident_kib("Name:\tx\n"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             62987                62987                processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(max_files(limits), Some(1024));
        assert_eq!(
            max_files("Max open files            unlimited            unlimited            files"),
            None
        );
    }
}
