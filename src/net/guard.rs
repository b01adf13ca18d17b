//! Where clients come from: how many connections an address has, how fast it makes them, and how often it fails to log
//! in. Shared by all shards; asked when a connection comes or goes, and never for a message.
//!
//! An address is one of IPv4, or a network of 64 bits of IPv6: whoever has one of these has all of it.

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::config::settings::GuardSettings;
use crate::message::Millis;
use crate::metrics::RefuseReason;
use crate::shard::rate::{Bucket, Rate};

/// Each has a lock of its own.
const PARTS: usize = 64;

/// Addresses that a part knows of at most; those with connections that the limits allow are known in any case.
const MOST: usize = 16 * 1024;

/// So many are not worth looking for those that can go.
const FEW: usize = 64;

/// While there is no room, how often those that can go are looked for.
const SWEEP_EVERY: Millis = 1_000;

const MINUTE: Duration = Duration::from_mins(1);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(NonZeroU64);

impl Origin {
    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        let number = match address.to_canonical() {
            // Among what IPv6 has reserved.
            IpAddr::V4(v4) => 1 << 32 | u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        // ::1, and what is like it.
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX))
    }
}

/// What is known of one origin.
#[derive(Debug, Default)]
struct Known {
    open: usize,
    connects: Bucket,
    failures: Bucket,
    banned_until: Millis,
}

impl Known {
    /// Nothing would be lost if it were forgotten.
    fn is_idle(&self, now: Millis) -> bool {
        self.open == 0 && self.banned_until <= now && self.connects.is_full(now) && self.failures.is_full(now)
    }
}

#[derive(Debug, Default)]
struct Part {
    known: HashMap<Origin, Known, ahash::RandomState>,
    /// At this number those that can go are looked for.
    sweep_at: usize,
    /// When they were last.
    swept: Millis,
}

impl Part {
    /// What is known of an origin. `None`: nothing, and nothing more can be.
    fn of(&mut self, origin: Origin, now: Millis) -> Option<&mut Known> {
        if self.known.len() >= self.sweep_at.max(FEW) && !self.known.contains_key(&origin) {
            let full = self.known.len() >= MOST;
            if !full || now >= self.swept + SWEEP_EVERY {
                self.known.retain(|_, known| !known.is_idle(now));
                self.sweep_at = (2 * self.known.len()).min(MOST);
                self.swept = now;
            }
            if self.known.len() >= MOST {
                return None;
            }
        }
        Some(self.known.entry(origin).or_default())
    }
}

/// What all listeners know of where clients come from.
#[derive(Debug)]
pub struct Guard {
    /// 0: no bound.
    connections: usize,
    connects: Option<Rate>,
    failures: Option<Rate>,
    ban: Millis,
    hasher: ahash::RandomState,
    parts: Vec<Mutex<Part>>,
}

impl Guard {
    /// Nobody is known yet.
    pub fn new(settings: &GuardSettings) -> Self {
        Self {
            connections: settings.connections,
            connects: Rate::new(settings.connects.into(), MINUTE, 0),
            failures: Rate::new(settings.failed_logins.into(), MINUTE, 0),
            ban: settings.ban.as_millis() as Millis,
            hasher: ahash::RandomState::new(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
        }
    }

    fn is_on(&self) -> bool {
        self.connections > 0 || self.connects.is_some() || self.failures.is_some()
    }

    fn part(&self, origin: Origin) -> Option<&Mutex<Part>> {
        self.parts.get(self.hasher.hash_one(origin) as usize % PARTS)
    }

    /// Counts a connection in, to be counted out by [`Self::leave`]; or says why it may not come.
    pub fn enter(&self, origin: Origin, now: Millis) -> Result<(), RefuseReason> {
        let Some(part) = self.part(origin).filter(|_| self.is_on()) else { return Ok(()) };
        let mut part = part.lock();
        let Some(known) = part.of(origin, now) else { return Ok(()) };
        if known.banned_until > now {
            return Err(RefuseReason::AddressBanned);
        }
        if self.connections > 0 && known.open >= self.connections {
            return Err(RefuseReason::AddressLimit);
        }
        if self.connects.is_some_and(|rate| !known.connects.try_take(&rate, 1, now)) {
            return Err(RefuseReason::AddressRate);
        }
        known.open += 1;
        Ok(())
    }

    /// Counts a connection out.
    pub fn leave(&self, origin: Origin) {
        let Some(part) = self.part(origin).filter(|_| self.is_on()) else { return };
        if let Some(known) = part.lock().known.get_mut(&origin) {
            known.open = known.open.saturating_sub(1);
        }
    }

    /// A login from there was wrong. `true`: one too many, and nobody is let in from there for a while.
    pub fn failed(&self, origin: Origin, now: Millis) -> bool {
        let (Some(rate), Some(part)) = (self.failures, self.part(origin)) else { return false };
        let mut part = part.lock();
        let Some(known) = part.of(origin, now) else { return false };
        if known.banned_until > now || known.failures.try_take(&rate, 1, now) {
            return false;
        }
        known.banned_until = now + self.ban;
        // Afterwards it may try again as often.
        known.failures = Bucket::default();
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn from(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    fn guard(change: impl FnOnce(&mut GuardSettings)) -> Guard {
        let mut settings = GuardSettings::default();
        change(&mut settings);
        Guard::new(&settings)
    }

    #[test]
    fn an_origin_is_an_address_of_ipv4_and_a_network_of_ipv6() {
        assert_ne!(from("192.0.2.1"), from("192.0.2.2"));
        assert_eq!(from("192.0.2.1"), from("::ffff:192.0.2.1"));
        assert_eq!(from("2001:db8:0:1::1"), from("2001:db8:0:1:ffff::"));
        assert_ne!(from("2001:db8:0:1::1"), from("2001:db8:0:2::1"));
        assert_ne!(from("::1"), from("0.0.0.0"));
        assert_eq!(size_of::<Option<Origin>>(), 8);
    }

    #[test]
    fn connections_at_the_same_time_are_bounded() {
        let guard = guard(|s| s.connections = 3);
        let (a, b) = (from("192.0.2.1"), from("192.0.2.2"));
        assert!((0..3).all(|_| guard.enter(a, 0).is_ok()));
        assert_eq!(guard.enter(a, 0), Err(RefuseReason::AddressLimit));
        assert_eq!(guard.enter(b, 0), Ok(()));
        guard.leave(a);
        assert_eq!(guard.enter(a, 0), Ok(()));
        assert_eq!(guard.enter(a, 1 << 40), Err(RefuseReason::AddressLimit), "time does not close them");
    }

    #[test]
    fn connections_in_a_minute_are_bounded_and_refused_ones_do_not_count() {
        let guard = guard(|s| s.connects = 6);
        let a = from("192.0.2.1");
        let come = |now| (0..100).filter(|_| guard.enter(a, now).is_ok()).count();
        assert_eq!(come(5_000), 6);
        assert_eq!(come(14_000), 0);
        assert_eq!(come(15_000), 1);
        assert_eq!(come(200_000), 6);
    }

    #[test]
    fn wrong_logins_close_the_door_for_a_while() {
        let guard = guard(|s| {
            s.failed_logins = 3;
            s.ban = Duration::from_mins(5);
        });
        let (a, b) = (from("192.0.2.1"), from("192.0.2.2"));
        assert!((0..3).all(|_| !guard.failed(a, 0)));
        assert_eq!(guard.enter(a, 0), Ok(()));
        assert!(guard.failed(a, 1_000));
        assert!(!guard.failed(a, 2_000), "it is banned already");
        assert_eq!(guard.enter(a, 300_999), Err(RefuseReason::AddressBanned));
        assert_eq!(guard.enter(b, 2_000), Ok(()));
        assert_eq!(guard.enter(a, 301_000), Ok(()));
        assert!((0..3).all(|_| !guard.failed(a, 301_000)));
        assert!(guard.failed(a, 301_000));
        // Seldom enough, they are never too many.
        assert!((0..100).all(|n| !guard.failed(b, n * 20_000)));
    }

    #[test]
    fn without_limits_nobody_is_known() {
        let guard = guard(|_| {});
        let a = from("192.0.2.1");
        assert!((0..10_000).all(|_| guard.enter(a, 0).is_ok() && !guard.failed(a, 0)));
        assert!(guard.parts.iter().all(|part| part.lock().known.is_empty()));
    }

    #[test]
    fn what_is_known_is_bounded_and_goes_with_time() {
        let guard = guard(|s| {
            s.connects = 1;
            s.connections = 10;
        });
        let many = |n: u32, now| {
            let origin = Origin::of(IpAddr::from(n.to_be_bytes()));
            let entered = guard.enter(origin, now).is_ok();
            guard.leave(origin);
            entered
        };
        let count = || guard.parts.iter().map(|part| part.lock().known.len()).sum::<usize>();
        let total = (2 * PARTS * MOST) as u32;
        assert!((0..total).all(|n| many(n, 0)), "who is not known is let in");
        assert_eq!(count(), PARTS * MOST);
        assert!((0..1000).all(|n| !many(n, 1_000)), "who is known is held to the limit");
        let entered = (0..100_000).filter(|n| many(total + n, 120_000)).count();
        assert_eq!(entered, 100_000);
        assert!(count() <= 100_000 + PARTS * MOST / 2, "{}", count());
        // Nobody with a connection is forgotten.
        let held = from("203.0.113.9");
        assert!(guard.enter(held, 300_000).is_ok());
        assert!((0..500_000).all(|n| many(2 * total + n, 500_000 + u64::from(n))));
        let part = guard.part(held).unwrap().lock();
        assert_eq!(part.known.get(&held).unwrap().open, 1);
    }
}
