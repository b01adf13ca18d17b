//! Agents who can take a certain kind of conversation now, the best first.
//!
//! As in a line, idle time is gained by all alike until an agent is as idle as can be; from then on its score stands.
//! So there are two lists in an order that does not change with time.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::desk::assigned::Weights;

/// An agent's place in a roster. Scores are in thousandths of a point, times `idle_full_ms`; negated: the best comes
/// first, of equals the longest idle, then the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    rank: i64,
    idle_since: u64,
    name: Arc<str>,
    pub(super) agent: u32,
    rested: bool,
}

/// What an agent is to a kind of conversation, apart from how long it has been idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    /// Sum of the levels in the wanted skills, and how much that could be.
    pub(super) levels: (u32, u32),
    /// Free capacity, and all of it.
    pub(super) spare: (u32, u32),
    pub(super) language: bool,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    fresh: BTreeSet<Seat>,
    rested: BTreeSet<Seat>,
}

/// A part of a whole in thousandths of points.
fn thousandths(weight: u32, (part, whole): (u32, u32)) -> i64 {
    i64::from(weight) * 1000 * i64::from(part) / i64::from(whole.max(1))
}

impl Fit {
    /// The terms skill, spare and language in thousandths of a point.
    pub(super) fn terms(&self, weights: &Weights) -> [i64; 3] {
        [
            thousandths(weights.skill, self.levels),
            thousandths(weights.spare, self.spare),
            i64::from(weights.language) * 1000 * i64::from(self.language),
        ]
    }
}

/// The term of idle time in thousandths of a point, times `idle_full_ms`.
pub(super) fn idle(weights: &Weights, idle_ms: u64) -> i64 {
    i64::from(weights.idle) * 1000 * i64::try_from(idle_ms.min(full(weights))).unwrap_or(0)
}

fn full(weights: &Weights) -> u64 {
    weights.idle_full_ms.max(1)
}

/// `idle_full_ms`, of which the term of idle time is a part.
pub(super) fn whole(weights: &Weights) -> i64 {
    i64::try_from(full(weights)).unwrap_or(i64::MAX)
}

/// The term of idle time in thousandths of a point.
pub(super) fn idle_term(weights: &Weights, idle_ms: u64) -> i64 {
    idle(weights, idle_ms) / whole(weights)
}

/// When an agent that is idle since a moment is as idle as can be.
pub(super) fn rested_at(weights: &Weights, idle_since: u64) -> u64 {
    idle_since.saturating_add(full(weights))
}

impl Seat {
    pub(super) fn new(
        weights: &Weights,
        fit: &Fit,
        (agent, name): (u32, &Arc<str>),
        idle_since: u64,
        now: u64,
    ) -> Self {
        let fixed = fit.terms(weights).iter().sum::<i64>().saturating_mul(whole(weights));
        let rested = rested_at(weights, idle_since) <= now;
        let score = if rested {
            fixed + idle(weights, u64::MAX)
        } else {
            fixed - i64::from(weights.idle) * 1000 * i64::try_from(idle_since).unwrap_or(0)
        };
        Self { rank: -score, idle_since, name: name.clone(), agent, rested }
    }

    /// The score now, times `idle_full_ms`.
    fn scaled(&self, weights: &Weights, now: u64) -> i64 {
        let gained = i64::from(weights.idle) * 1000 * i64::try_from(now).unwrap_or(0);
        if self.rested { -self.rank } else { gained - self.rank }
    }

    fn better(&self, other: &Self, weights: &Weights, now: u64) -> bool {
        let (mine, others) = (self.scaled(weights, now), other.scaled(weights, now));
        mine > others || (mine == others && (self.idle_since, &self.name) < (other.idle_since, &other.name))
    }
}

impl Roster {
    fn list(&mut self, seat: &Seat) -> &mut BTreeSet<Seat> {
        if seat.rested { &mut self.rested } else { &mut self.fresh }
    }

    pub(super) fn insert(&mut self, seat: Seat) {
        self.list(&seat).insert(seat);
    }

    pub(super) fn remove(&mut self, seat: &Seat) {
        let was_there = self.list(seat).remove(seat);
        debug_assert!(was_there, "an agent is where it was put");
    }

    /// All, the best first.
    pub(super) fn iter<'r>(&'r self, weights: &'r Weights, now: u64) -> impl Iterator<Item = &'r Seat> + 'r {
        let (mut fresh, mut rested) = (self.fresh.iter().peekable(), self.rested.iter().peekable());
        std::iter::from_fn(move || match (fresh.peek(), rested.peek()) {
            (Some(one), Some(other)) if one.better(other, weights, now) => fresh.next(),
            (_, Some(_)) => rested.next(),
            (_, None) => fresh.next(),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_the_formula(
            all in prop::collection::vec((0_u32..=15, 0_u32..=4, any::<bool>(), 0_u64..1_200_000), 1..40),
            passed in 0_u64..100_000,
        ) {
            let weights = Weights::default();
            let epoch = 1_700_000_000_000;
            let now = epoch + 1_200_000 + passed;
            let mut roster = Roster::default();
            let mut expected = Vec::new();
            for (number, &(levels, spare, language, late)) in all.iter().enumerate() {
                let fit = Fit { levels: (levels, 15), spare: (spare, 4), language };
                let (name, since) = (format!("a{number:02}").into(), epoch + late);
                let number = u32::try_from(number).unwrap();
                roster.insert(Seat::new(&weights, &fit, (number, &name), since, now));
                let whole = 600_000;
                let fixed: i64 = fit.terms(&weights).iter().sum::<i64>() * whole;
                let gained = 50_000 * i64::try_from(now - since).unwrap().min(whole);
                expected.push((-(fixed + gained), since, name, number));
            }
            expected.sort();
            let found: Vec<u32> = roster.iter(&weights, now).map(|seat| seat.agent).collect();
            prop_assert_eq!(found, expected.iter().map(|e| e.3).collect::<Vec<_>>());
        }
    }
}
