//! An ordered list that knows the rank of its entries: buckets of sorted entries.
//!
//! Insertion and removal move at most one bucket. The last entry of each bucket stands once more beside those of the
//! others, so that a search touches one bucket alone, and how many entries come before a bucket is a sum of at most
//! twelve numbers, also with a million entries.

/// Entries at which a bucket is cut in two.
const MOST: usize = 256;

/// See the module. No entry is in it twice.
#[derive(Debug, Clone)]
pub(super) struct Sorted<K> {
    /// None is empty.
    buckets: Vec<Vec<K>>,
    /// The last entry of each bucket.
    lasts: Vec<K>,
    lengths: Lengths,
    len: usize,
}

/// The lengths of the buckets, as a binary indexed tree: the place `n`, counted from 1, holds the sum of as many lengths
/// up to its own as the lowest bit of `n` says.
#[derive(Debug, Clone, Default)]
struct Lengths(Vec<u32>);

impl Lengths {
    /// Takes in lengths that are others than before. Costs as much as there are.
    fn refill(&mut self, lengths: impl Iterator<Item = usize>) {
        self.0.clear();
        self.0.extend(lengths.map(|length| length as u32));
        for at in 1..=self.0.len() {
            let next = at + (at & at.wrapping_neg());
            let own = self.0.get(at - 1).copied().unwrap_or(0);
            if let Some(sum) = self.0.get_mut(next - 1) {
                *sum += own;
            }
        }
    }

    /// A bucket has one entry more, or one less.
    fn change(&mut self, bucket: usize, by: i32) {
        let mut at = bucket + 1;
        while let Some(sum) = self.0.get_mut(at - 1) {
            *sum = sum.saturating_add_signed(by);
            at += at & at.wrapping_neg();
        }
    }

    /// How many entries the first buckets have together.
    fn before(&self, bucket: usize) -> usize {
        let (mut at, mut sum) = (bucket, 0);
        while at > 0 {
            sum += self.0.get(at - 1).copied().unwrap_or(0) as usize;
            at &= at - 1;
        }
        sum
    }
}

impl<K> Default for Sorted<K> {
    fn default() -> Self {
        Self { buckets: Vec::new(), lasts: Vec::new(), lengths: Lengths::default(), len: 0 }
    }
}

impl<K: Ord + Copy> Sorted<K> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn first(&self) -> Option<K> {
        self.buckets.first()?.first().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = K> {
        self.buckets.iter().flatten().copied()
    }

    /// The first bucket whose last entry is not before `key`.
    fn bucket(&self, key: K) -> usize {
        self.lasts.partition_point(|last| *last < key)
    }

    /// There is one bucket more, or one less: a bucket takes half of [`MOST`] changes for that.
    fn recount(&mut self) {
        self.lengths.refill(self.buckets.iter().map(Vec::len));
    }

    pub(super) fn insert(&mut self, key: K) {
        let at = self.bucket(key).min(self.buckets.len().saturating_sub(1));
        let (Some(bucket), Some(last)) = (self.buckets.get_mut(at), self.lasts.get_mut(at)) else {
            self.buckets.push(vec![key]);
            self.lasts.push(key);
            self.len = 1;
            return self.recount();
        };
        let Err(place) = bucket.binary_search(&key) else { return };
        bucket.insert(place, key);
        *last = key.max(*last);
        self.len += 1;
        self.lengths.change(at, 1);
        if bucket.len() > MOST {
            let upper = bucket.split_off(MOST / 2);
            let middle = bucket.last().copied().unwrap_or(key);
            let highest = std::mem::replace(last, middle);
            self.buckets.insert(at + 1, upper);
            self.lasts.insert(at + 1, highest);
            self.recount();
        }
    }

    /// `false`: it was not there.
    pub(super) fn remove(&mut self, key: K) -> bool {
        let at = self.bucket(key);
        let Some(bucket) = self.buckets.get_mut(at) else { return false };
        let Ok(place) = bucket.binary_search(&key) else { return false };
        bucket.remove(place);
        self.len -= 1;
        if let Some(highest) = bucket.last() {
            if let Some(last) = self.lasts.get_mut(at) {
                *last = *highest;
            }
            self.lengths.change(at, -1);
        } else {
            self.buckets.remove(at);
            self.lasts.remove(at);
            self.recount();
        }
        true
    }

    /// How many entries come before `key`, whether it is there or not.
    pub(super) fn rank(&self, key: K) -> usize {
        let at = self.bucket(key);
        self.lengths.before(at)
            + self.buckets.get(at).map_or(0, |bucket| bucket.partition_point(|entry| *entry < key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_an_ordered_set_with_ranks(steps in prop::collection::vec((any::<bool>(), 0_u16..3000), 0..4000)) {
            let (mut sorted, mut model) = (Sorted::default(), BTreeSet::new());
            for (insert, key) in steps {
                if insert {
                    sorted.insert(key);
                    model.insert(key);
                } else {
                    prop_assert_eq!(sorted.remove(key), model.remove(&key));
                }
                prop_assert_eq!(sorted.len(), model.len());
                prop_assert_eq!(sorted.first(), model.first().copied());
                prop_assert_eq!(sorted.rank(key), model.range(..key).count());
            }
            prop_assert!(sorted.iter().eq(model.iter().copied()));
        }
    }
}
