//! Coarse timers: one wheel a shard for keep-alives, connections that begin or close, session ends and will delays.
//!
//! An entry says only "look at this one now": whoever is looked at decides from its own state whether its time has
//! come or when to be looked at again. So a packet that arrives costs a store of a time stamp and no timer at all.

use crate::message::Millis;

/// Milliseconds of one tick.
pub const TICK: Millis = 100;

const SLOTS: usize = 1024;

/// What an entry points at: a slab key, and which arming this is. Every session that expires has one: eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Slab key, with what it is looked at for in the two highest bits.
    place: u32,
    /// What the thing under that key must still hold as its timer.
    pub number: u32,
}

impl Timer {
    const SESSION: u32 = 1 << 31;
    const RATE: u32 = 1 << 30;

    /// Points at the thing under a slab key.
    pub fn new(kind: Kind, key: u32, number: u32) -> Self {
        debug_assert!(key < Self::RATE);
        let kind = match kind {
            Kind::Connection => 0,
            Kind::Session => Self::SESSION,
            Kind::Rate => Self::RATE,
        };
        Self { place: key | kind, number }
    }

    /// Which slab, and what for.
    pub fn kind(self) -> Kind {
        match self.place & (Self::SESSION | Self::RATE) {
            0 => Kind::Connection,
            Self::RATE => Kind::Rate,
            _ => Kind::Session,
        }
    }

    /// Slab key.
    pub fn key(self) -> u32 {
        self.place & !(Self::SESSION | Self::RATE)
    }
}

/// What a timer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keep-alive, the wait for CONNECT, the end of a closing connection.
    Connection,
    /// Session expiry and will delay.
    Session,
    /// The end of a pause of a connection that was over its rate.
    Rate,
}

/// The wheel. Times past its reach are looked at when it comes round and put in again.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<Timer>>,
    /// Tick that was fired last.
    now: u64,
}

impl Wheel {
    /// An empty wheel at `now`.
    pub fn new(now: Millis) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), now: now / TICK }
    }

    /// Asks to be looked at once `at` has passed, or earlier if that is far off.
    pub fn arm(&mut self, timer: Timer, at: Millis) {
        let tick = at.div_ceil(TICK).clamp(self.now + 1, self.now + SLOTS as u64 - 1);
        if let Some(slot) = self.slots.get_mut(tick as usize % SLOTS) {
            slot.push(timer);
        }
    }

    /// Takes out the timers whose time has come, one tick's worth a call; `None` when the wheel has caught up.
    pub fn fire(&mut self, now: Millis) -> Option<Vec<Timer>> {
        if self.now >= now / TICK {
            return None;
        }
        self.now += 1;
        self.slots.get_mut(self.now as usize % SLOTS).map(std::mem::take)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn timer(key: u32) -> Timer {
        Timer::new(Kind::Connection, key, 0)
    }

    fn fired(wheel: &mut Wheel, now: Millis) -> Vec<u32> {
        let mut keys = Vec::new();
        while let Some(timers) = wheel.fire(now) {
            keys.extend(timers.iter().map(|t| t.key()));
        }
        keys
    }

    #[test]
    fn fires_not_before_and_at_most_one_tick_late() {
        let mut wheel = Wheel::new(0);
        wheel.arm(timer(1), 1500);
        wheel.arm(timer(2), 1501);
        assert!(fired(&mut wheel, 1499).is_empty());
        assert_eq!(fired(&mut wheel, 1500), [1]);
        assert_eq!(fired(&mut wheel, 1600), [2]);
    }

    #[test]
    fn far_times_are_looked_at_early_and_past_ones_at_the_next_tick() {
        let mut wheel = Wheel::new(10_000);
        wheel.arm(timer(1), u64::MAX / 2);
        wheel.arm(timer(2), 0);
        assert_eq!(fired(&mut wheel, 10_100), [2]);
        assert_eq!(fired(&mut wheel, 10_000 + TICK * SLOTS as u64), [1]);
    }
}
