//! Which shards have a subscriber: what a publishing shard asks before it sends a message anywhere else.
//!
//! Shared by all shards. A subscription is visible here before its SUBACK leaves, so whoever has seen a SUBACK can
//! rely on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use parking_lot::RwLock;

use crate::topic::WildcardTrie;

/// One bit a shard.
pub type Mask = u64;

/// Most shards that a [`Mask`] can name.
pub const MAX_SHARDS: usize = Mask::BITS as usize;

/// Locks of the exact map. Few would stop a shard for the length of a rehash at millions of topics.
const MAP_SHARDS: usize = 256;

/// Interest of all shards in exact topics and in wildcard filters.
#[derive(Debug)]
pub struct Interest {
    exact: DashMap<Arc<str>, Mask, ahash::RandomState>,
    wildcard: RwLock<WildcardTrie<Mask>>,
    wildcards: AtomicUsize,
    version: AtomicU64,
}

impl Default for Interest {
    fn default() -> Self {
        Self {
            exact: DashMap::with_hasher_and_shard_amount(ahash::RandomState::new(), MAP_SHARDS),
            wildcard: RwLock::new(WildcardTrie::default()),
            wildcards: AtomicUsize::new(0),
            version: AtomicU64::new(0),
        }
    }
}

fn is_wildcard(filter: &str) -> bool {
    filter.bytes().any(|b| b == b'+' || b == b'#')
}

impl Interest {
    /// `shard` got its first subscriber of `filter`.
    pub fn add(&self, filter: &Arc<str>, shard: u16) {
        let bit: Mask = 1 << shard;
        if is_wildcard(filter) {
            let mut trie = self.wildcard.write();
            *trie.get_or_insert_with(filter, Mask::default) |= bit;
            self.wildcards.store(trie.len(), Ordering::Release);
        } else {
            *self.exact.entry(filter.clone()).or_default() |= bit;
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// `shard` lost its last subscriber of `filter`.
    pub fn remove(&self, filter: &str, shard: u16) {
        let bit: Mask = 1 << shard;
        if is_wildcard(filter) {
            let mut trie = self.wildcard.write();
            let left = trie.get_mut(filter).map(|mask| {
                *mask &= !bit;
                *mask
            });
            if left == Some(0) {
                trie.remove(filter);
            }
            self.wildcards.store(trie.len(), Ordering::Release);
        } else if let Some(mut mask) = self.exact.get_mut(filter) {
            *mask &= !bit;
            drop(mask);
            self.exact.remove_if(filter, |_, mask| *mask == 0);
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever interest does: an answer of [`Self::of`] holds until then.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Shards with a subscriber that matches `topic`.
    pub fn of(&self, topic: &str) -> Mask {
        let mut mask = self.exact.get(topic).map_or(0, |mask| *mask);
        if self.wildcards.load(Ordering::Acquire) > 0 {
            self.wildcard.read().for_each_match(topic, |found| mask |= found);
        }
        mask
    }

    /// Exact topics and wildcard filters known, each counted once however many shards are interested.
    pub fn len(&self) -> (usize, usize) {
        (self.exact.len(), self.wildcards.load(Ordering::Relaxed))
    }

    /// Whether no shard has any subscriber.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_join_exact_and_wildcard_interest_and_leave_nothing_behind() {
        let interest = Interest::default();
        let (exact, wild): (Arc<str>, Arc<str>) = ("a/b".into(), "a/+".into());
        interest.add(&exact, 0);
        interest.add(&exact, 2);
        interest.add(&wild, 5);
        assert_eq!(interest.of("a/b"), 0b10_0101);
        assert_eq!(interest.of("a/c"), 0b10_0000);
        let version = interest.version();
        interest.remove("a/b", 0);
        assert_ne!(interest.version(), version);
        assert_eq!(interest.of("a/b"), 0b10_0100);
        interest.remove("a/b", 2);
        interest.remove("a/+", 5);
        assert_eq!(interest.of("a/b"), 0);
        assert!(interest.is_empty());
    }
}
