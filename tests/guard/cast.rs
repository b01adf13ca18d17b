//! Who talks to whom in the counted scenes.

#![allow(dead_code, unreachable_pub, reason = "each of the two programs uses a part")]

/// Rounds that are counted; one more goes before them.
pub const ROUNDS: u16 = 8;

/// One kind of traffic.
pub struct Cast {
    /// How the names of its scenes begin.
    pub name: &'static str,
    pub publishers: u16,
    /// Receivers of each publisher's topic.
    pub receivers: u16,
    /// Messages of one publisher in a turn.
    pub window: u16,
    /// Bytes.
    pub payload: usize,
}

pub const FANOUT: Cast = Cast { name: "fanout", publishers: 1, receivers: 100, window: 16, payload: 64 };
pub const POINT_TO_POINT: Cast = Cast { name: "p2p", publishers: 64, receivers: 1, window: 1, payload: 256 };

impl Cast {
    /// Messages that reach a receiver in one round.
    pub fn deliveries(&self) -> u64 {
        u64::from(self.publishers) * u64::from(self.receivers) * u64::from(self.window)
    }
}
