//! Which shards have a subscriber: what a publishing shard asks before it sends a message anywhere else.
//!
//! Shared by all shards. A subscription is visible here before its SUBACK leaves, so whoever has seen a SUBACK can
//! rely on it.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use parking_lot::RwLock;

use crate::config::settings::MAX_SHARDS;
use crate::topic::WildcardTrie;

/// One bit a shard.
pub type Mask = u64;

/// Of an exact topic's mask: what is published there at QoS > 0 has to be written down.
const KEPT: Mask = 1 << 63;

const _: () = assert!(MAX_SHARDS < Mask::BITS as usize, "a mask cannot name every shard");

/// Locks of the exact map. Few would stop a shard for the length of a rehash at millions of topics.
const MAP_SHARDS: usize = 256;

/// Locks of the map of members on their way, which is nearly always empty.
const JOINING_SHARDS: usize = 4;

/// The shards that are interested in something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shards {
    /// All of them.
    pub any: Mask,
    /// Those where a message at QoS > 0 has to be written down. Once there, a shard stays until it has no interest any
    /// more: a bit too many costs an acknowledgement its wait, one too few would make it a lie.
    pub kept: Mask,
}

impl Shards {
    fn of(shard: u16, kept: bool) -> Self {
        let any = 1 << shard;
        Self { any, kept: if kept { any } else { 0 } }
    }

    fn add(&mut self, other: Self) {
        self.any |= other.any;
        self.kept |= other.kept;
    }

    fn remove(&mut self, shard: u16) {
        self.any &= !(1 << shard);
        self.kept &= !(1 << shard);
    }

    /// Those of an exact topic. With millions of them it is not worth a word to know which of the shards keep.
    fn exact(mask: Mask) -> Self {
        let any = mask & !KEPT;
        Self { any, kept: if mask & KEPT == 0 { 0 } else { any } }
    }
}

/// A hash is as good as its own hash.
#[derive(Clone, Copy, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Interest of all shards in exact topics and in wildcard filters.
#[derive(Debug)]
pub struct Interest {
    /// By the topics' hashes: sixteen bytes for each of millions, and no string to read. Topics whose hashes are the same
    /// share their entry, which costs a message now and then that a shard has no use for.
    exact: DashMap<u64, Mask, BuildHasherDefault<Hashed>>,
    hasher: ahash::RandomState,
    wildcard: RwLock<WildcardTrie<Shards>>,
    wildcards: AtomicUsize,
    /// Members on their way to a group on another shard, by the group's filter and shard.
    joining: DashMap<(Arc<str>, u16), u32, ahash::RandomState>,
    joiners: AtomicUsize,
    version: AtomicU64,
}

impl Default for Interest {
    fn default() -> Self {
        Self {
            exact: DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), MAP_SHARDS),
            hasher: ahash::RandomState::new(),
            wildcard: RwLock::new(WildcardTrie::default()),
            wildcards: AtomicUsize::new(0),
            joining: DashMap::with_hasher_and_shard_amount(ahash::RandomState::new(), JOINING_SHARDS),
            joiners: AtomicUsize::new(0),
            version: AtomicU64::new(0),
        }
    }
}

fn is_wildcard(filter: &str) -> bool {
    filter.bytes().any(|b| b == b'+' || b == b'#')
}

impl Interest {
    /// How topics are hashed here.
    pub fn hasher(&self) -> &ahash::RandomState {
        &self.hasher
    }

    fn hash(&self, topic: &str) -> u64 {
        self.hasher.hash_one(topic)
    }

    /// `shard` got its first subscriber of `filter`, or the first for whom messages are written down.
    pub fn add(&self, filter: &Arc<str>, shard: u16, kept: bool) {
        let new = Shards::of(shard, kept);
        if is_wildcard(filter) {
            let mut trie = self.wildcard.write();
            trie.get_or_insert_with(filter, Shards::default).add(new);
            self.wildcards.store(trie.len(), Ordering::Release);
        } else {
            let mask = new.any | if kept { KEPT } else { 0 };
            *self.exact.entry(self.hash(filter)).or_default() |= mask;
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// A member is on its way to a group on `shard`. The interest is there at once, so that whoever has seen the
    /// member's SUBACK finds it: what is published then comes to `shard` behind the member. Until [`Self::joined`] it
    /// cannot be taken away.
    pub fn expect(&self, filter: &Arc<str>, shard: u16, kept: bool) {
        self.joiners.fetch_add(1, Ordering::AcqRel);
        *self.joining.entry((filter.clone(), shard)).or_default() += 1;
        self.add(filter, shard, kept);
    }

    /// The member has arrived, and `shard` has entered the filter into its index.
    pub fn joined(&self, filter: &Arc<str>, shard: u16) {
        let key = (filter.clone(), shard);
        if let Some(mut count) = self.joining.get_mut(&key) {
            *count = count.saturating_sub(1);
        }
        self.joining.remove_if(&key, |_, count| *count == 0);
        self.joiners.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether a member of a group with this filter, or with one of the same hash, is on its way to the shard.
    fn expected(&self, filter: &str, shard: u16) -> bool {
        self.joiners.load(Ordering::Acquire) > 0
            && self.joining.iter().any(|member| {
                let (expected, at) = member.key();
                *at == shard && (**expected == *filter || self.hash(expected) == self.hash(filter))
            })
    }

    /// `shard` lost its last subscriber of `filter`, and has none of another one with the same hash.
    pub fn remove(&self, filter: &str, shard: u16) {
        if is_wildcard(filter) {
            let mut trie = self.wildcard.write();
            // Asked under the lock that adding takes too.
            let expected = self.expected(filter, shard);
            let left = trie.get_mut(filter).filter(|_| !expected).map(|shards| {
                shards.remove(shard);
                shards.any
            });
            if left == Some(0) {
                trie.remove(filter);
            }
            self.wildcards.store(trie.len(), Ordering::Release);
        } else {
            let hash = self.hash(filter);
            let Some(mut mask) = self.exact.get_mut(&hash) else { return };
            if self.expected(filter, shard) {
                return;
            }
            *mask &= !(1 << shard);
            drop(mask);
            self.exact.remove_if(&hash, |_, mask| *mask & !KEPT == 0);
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever interest does: an answer of [`Self::of`] holds until then.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Shards with a subscriber that matches `topic`.
    pub fn of(&self, topic: &str) -> Shards {
        let exact = self.exact.get(&self.hash(topic));
        let mut shards = exact.map_or(Shards::default(), |mask| Shards::exact(*mask));
        if self.wildcards.load(Ordering::Acquire) > 0 {
            self.wildcard.read().for_each_match(topic, |found| shards.add(*found));
        }
        shards
    }

    /// Exact topics and wildcard filters known, each counted once however many shards are interested.
    pub fn len(&self) -> (usize, usize) {
        (self.exact.len(), self.wildcards.load(Ordering::Relaxed))
    }

    /// Whether no shard has any subscriber.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0) && self.joining.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_join_exact_and_wildcard_interest_and_leave_nothing_behind() {
        let interest = Interest::default();
        let (exact, wild): (Arc<str>, Arc<str>) = ("a/b".into(), "a/+".into());
        interest.add(&exact, 0, false);
        interest.add(&exact, 2, true);
        interest.add(&wild, 5, false);
        assert_eq!(interest.of("a/b"), Shards { any: 0b10_0101, kept: 0b101 });
        assert_eq!(interest.of("a/c").any, 0b10_0000);
        let version = interest.version();
        interest.remove("a/b", 0);
        assert_ne!(interest.version(), version);
        assert_eq!(interest.of("a/b").any, 0b10_0100);
        interest.add(&wild, 5, true);
        assert_eq!(interest.of("a/b").kept, 0b10_0100);
        interest.remove("a/b", 2);
        interest.remove("a/+", 5);
        assert_eq!(interest.of("a/b"), Shards::default());
        assert!(interest.is_empty());
    }

    #[test]
    fn interest_in_a_member_on_its_way_outlives_the_last_one_that_leaves() {
        for filter in ["q/1", "q/#"] {
            let interest = Interest::default();
            let filter: Arc<str> = filter.into();
            interest.add(&filter, 1, false);
            interest.expect(&filter, 1, true);
            interest.remove(&filter, 1);
            assert_eq!(interest.of("q/1"), Shards { any: 0b10, kept: 0b10 }, "{filter}");
            interest.joined(&filter, 1);
            interest.remove(&filter, 1);
            assert!(interest.is_empty(), "{filter}");
        }
    }
}
