//! What `/proc` says of a process: processor time and resident memory.

use crate::failure::Failure;
use std::fs;

/// `/proc/PID/stat` counts in `USER_HZ`, which is 100 for every program on the architectures served here,
/// whatever the kernel's own tick is.
const TICK_US: u64 = 10_000;

/// Processor time used so far by all threads of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
}

impl Cpu {
    /// Both kinds.
    pub(crate) fn total_us(self) -> u64 {
        self.user_us + self.system_us
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
        }
    }
}

/// A process that is watched.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    folder: String,
}

impl Process {
    /// The process with this id.
    pub(crate) fn new(pid: u32) -> Self {
        Self { folder: format!("/proc/{pid}") }
    }

    /// This program.
    pub(crate) fn own() -> Self {
        Self { folder: "/proc/self".to_owned() }
    }

    /// Processor time so far.
    pub(crate) fn cpu(&self) -> Result<Cpu, Failure> {
        let (path, text) = self.read("stat")?;
        parse_stat(&text).ok_or_else(|| Failure::Usage(format!("{path} does not look like a stat file")))
    }

    /// Resident memory (`VmRSS`) in KiB.
    pub(crate) fn rss_kb(&self) -> Result<u64, Failure> {
        let (path, text) = self.read("status")?;
        parse_rss(&text).ok_or_else(|| Failure::Usage(format!("{path} has no VmRSS")))
    }

    fn read(&self, file: &str) -> Result<(String, String), Failure> {
        let path = format!("{}/{file}", self.folder);
        let text = fs::read_to_string(&path).map_err(Failure::io(format!("reading {path}")))?;
        Ok((path, text))
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`. The second field is the program's name in parentheses and may hold
/// spaces and parentheses itself, so counting starts behind the last of them.
fn parse_stat(text: &str) -> Option<Cpu> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Cpu { user_us: ticks()? * TICK_US, system_us: ticks()? * TICK_US })
}

fn parse_rss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_program_with_an_odd_name() {
        let text = "77 (a (b) c) S 1 77 77 0 -1 4194560 100 0 3 0 250 1234 5 6 20 0 4 0 999 1000 200";
        assert_eq!(parse_stat(text), Some(Cpu { user_us: 2_500_000, system_us: 12_340_000 }));
        assert_eq!(parse_stat("77 (a) S 1 77"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn resident_memory() {
        assert_eq!(parse_rss("VmPeak:\t 9 kB\nVmRSS:\t   12345 kB\nRssAnon:\t 1 kB\n"), Some(12345));
        assert_eq!(parse_rss("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn this_program_has_used_memory_and_its_time_grows() {
        let own = Process::own();
        assert!(own.rss_kb().unwrap() > 100);
        let before = own.cpu().unwrap();
        let begin = std::time::Instant::now();
        while begin.elapsed().as_millis() < 40 {
            std::hint::spin_loop();
        }
        let after = own.cpu().unwrap();
        assert!(after.total_us() >= before.total_us());
        assert_eq!(after.since(before).total_us(), after.total_us() - before.total_us());
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Process::new(u32::MAX).cpu().unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/stat"), "{error}");
    }
}
