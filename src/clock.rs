//! The only reader of a clock. Everything else is told what time it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::message::Millis;

/// The present on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the process started, never going back: for deadlines.
    pub mono: Millis,
    /// Milliseconds since the Unix epoch: for what people read.
    pub unix: Millis,
}

/// Reads the system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts at 0 now. All shards of a server share one.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present.
    pub fn now(&self) -> Now {
        Now { mono: self.mono(), unix: unix_millis() }
    }

    /// Microseconds since the process started, for what is over sooner than in a millisecond.
    pub fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The monotonic part alone, which is cheaper.
    pub fn mono(&self) -> Millis {
        Millis::try_from(self.start.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }
}

fn unix_millis() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
