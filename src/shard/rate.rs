//! How fast a client may send: over its rate it is first not read, and ended if it goes on like that.
//!
//! Clients without a bound pay for this with one flag that is looked at beside another. Those with one have an entry
//! here from their first packet on; its pauses end by the shard's timers, so what is read after one comes at most a tick
//! late.

use std::time::Duration;

use hashbrown::HashMap;

use super::timers::{Kind, TICK, Timer};
use super::{Core, End};
use crate::config::settings::RateSettings;
use crate::message::{Millis, NEVER};
use crate::metrics::{CloseReason, Packet};
use crate::protocol::ReasonCode;
use crate::session::Phase;

const NANOS_OF_A_MILLI: u64 = 1_000_000;

/// A pause ends with a tick: whoever may not have as much at once as comes in two would fall short of its rate.
const LEAST_ROOM: Duration = Duration::from_millis(2 * TICK);

/// So many in a time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    units: u64,
    /// Nanoseconds.
    per: u64,
    /// How long the rate takes to bring what may come at once, in nanoseconds.
    room: u64,
}

impl Rate {
    /// `units` in each `per`, as many of them at once as `burst`; 0 at once stands for as many as come in `per`. `None`
    /// for 0 units, which stand for no bound.
    pub fn new(units: u64, per: Duration, burst: u64) -> Option<Self> {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        let mut rate = Self { units, per, room: per };
        if units == 0 {
            return None;
        }
        if burst > 0 {
            rate.room = rate.cost(burst);
        }
        Some(rate)
    }

    /// The same with room for what comes in `least`.
    #[must_use]
    pub fn with_room_for(self, least: Duration) -> Self {
        let least = u64::try_from(least.as_nanos()).unwrap_or(u64::MAX);
        Self { room: self.room.max(least), ..self }
    }

    fn cost(&self, units: u64) -> u64 {
        let nanos = u128::from(units) * u128::from(self.per) / u128::from(self.units.max(1));
        // A century, so that nothing overflows.
        u64::try_from(nanos).unwrap_or(u64::MAX).min(u64::MAX / 8)
    }
}

/// What is left of a rate, as one number: when all of it is there again, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket(u64);

impl Bucket {
    /// Takes what has come already, whether or not it was there.
    pub fn take(&mut self, rate: &Rate, units: u64, now: Millis) {
        self.0 = self.0.max(nanos(now)).saturating_add(rate.cost(units)).min(u64::MAX / 2);
    }

    /// Takes `units` if they are there.
    pub fn try_take(&mut self, rate: &Rate, units: u64, now: Millis) -> bool {
        let before = *self;
        self.take(rate, units, now);
        let there = !self.is_over(rate, now);
        if !there {
            *self = before;
        }
        there
    }

    /// Gives back what was taken for nothing.
    pub fn give_back(&mut self, rate: &Rate, units: u64) {
        self.0 = self.0.saturating_sub(rate.cost(units));
    }

    /// More was taken than was there.
    pub fn is_over(self, rate: &Rate, now: Millis) -> bool {
        self.0 > nanos(now).saturating_add(rate.room)
    }

    /// All of it is there.
    pub fn is_full(self, now: Millis) -> bool {
        self.0 <= nanos(now)
    }

    /// How long until half of what may come at once is there.
    pub fn until_half(self, rate: &Rate, now: Millis) -> Millis {
        self.0.saturating_sub(nanos(now).saturating_add(rate.room / 2)).div_ceil(NANOS_OF_A_MILLI)
    }
}

fn nanos(at: Millis) -> u64 {
    at.saturating_mul(NANOS_OF_A_MILLI)
}

/// A client that has a rate.
#[derive(Clone, Copy, Debug)]
struct Sender {
    messages: Bucket,
    bytes: Bucket,
    /// Since when it has not kept below its rate for so long that all of it was there again; [`NEVER`]: it is.
    since: Millis,
    /// It is this that it is not read for.
    waits: bool,
}

/// The rates of a shard's clients.
#[derive(Debug)]
pub(super) struct Rates {
    messages: Option<Rate>,
    bytes: Option<Rate>,
    patience: Millis,
    senders: HashMap<u32, Sender, ahash::RandomState>,
}

impl Rates {
    pub(super) fn new(settings: &RateSettings) -> Self {
        let rate = |units, burst| Rate::new(units, Duration::from_secs(1), burst);
        Self {
            messages: rate(settings.messages.into(), settings.message_burst.into())
                .map(|rate| rate.with_room_for(LEAST_ROOM)),
            bytes: rate(settings.bytes, settings.byte_burst).map(|rate| rate.with_room_for(LEAST_ROOM)),
            patience: settings.patience.as_millis() as Millis,
            senders: HashMap::default(),
        }
    }

    /// Whether clients have rates at all.
    pub(super) fn are_set(&self) -> bool {
        self.messages.is_some() || self.bytes.is_some()
    }

    pub(super) fn forget(&mut self, key: u32) {
        self.senders.remove(&key);
    }

    /// How long the client is not to be read; 0: it may be.
    fn wait(&self, sender: &Sender, now: Millis) -> Millis {
        let wait = |rate: &Option<Rate>, bucket: Bucket| {
            rate.as_ref().map_or(0, |rate| bucket.until_half(rate, now))
        };
        wait(&self.messages, sender.messages).max(wait(&self.bytes, sender.bytes))
    }
}

impl Core {
    /// A packet of a client was taken that has a rate or is not to be read. Whether nothing more of it may be run.
    pub(super) fn hold_to_rate(&mut self, key: u32, (packet, len): (Packet, usize)) -> Result<bool, End> {
        let now = self.clients.now.mono;
        let Some(client) = self.clients.connections.get_mut(key as usize) else { return Ok(false) };
        if !client.rated {
            return Ok(client.paused);
        }
        let Rates { messages, bytes, patience, senders } = &mut self.rates;
        let fresh =
            Sender { messages: Bucket::default(), bytes: Bucket::default(), since: NEVER, waits: false };
        let sender = senders.entry(key).or_insert(fresh);
        if sender.messages.is_full(now) && sender.bytes.is_full(now) {
            sender.since = NEVER;
        }
        let mut over = false;
        if let Some(rate) = messages {
            sender.messages.take(rate, u64::from(packet == Packet::Publish), now);
            over |= sender.messages.is_over(rate, now);
        }
        if let Some(rate) = bytes {
            sender.bytes.take(rate, len as u64, now);
            over |= sender.bytes.is_over(rate, now);
        }
        if !over {
            return Ok(client.paused);
        }
        sender.since = sender.since.min(now);
        if *patience > 0 && now - sender.since >= *patience {
            let code = ReasonCode::MESSAGE_RATE_TOO_HIGH;
            return Err(End::new(CloseReason::MessageRate, code, "over its rate for too long"));
        }
        self.wait_for_rate(key);
        Ok(true)
    }

    /// Does not read a client until it has some of its rate again. `false`: it has already.
    pub(super) fn wait_for_rate(&mut self, key: u32) -> bool {
        let now = self.clients.now.mono;
        let Some(client) = self.clients.connections.get_mut(key as usize) else { return false };
        let Some(&sender) = self.rates.senders.get(&key) else { return false };
        let wait = self.rates.wait(&sender, now);
        // Whoever ends another pause comes here again.
        if wait == 0 || client.paused {
            return false;
        }
        client.paused = true;
        if let Some(sender) = self.rates.senders.get_mut(&key) {
            sender.waits = true;
        }
        self.clients.counters.rate_pauses += 1;
        self.timers.arm(Timer::new(Kind::Rate, key, client.link.timer), now + wait);
        true
    }

    /// A pause is over, unless it was longer than timers reach.
    pub(super) fn look_at_rate(&mut self, timer: Timer) {
        let (key, now) = (timer.key(), self.clients.now.mono);
        let Some(client) = self.clients.connections.get(key as usize) else { return };
        let Some(&sender) = self.rates.senders.get(&key) else { return };
        if client.link.timer != timer.number || client.link.phase != Phase::Open || !sender.waits {
            return;
        }
        let wait = self.rates.wait(&sender, now);
        if wait > 0 {
            return self.timers.arm(timer, now + wait);
        }
        if let Some(sender) = self.rates.senders.get_mut(&key) {
            sender.waits = false;
        }
        self.effects.resume.push(key);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_its_rate() {
        let rate = Rate::new(10, SECOND, 5).unwrap();
        let mut bucket = Bucket::default();
        let mut taken = |now| (0..100).filter(|_| bucket.try_take(&rate, 1, now)).count();
        assert_eq!(taken(1_000_000), 5);
        assert_eq!(taken(1_000_000), 0);
        assert_eq!(taken(1_000_099), 0);
        assert_eq!(taken(1_000_100), 1);
        assert_eq!(taken(1_000_450), 3);
        assert_eq!(taken(1_000_500), 1, "what was not whole was not lost");
        assert_eq!(taken(2_000_000), 5, "and no more gathers than the burst");
    }

    #[test]
    fn debts_are_paid_by_time() {
        let rate = Rate::new(1000, SECOND, 0).unwrap();
        let mut bucket = Bucket::default();
        bucket.take(&rate, 1000, 50);
        assert!(!bucket.is_over(&rate, 50));
        bucket.take(&rate, 4000, 50);
        assert!(bucket.is_over(&rate, 50));
        assert_eq!(bucket.until_half(&rate, 50), 4500);
        assert_eq!(bucket.until_half(&rate, 4550), 0);
        assert!(!bucket.is_full(5049));
        assert!(bucket.is_full(5050));
    }

    #[test]
    fn no_rate_is_no_bound_and_none_overflows() {
        assert_eq!(Rate::new(0, SECOND, 5), None);
        let slow = Rate::new(1, SECOND, u64::MAX).unwrap();
        let mut bucket = Bucket::default();
        bucket.take(&slow, u64::MAX, u64::MAX);
        bucket.take(&slow, u64::MAX, u64::MAX);
        assert!(bucket.until_half(&slow, 0) > 0);
        let fast = Rate::new(u64::MAX, SECOND, 0).unwrap();
        let mut bucket = Bucket::default();
        bucket.take(&fast, 1 << 40, 0);
        assert!(!bucket.is_over(&fast, 0));
    }

    #[test]
    fn pauses_by_ticks_leave_the_whole_rate() {
        let rate = Rate::new(100, SECOND, 1).unwrap().with_room_for(LEAST_ROOM);
        let mut bucket = Bucket::default();
        let mut taken = 0;
        for tick in 0..100 {
            let now = 10_000 + tick * TICK;
            if bucket.until_half(&rate, now) > 0 {
                continue;
            }
            while !bucket.is_over(&rate, now) {
                bucket.take(&rate, 1, now);
                taken += 1;
            }
        }
        assert!((990..=1030).contains(&taken), "{taken} in ten seconds");
    }
}
