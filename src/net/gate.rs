//! How fast a listener lets connections in, over all shards. Those beyond that wait in the kernel.

use std::time::Duration;

use parking_lot::Mutex;

use crate::config::settings::ListenerSettings;
use crate::message::Millis;
use crate::shard::rate::{Bucket, Rate};
use crate::shard::timers::TICK;

/// A closed gate is tried again with each tick.
const ROOM: Duration = Duration::from_millis(2 * TICK);

/// One listener's gate.
#[derive(Debug)]
pub struct Gate {
    rate: Option<Rate>,
    bucket: Mutex<Bucket>,
    /// Connections of each shard whose CONNECT has not come, at most.
    pub(super) handshakes: usize,
}

impl Gate {
    /// The gate of a listener that has a socket on each of so many shards.
    pub fn new(settings: &ListenerSettings, shards: usize) -> Self {
        let most = if settings.max_handshakes == 0 { usize::MAX } else { settings.max_handshakes };
        Self {
            rate: Rate::new(settings.accept_rate.into(), Duration::from_secs(1), 1)
                .map(|rate| rate.with_room_for(ROOM)),
            bucket: Mutex::default(),
            handshakes: most.div_ceil(shards.max(1)),
        }
    }

    /// Whether one may be let in now. If none was there, [`Self::nobody_came`].
    pub(super) fn take(&self, now: Millis) -> bool {
        self.rate.is_none_or(|rate| self.bucket.lock().try_take(&rate, 1, now))
    }

    /// Gives back what was taken for nothing.
    pub(super) fn nobody_came(&self) {
        if let Some(rate) = self.rate {
            self.bucket.lock().give_back(&rate, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_come_as_may_and_none_is_lost_to_an_empty_queue() {
        let gate = Gate::new(&ListenerSettings { accept_rate: 50, ..ListenerSettings::default() }, 2);
        let mut come = 0;
        for tick in 0..100 {
            let now = 7_000 + tick * TICK;
            for _ in 0..1000 {
                if gate.take(now) {
                    gate.nobody_came();
                }
            }
            come += (0..1000).filter(|_| gate.take(now)).count();
        }
        assert!((500..=510).contains(&come), "{come} in ten seconds");
    }

    #[test]
    fn without_a_rate_everybody_may_come() {
        let gate = Gate::new(&ListenerSettings::default(), 2);
        assert!((0..100_000).all(|_| gate.take(0)));
        assert!(gate.handshakes > 1_000_000);
    }
}
