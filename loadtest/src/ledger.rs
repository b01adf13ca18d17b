//! Order, duplicates and losses, exactly: what every receiver has had of every publisher.

use ahash::AHashMap;
use std::collections::BTreeSet;

/// What an arrival was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Not seen before, and nothing later was seen before it.
    InOrder,
    /// Not seen before, but something later was.
    Late,
    /// Seen before.
    Duplicate,
}

/// Sequence numbers of many independent streams, each counting from 0.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Per stream the number expected next.
    next: Vec<u64>,
    /// Numbers that were skipped and have not come yet; empty with a broker that keeps order.
    missing: AHashMap<usize, BTreeSet<u64>>,
}

/// A gap wider than this is not written down number by number: the sender is not one of ours.
const WIDEST_GAP: u64 = 1 << 24;

impl Ledger {
    /// A ledger of so many streams.
    pub(crate) fn new(streams: usize) -> Self {
        Self { next: vec![0; streams], missing: AHashMap::new() }
    }

    /// Writes an arrival down; `None` if there is no such stream or the number is absurd.
    #[inline]
    pub(crate) fn arrived(&mut self, stream: usize, sequence: u64) -> Option<Arrival> {
        let next = self.next.get_mut(stream)?;
        if sequence == *next {
            *next += 1;
            return Some(Arrival::InOrder);
        }
        self.out_of_turn(stream, sequence)
    }

    #[cold]
    fn out_of_turn(&mut self, stream: usize, sequence: u64) -> Option<Arrival> {
        let next = self.next.get_mut(stream)?;
        if sequence > *next {
            if sequence - *next > WIDEST_GAP {
                return None;
            }
            self.missing.entry(stream).or_default().extend(*next..sequence);
            *next = sequence + 1;
            return Some(Arrival::InOrder);
        }
        let missing = self.missing.get_mut(&stream);
        Some(if missing.is_some_and(|set| set.remove(&sequence)) {
            Arrival::Late
        } else {
            Arrival::Duplicate
        })
    }
}

/// The order within many streams that may have gaps, as the members of a shared group see them.
#[derive(Debug, Default)]
pub(crate) struct Rising {
    next: Vec<u64>,
}

impl Rising {
    /// So many streams.
    pub(crate) fn new(streams: usize) -> Self {
        Self { next: vec![0; streams] }
    }

    /// Whether this number is above all before it in its stream; `None` if there is no such stream.
    pub(crate) fn rises(&mut self, stream: usize, sequence: u64) -> Option<bool> {
        let next = self.next.get_mut(stream)?;
        let rises = sequence >= *next;
        *next = (*next).max(sequence + 1);
        Some(rises)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arrival::{Duplicate, InOrder, Late};

    fn run(numbers: &[u64]) -> Vec<Arrival> {
        let mut ledger = Ledger::new(2);
        numbers.iter().filter_map(|&number| ledger.arrived(1, number)).collect()
    }

    #[test]
    fn arrivals_are_told_apart() {
        assert_eq!(run(&[0, 1, 2]), [InOrder; 3]);
        assert_eq!(run(&[0, 2, 1]), [InOrder, InOrder, Late]);
        assert_eq!(run(&[0, 2, 1, 1]), [InOrder, InOrder, Late, Duplicate]);
        assert_eq!(run(&[0, 0, 1]), [InOrder, Duplicate, InOrder]);
        assert_eq!(run(&[3, 0, 1, 2, 4]), [InOrder, Late, Late, Late, InOrder]);
    }

    #[test]
    fn streams_are_apart_and_absurd_ones_refused() {
        let mut ledger = Ledger::new(2);
        assert_eq!(ledger.arrived(0, 0), Some(InOrder));
        assert_eq!(ledger.arrived(1, 0), Some(InOrder));
        assert_eq!(ledger.arrived(2, 0), None);
        assert_eq!(ledger.arrived(0, u64::MAX), None);
    }

    #[test]
    fn rising_allows_gaps_only() {
        let mut rising = Rising::new(1);
        let seen: Vec<_> = [0, 5, 6, 3, 6, 7].iter().map(|&n| rising.rises(0, n)).collect();
        assert_eq!(seen, [Some(true), Some(true), Some(true), Some(false), Some(false), Some(true)]);
        assert_eq!(rising.rises(1, 0), None);
    }
}
