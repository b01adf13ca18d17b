//! Who subscribes to what on one shard.
//!
//! Filters without wildcards, of which there may be millions, are in hash tables by topic; filters with
//! wildcards in a [`WildcardTrie`].

use super::storage::Tables;
use super::subscribers::{Crowds, Subscribers, Taken};
use super::subscription::{Subscription, SubscriptionOptions, Target};
use super::trie::WildcardTrie;
use ahash::RandomState;
use smallvec::SmallVec;
use std::sync::Arc;

/// Subscriptions by topic filter.
///
/// Filters are those of [`ParsedFilter::filter`](super::ParsedFilter::filter): valid, and without `$share`.
#[derive(Debug)]
pub struct SubscriptionIndex {
    exact: Tables<Entry>,
    wildcards: WildcardTrie<Entry>,
    crowds: Crowds,
    hasher: RandomState,
    filters: usize,
    len: usize,
}

#[derive(Debug)]
struct Entry {
    filter: Arc<str>,
    subscribers: Subscribers,
}

const _: () = assert!(size_of::<Entry>() == 24);

/// What [`SubscriptionIndex::subscribe`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribed {
    /// The one string that the index and all subscribers share.
    pub filter: Arc<str>,
    /// The options of the subscription that this one replaced [MQTT-3.8.4-3].
    pub replaced: Option<SubscriptionOptions>,
    /// The filter had no subscriber before.
    pub first: bool,
}

/// What [`SubscriptionIndex::unsubscribe`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribed {
    /// The filter has no subscriber any more.
    pub last: bool,
}

impl Default for SubscriptionIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl SubscriptionIndex {
    /// An empty index with a hash function of its own.
    pub fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }

    /// An empty index that hashes topics with `hasher`. Indexes that are given clones of one hasher agree on
    /// the [hash](Self::hash) of a topic.
    pub fn with_hasher(hasher: RandomState) -> Self {
        SubscriptionIndex {
            exact: Tables::new(),
            wildcards: WildcardTrie::new(),
            crowds: Crowds::new(hasher.clone()),
            hasher,
            filters: 0,
            len: 0,
        }
    }

    /// How many subscriptions there are: pairs of a filter and a target.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody subscribes to anything.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many different filters there are.
    pub fn filters(&self) -> usize {
        self.filters
    }

    /// Whether any filter has a wildcard. Without, the topic of a publish needs no more than the hash table.
    pub fn has_wildcards(&self) -> bool {
        !self.wildcards.is_empty()
    }

    /// Adds a subscription, or replaces the options of the one that the target already has.
    pub fn subscribe(&mut self, filter: &str, sub: Subscription) -> Subscribed {
        let mut first = false;
        let new = || {
            first = true;
            Entry { filter: filter.into(), subscribers: Subscribers::one(sub) }
        };
        let entry = if is_wildcard(filter) {
            self.wildcards.get_or_insert_with(filter, new)
        } else {
            let hash = self.hasher.hash_one(filter);
            let table = self.exact.table(hash);
            table
                .entry(hash, |entry| *entry.filter == *filter, |entry| self.hasher.hash_one(&*entry.filter))
                .or_insert_with(new)
                .into_mut()
        };
        let replaced = if first { None } else { self.crowds.put(&mut entry.subscribers, sub) };
        self.filters += usize::from(first);
        self.len += usize::from(replaced.is_none());
        Subscribed { filter: Arc::clone(&entry.filter), replaced, first }
    }

    /// Takes the subscription of `target` out; `None` when it had none with this filter.
    pub fn unsubscribe(&mut self, filter: &str, target: Target) -> Option<Unsubscribed> {
        let taken = if is_wildcard(filter) {
            let taken = self.crowds.take(&mut self.wildcards.get_mut(filter)?.subscribers, target);
            if taken == Taken::Last {
                self.wildcards.remove(filter);
            }
            taken
        } else {
            let hash = self.hasher.hash_one(filter);
            let table = self.exact.table(hash);
            let mut entry = table.find_entry(hash, |entry| *entry.filter == *filter).ok()?;
            let taken = self.crowds.take(&mut entry.get_mut().subscribers, target);
            if taken == Taken::Last {
                entry.remove();
                self.exact.shrink(hash, |entry| self.hasher.hash_one(&*entry.filter));
            }
            taken
        };
        if taken == Taken::Absent {
            return None;
        }
        let last = taken == Taken::Last;
        self.filters -= usize::from(last);
        self.len -= 1;
        Some(Unsubscribed { last })
    }

    /// Whether a filter without wildcards has the [hash](Self::hash) of this one, which has none and is not there.
    pub fn has_another(&self, filter: &str) -> bool {
        let hash = self.hash(filter);
        let same = |entry: &Entry| self.hash(&entry.filter) == hash;
        !is_wildcard(filter) && self.exact.find(hash, same).is_some()
    }

    /// The hash of a topic name for [`matching_hashed`](Self::matching_hashed): the same as a `HashMap` or
    /// `DashMap` with string keys and a clone of this index's hasher computes.
    #[inline]
    pub fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    /// Appends the subscribers of every filter that matches the topic `name`, a list a filter, that of the
    /// filter without wildcards first. A target is in as many lists as it has matching filters.
    #[inline]
    pub fn matching<'a>(&'a self, name: &str, lists: &mut SmallVec<[&'a [Subscription]; 4]>) {
        self.matching_hashed(self.hash(name), name, lists);
    }

    /// [`matching`](Self::matching) for a caller that has the [hash](Self::hash) of `name` already.
    #[inline]
    pub fn matching_hashed<'a>(
        &'a self,
        hash: u64,
        name: &str,
        lists: &mut SmallVec<[&'a [Subscription]; 4]>,
    ) {
        if let Some(entry) = self.entry(hash, name) {
            lists.push(self.crowds.list(&entry.subscribers));
        }
        self.wildcards.for_each_match(name, |entry| lists.push(self.crowds.list(&entry.subscribers)));
    }

    /// The subscribers of the filter that is exactly `name`, without those of wildcards.
    #[inline]
    pub fn exact(&self, name: &str) -> &[Subscription] {
        self.entry(self.hash(name), name).map_or(&[], |entry| self.crowds.list(&entry.subscribers))
    }

    #[inline]
    fn entry(&self, hash: u64, name: &str) -> Option<&Entry> {
        self.exact.find(hash, |entry| *entry.filter == *name)
    }
}

/// In a valid filter these characters are wildcards and nothing else.
fn is_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| byte == b'+' || byte == b'#')
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::topic::matching::{arbitrary, naive};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn sub(key: u32, id: u32) -> Subscription {
        Subscription { target: Target::session(key), options: SubscriptionOptions::new(1, false, false, id) }
    }

    /// Pairs of target and identifier of every subscription that gets `name`, in order.
    fn matched(index: &SubscriptionIndex, name: &str) -> Vec<(u32, u32)> {
        let mut lists = SmallVec::new();
        index.matching(name, &mut lists);
        assert!(lists.iter().all(|list| !list.is_empty()), "an empty list is not worth a visit");
        let mut found: Vec<_> = lists
            .iter()
            .flat_map(|list| list.iter())
            .map(|sub| (sub.target.key(), sub.options.id().unwrap()))
            .collect();
        found.sort_unstable();
        found
    }

    #[derive(Debug, Clone)]
    enum Act {
        Subscribe(String, u32),
        Unsubscribe(String, u32),
        Publish(String),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => (arbitrary::filter(), 0..4_u32).prop_map(|(filter, key)| Act::Subscribe(filter, key)),
            2 => (arbitrary::filter(), 0..4_u32).prop_map(|(filter, key)| Act::Unsubscribe(filter, key)),
            3 => arbitrary::name().prop_map(Act::Publish),
        ]
    }

    proptest! {
        #[test]
        fn as_a_list_of_filters_would(acts in prop::collection::vec(act(), 1..120)) {
            let mut index = SubscriptionIndex::new();
            let mut list: BTreeMap<(String, u32), u32> = BTreeMap::new();
            let has = |list: &BTreeMap<(String, u32), u32>, filter: &str| list.keys().any(|(f, _)| f == filter);
            for (id, act) in (1..).zip(acts) {
                match act {
                    Act::Subscribe(filter, key) => {
                        let first = !has(&list, &filter);
                        let known = list.insert((filter.clone(), key), id);
                        let done = index.subscribe(&filter, sub(key, id));
                        prop_assert_eq!(&*done.filter, &*filter);
                        prop_assert_eq!(done.first, first);
                        prop_assert_eq!(done.replaced.and_then(SubscriptionOptions::id), known);
                    }
                    Act::Unsubscribe(filter, key) => {
                        let known = list.remove(&(filter.clone(), key));
                        let done = index.unsubscribe(&filter, Target::session(key));
                        prop_assert_eq!(done.is_some(), known.is_some());
                        if let Some(Unsubscribed { last }) = done {
                            prop_assert_eq!(last, !has(&list, &filter));
                        }
                    }
                    Act::Publish(name) => {
                        let wanted = list.iter().filter(|((filter, _), _)| naive::matches(filter, &name));
                        let mut wanted: Vec<_> = wanted.map(|((_, key), id)| (*key, *id)).collect();
                        wanted.sort_unstable();
                        prop_assert_eq!(matched(&index, &name), wanted, "{}", name);
                    }
                }
                let mut filters: Vec<_> = list.keys().map(|(filter, _)| filter).collect();
                filters.dedup();
                prop_assert_eq!((index.len(), index.filters()), (list.len(), filters.len()));
                prop_assert_eq!(index.has_wildcards(), filters.iter().any(|f| f.contains(['+', '#'])));
            }
            for (filter, key) in list.into_keys() {
                prop_assert!(index.unsubscribe(&filter, Target::session(key)).is_some());
            }
            prop_assert!(index.is_empty() && !index.has_wildcards() && index.filters() == 0);
        }
    }
}
