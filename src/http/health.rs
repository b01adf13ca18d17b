//! What the shards and the server tell about themselves, for anyone to read at any time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// When each shard's loop last ticked.
#[derive(Debug)]
pub struct Pulse {
    last_tick_ms: Box<[AtomicU64]>,
}

impl Pulse {
    /// `shards` shards, all taken to have ticked at `now_ms`.
    pub fn new(shards: usize, now_ms: u64) -> Self {
        Self { last_tick_ms: (0..shards).map(|_| AtomicU64::new(now_ms)).collect() }
    }

    /// Shard `shard` ticks. One relaxed store, for the loop's timer (once a second or so).
    pub fn beat(&self, shard: usize, now_ms: u64) {
        if let Some(last) = self.last_tick_ms.get(shard) {
            last.store(now_ms, Ordering::Relaxed);
        }
    }

    /// The shards that have been silent for longer than `bound` at `now_ms`, and for how long.
    pub fn silent(&self, now_ms: u64, bound: Duration) -> Vec<(usize, Duration)> {
        let silence =
            |last: &AtomicU64| Duration::from_millis(now_ms.saturating_sub(last.load(Ordering::Relaxed)));
        self.last_tick_ms.iter().map(silence).enumerate().filter(|(_, silence)| *silence > bound).collect()
    }
}

/// What keeps the broker from serving clients: a set of obstacles, each with the name of the part that put it up
/// and takes it down again. Ready is when there is none.
#[derive(Debug, Default)]
pub struct Readiness {
    obstacles: Mutex<BTreeMap<&'static str, String>>,
}

impl Readiness {
    /// `part` cannot serve, for `reason`. Replaces what it said before.
    pub fn block(&self, part: &'static str, reason: impl Into<String>) {
        self.obstacles.lock().insert(part, reason.into());
    }

    /// `part` serves.
    pub fn clear(&self, part: &'static str) {
        self.obstacles.lock().remove(part);
    }

    /// One sentence for each obstacle, in the order of the parts' names.
    pub fn obstacles(&self) -> Vec<String> {
        self.obstacles.lock().iter().map(|(part, reason)| format!("{part}: {reason}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_silent_after_the_bound_and_not_before() {
        let bound = Duration::from_secs(5);
        let pulse = Pulse::new(3, 1_000);
        assert_eq!(pulse.silent(6_000, bound), []);
        pulse.beat(0, 6_000);
        pulse.beat(2, 5_999);
        pulse.beat(3, 6_000); // no such shard
        assert_eq!(pulse.silent(6_001, bound), [(1, Duration::from_millis(5_001))]);
        // A tick may be newer than the moment the question was asked.
        pulse.beat(1, 6_002);
        assert_eq!(pulse.silent(6_001, bound), []);
    }

    #[test]
    fn an_obstacle_stays_until_its_part_clears_it() {
        let readiness = Readiness::default();
        assert!(readiness.obstacles().is_empty());
        readiness.block("listeners", "not bound yet");
        readiness.block("drain", "shutting down");
        readiness.block("listeners", "127.0.0.1:1883 is in use");
        assert_eq!(readiness.obstacles(), ["drain: shutting down", "listeners: 127.0.0.1:1883 is in use"]);
        readiness.clear("listeners");
        assert_eq!(readiness.obstacles(), ["drain: shutting down"]);
    }
}
