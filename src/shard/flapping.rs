//! Clients that connect again and again: refused for a while, before they cost a take-over each time.
//!
//! A client is known by its id's hash; the shard that is its home sees all of its connections.

use std::time::Duration;

use hashbrown::HashMap;

use super::Core;
use super::rate::{Bucket, Rate};
use crate::config::settings::GuardSettings;
use crate::message::Millis;

/// Clients that are known at most.
const MOST: usize = 65_536;

/// So many are not worth looking for those that can go.
const FEW: usize = 1024;

/// While there is no room, how often those that can go are looked for.
const SWEEP_EVERY: Millis = 1_000;

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    connects: Bucket,
    banned_until: Millis,
}

/// Who has connected lately, on one shard.
#[derive(Debug)]
pub(super) struct Flapping {
    rate: Option<Rate>,
    ban: Millis,
    known: HashMap<u64, Known, ahash::RandomState>,
    /// At this number those that can go are looked for.
    sweep_at: usize,
    /// When they were last.
    swept: Millis,
}

impl Flapping {
    pub(super) fn new(settings: &GuardSettings) -> Self {
        Self {
            rate: Rate::new(settings.client_connects.into(), Duration::from_mins(1), 0),
            ban: settings.client_ban.as_millis() as Millis,
            known: HashMap::default(),
            sweep_at: FEW,
            swept: 0,
        }
    }

    /// Counts a connection; `false`: it is one too many. `client`: the hash of its id.
    fn comes(&mut self, client: u64, now: Millis) -> bool {
        let Some(rate) = self.rate else { return true };
        if self.known.len() >= self.sweep_at && !self.known.contains_key(&client) {
            if self.known.len() < MOST || now >= self.swept + SWEEP_EVERY {
                self.known.retain(|_, known| known.banned_until > now || !known.connects.is_full(now));
                self.sweep_at = (2 * self.known.len()).clamp(FEW, MOST);
                self.swept = now;
            }
            if self.known.len() >= MOST {
                return true;
            }
        }
        let known = self.known.entry(client).or_default();
        if known.banned_until > now {
            return false;
        }
        if known.connects.try_take(&rate, 1, now) {
            return true;
        }
        *known = Known { connects: Bucket::default(), banned_until: now + self.ban };
        false
    }
}

impl Core {
    /// Counts a connection of a client that lives here and may come; `false`: it comes too often.
    pub(super) fn comes_seldom(&mut self, client_id: &str) -> bool {
        if self.flapping.rate.is_none() {
            return true;
        }
        let client = self.exchange.home_hash(client_id);
        self.flapping.comes(client, self.clients.now.mono)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flapping(connects: u32, ban: Duration) -> Flapping {
        Flapping::new(&GuardSettings { client_connects: connects, client_ban: ban, ..Default::default() })
    }

    #[test]
    fn too_often_in_a_minute_is_refused_for_a_while() {
        let mut flapping = flapping(5, Duration::from_secs(30));
        assert!((0..5).all(|_| flapping.comes(1, 1_000)));
        assert!(!flapping.comes(1, 1_000));
        assert!(!flapping.comes(1, 30_999), "however seldom it tries meanwhile");
        assert!(flapping.comes(2, 1_000));
        assert!((0..5).all(|_| flapping.comes(1, 31_000)));
        assert!(!flapping.comes(1, 31_000));
        assert!((0..1000).all(|n| flapping.comes(3, n * 12_000)), "every twelve seconds is not too often");
    }

    #[test]
    fn who_is_known_is_bounded() {
        let mut flapping = flapping(1, Duration::from_secs(30));
        let all = 3 * MOST as u64;
        assert!((0..all).all(|client| flapping.comes(client, 0)));
        assert_eq!(flapping.known.len(), MOST);
        assert!(!flapping.comes(5, 0));
        assert!((0..100).all(|client| flapping.comes(all + client, 120_000)));
        assert!(flapping.known.len() <= 101, "{}", flapping.known.len());
    }
}
