//! Those who wait for the same: in the order in which they are served.
//!
//! What a conversation's score gains by waiting, all others gain as well, so the order changes only when one of them
//! passes half of the group's target and from then on gains faster. So there are two lists in an order that does not
//! change with time, and whoever is next is the better of their heads.

use super::sorted::Sorted;
use crate::desk::assigned::Order;

/// Where a conversation stands. A score is in thousandths of a point at the epoch, and negated: the best comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    rank: i64,
    pub(super) arrived: u64,
    pub(super) conversation: u32,
    urgent: bool,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    calm: Sorted<Spot>,
    urgent: Sorted<Spot>,
}

/// When a conversation begins to be urgent.
pub(super) fn urgent_at(order: &Order, arrived: u64) -> u64 {
    if order.target_ms == 0 || order.urgency == 0 { u64::MAX } else { arrived + order.target_ms / 2 }
}

/// A moment as what is multiplied with points: fits for 290 million years.
fn moment(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX / 4096)
}

impl Spot {
    pub(super) fn new(order: &Order, priority: u16, arrived: u64, conversation: u32, now: u64) -> Self {
        let from = urgent_at(order, arrived);
        let urgent = from <= now;
        let points = i64::from(priority) * i64::from(order.priority_weight) * 1000;
        let mut score = points - moment(arrived) * i64::from(order.ageing);
        if urgent {
            score -= moment(from) * i64::from(order.urgency);
        }
        Self { rank: -score, arrived, conversation, urgent }
    }

    /// `priority × weight + waited × ageing + past half the target × urgency`, in thousandths of a point.
    pub(super) fn score(&self, order: &Order, now: u64) -> i64 {
        let slope = i64::from(order.ageing) + i64::from(self.urgent) * i64::from(order.urgency);
        moment(now) * slope - self.rank
    }

    fn better(&self, other: &Self, order: &Order, now: u64) -> bool {
        let (mine, others) = (self.score(order, now), other.score(order, now));
        mine > others
            || (mine == others && (self.arrived, self.conversation) < (other.arrived, other.conversation))
    }
}

impl Line {
    fn list(&mut self, spot: &Spot) -> &mut Sorted<Spot> {
        if spot.urgent { &mut self.urgent } else { &mut self.calm }
    }

    pub(super) fn insert(&mut self, spot: Spot) {
        self.list(&spot).insert(spot);
    }

    pub(super) fn remove(&mut self, spot: Spot) {
        let was_there = self.list(&spot).remove(spot);
        debug_assert!(was_there, "a conversation is where it was put");
    }

    pub(super) fn len(&self) -> usize {
        self.calm.len() + self.urgent.len()
    }

    /// All, the next one first.
    pub(super) fn iter<'l>(&'l self, order: &'l Order, now: u64) -> impl Iterator<Item = Spot> + 'l {
        let (mut calm, mut urgent) = (self.calm.iter().peekable(), self.urgent.iter().peekable());
        std::iter::from_fn(move || match (calm.peek(), urgent.peek()) {
            (Some(one), Some(other)) if one.better(other, order, now) => calm.next(),
            (_, Some(_)) => urgent.next(),
            (_, None) => calm.next(),
        })
    }

    /// How many are served before one of this score that came at `arrived`.
    pub(super) fn ahead_of(
        &self,
        score: i64,
        arrived: u64,
        conversation: u32,
        order: &Order,
        now: u64,
    ) -> usize {
        let rank = |urgent: bool| {
            let slope = i64::from(order.ageing) + i64::from(urgent) * i64::from(order.urgency);
            Spot { rank: moment(now) * slope - score, arrived, conversation, urgent }
        };
        self.calm.rank(rank(false)) + self.urgent.rank(rank(true))
    }

    /// The one that came first. Not cheap: looks at the first of each list only, which is exact while all have one
    /// priority and close otherwise.
    pub(super) fn oldest(&self) -> Option<u64> {
        [self.calm.first(), self.urgent.first()].into_iter().flatten().map(|spot| spot.arrived).min()
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
            all in prop::collection::vec((0_u16..5, 0_u64..300_000), 1..60),
            waited in 0_u64..400_000,
            ageing in 1_u32..4,
            urgency in 0_u32..6,
        ) {
            let order = Order { priority_weight: 60, ageing, urgency, target_ms: 60_000 };
            let epoch = 1_700_000_000_000;
            let now = epoch + 300_000 + waited;
            let mut line = Line::default();
            let mut expected = Vec::new();
            for (number, &(priority, late)) in all.iter().enumerate() {
                let (number, arrived) = (u32::try_from(number).unwrap(), epoch + late);
                line.insert(Spot::new(&order, priority, arrived, number, now));
                let age = i64::try_from(now - arrived).unwrap();
                let score = i64::from(priority) * 60_000 + age * i64::from(ageing)
                    + (age - 30_000).max(0) * i64::from(urgency);
                expected.push((-score, arrived, number));
            }
            expected.sort_unstable();
            let found: Vec<_> = line.iter(&order, now).map(|s| (-s.score(&order, now), s.arrived, s.conversation)).collect();
            prop_assert_eq!(&found, &expected);
            for (at, &(score, arrived, number)) in expected.iter().enumerate() {
                prop_assert_eq!(line.ahead_of(-score, arrived, number, &order, now), at);
            }
        }
    }
}
