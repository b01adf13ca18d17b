//! The subscribers of one filter: eight bytes while there is one, a list beside the index when there are more.
//!
//! Most filters of a messaging broker have one subscriber, a customer's own device, so that case must cost
//! nothing beside the entry. A list must stay cheap to change at 100,000 subscribers too: it is unordered,
//! removal swaps the last one in, and a list that is no longer short carries a table of where each target is.

use super::storage::Arena;
use super::subscription::{Subscription, SubscriptionOptions, Target};
use ahash::RandomState;
use hashbrown::HashTable;

/// In the place of a target: the subscribers are a crowd, and the options' bits are its key.
const CROWD: Target = Target(u32::MAX);

/// Up to this many subscribers are searched one after the other: 256 bytes, four cache lines.
const SEARCHED: usize = 32;

/// Who subscribes to one filter; never nobody. Read and changed through the [`Crowds`] it belongs to.
#[derive(Debug)]
pub(super) struct Subscribers(Subscription);

const _: () = assert!(size_of::<Subscribers>() == 8);

impl Subscribers {
    pub(super) fn one(sub: Subscription) -> Subscribers {
        Subscribers(sub)
    }

    fn crowd_key(&self) -> Option<u32> {
        (self.0.target == CROWD).then_some(self.0.options.bits())
    }
}

/// What became of a target that was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It did not subscribe.
    Absent,
    /// Others are left.
    Left,
    /// It was the only one: the [`Subscribers`] is now to be thrown away.
    Last,
}

/// The lists of all filters with more than one subscriber.
#[derive(Debug)]
pub(super) struct Crowds {
    crowds: Arena<Crowd>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Crowd {
    list: Vec<Subscription>,
    /// Positions in `list` by target, once it is longer than [`SEARCHED`].
    places: Option<Box<HashTable<u32>>>,
}

impl Crowds {
    pub(super) fn new(hasher: RandomState) -> Crowds {
        Crowds { crowds: Arena::new(), hasher }
    }

    #[inline]
    pub(super) fn list<'a>(&'a self, of: &'a Subscribers) -> &'a [Subscription] {
        match of.crowd_key() {
            None => std::slice::from_ref(&of.0),
            Some(key) => self.crowds.get(key).map_or(&[], |crowd| &crowd.list),
        }
    }

    /// Adds `sub`, or gives the target its new options and returns the old ones.
    pub(super) fn put(&mut self, to: &mut Subscribers, sub: Subscription) -> Option<SubscriptionOptions> {
        if let Some(key) = to.crowd_key() {
            return self.crowds.get_mut(key)?.put(sub, &self.hasher);
        }
        if to.0.target == sub.target {
            return Some(std::mem::replace(&mut to.0.options, sub.options));
        }
        let mut list = Vec::with_capacity(2);
        list.extend([to.0, sub]);
        let key = self.crowds.insert(Crowd { list, places: None });
        to.0 = Subscription { target: CROWD, options: SubscriptionOptions::from_bits(key) };
        None
    }

    pub(super) fn take(&mut self, from: &mut Subscribers, target: Target) -> Taken {
        let Some(key) = from.crowd_key() else {
            return if from.0.target == target { Taken::Last } else { Taken::Absent };
        };
        let Some(crowd) = self.crowds.get_mut(key) else { return Taken::Absent };
        if !crowd.take(target, &self.hasher) {
            return Taken::Absent;
        }
        if let [only] = *crowd.list {
            from.0 = only;
            self.crowds.remove(key);
        }
        Taken::Left
    }
}

impl Crowd {
    fn put(&mut self, sub: Subscription, hasher: &RandomState) -> Option<SubscriptionOptions> {
        if let Some(known) = self.place(sub.target, hasher).and_then(|at| self.list.get_mut(at)) {
            return Some(std::mem::replace(&mut known.options, sub.options));
        }
        self.list.push(sub);
        if let Some(places) = &mut self.places {
            let list = &self.list;
            let hash = |&at: &u32| list.get(at as usize).map_or(0, |sub| hasher.hash_one(sub.target));
            places.insert_unique(hasher.hash_one(sub.target), (list.len() - 1) as u32, hash);
        } else if self.list.len() > SEARCHED {
            self.places = Some(Box::new(places(&self.list, hasher)));
        }
        None
    }

    fn take(&mut self, target: Target, hasher: &RandomState) -> bool {
        let Some(at) = self.place(target, hasher) else { return false };
        let last = self.list.len() - 1;
        if let Some(places) = &mut self.places {
            let moved = self.list.last().map_or(target, |sub| sub.target);
            if let Ok(entry) = places.find_entry(hasher.hash_one(target), |&place| place as usize == at) {
                entry.remove();
            }
            if let Some(place) = places.find_mut(hasher.hash_one(moved), |&place| place as usize == last) {
                *place = at as u32;
            }
        }
        self.list.swap_remove(at);
        // Back to searching at half of the length at which the table was made, so that one subscriber who
        // comes and goes does not make and drop it each time.
        if self.list.len() <= SEARCHED / 2 {
            self.places = None;
        }
        if self.list.len() <= self.list.capacity() / 4 {
            self.list.shrink_to(self.list.len() * 2);
            let list = &self.list;
            if let Some(places) = &mut self.places {
                places.shrink_to(list.len() * 2, |&at| {
                    list.get(at as usize).map_or(0, |sub| hasher.hash_one(sub.target))
                });
            }
        }
        true
    }

    fn place(&self, target: Target, hasher: &RandomState) -> Option<usize> {
        let is_at = |at: usize| self.list.get(at).is_some_and(|sub| sub.target == target);
        match &self.places {
            None => self.list.iter().position(|sub| sub.target == target),
            Some(places) => {
                places.find(hasher.hash_one(target), |&at| is_at(at as usize)).map(|&at| at as usize)
            }
        }
    }
}

fn places(list: &[Subscription], hasher: &RandomState) -> HashTable<u32> {
    let hash = |&at: &u32| list.get(at as usize).map_or(0, |sub| hasher.hash_one(sub.target));
    let mut places = HashTable::with_capacity(list.len() * 2);
    for at in 0..list.len() as u32 {
        places.insert_unique(hash(&at), at, hash);
    }
    places
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn sub(key: u32, id: u32) -> Subscription {
        Subscription { target: Target::session(key), options: SubscriptionOptions::new(0, false, false, id) }
    }

    fn check(crowds: &Crowds) {
        for (_, crowd) in crowds.crowds.iter() {
            assert!(crowd.list.len() > 1, "one subscriber is no crowd");
            assert!(crowd.places.is_some() || crowd.list.len() <= SEARCHED);
            if let Some(places) = &crowd.places {
                assert_eq!(places.len(), crowd.list.len());
            }
            for (at, sub) in crowd.list.iter().enumerate() {
                assert_eq!(crowd.place(sub.target, &crowds.hasher), Some(at));
            }
        }
    }

    proptest! {
        /// Up and down over all the lengths at which the form of a list changes.
        #[test]
        fn as_a_map_would(acts in prop::collection::vec((0..90_u32, any::<bool>()), 1..400), grow in any::<bool>()) {
            let mut crowds = Crowds::new(RandomState::new());
            let mut subs: Option<Subscribers> = None;
            let mut map = BTreeMap::new();
            let half = acts.len() / 2;
            for (turn, (key, add)) in acts.into_iter().enumerate() {
                // First mostly growing, then mostly shrinking, or the other way round.
                let add = add || (key % 2 == 0) == ((turn < half) == grow);
                let id = turn as u32 + 1;
                if add {
                    let replaced = match &mut subs {
                        None => {
                            subs = Some(Subscribers::one(sub(key, id)));
                            None
                        }
                        Some(subs) => crowds.put(subs, sub(key, id)),
                    };
                    prop_assert_eq!(replaced.and_then(SubscriptionOptions::id), map.insert(key, id));
                } else if let Some(from) = &mut subs {
                    let taken = crowds.take(from, Target::session(key));
                    let known = map.remove(&key).is_some();
                    prop_assert_eq!(taken != Taken::Absent, known);
                    prop_assert_eq!(taken == Taken::Last, known && map.is_empty());
                    if taken == Taken::Last {
                        subs = None;
                    }
                }
                let list = subs.as_ref().map_or(&[][..], |subs| crowds.list(subs));
                let found: BTreeMap<_, _> =
                    list.iter().map(|sub| (sub.target.key(), sub.options.id().unwrap())).collect();
                prop_assert_eq!(list.len(), map.len());
                prop_assert_eq!(&found, &map);
                check(&crowds);
                prop_assert_eq!(crowds.crowds.len(), usize::from(map.len() > 1));
            }
        }
    }

    #[test]
    fn a_great_crowd_goes_as_it_came() {
        let mut crowds = Crowds::new(RandomState::new());
        let mut subs = Subscribers::one(sub(0, 1));
        for key in 1..100_000 {
            assert_eq!(crowds.put(&mut subs, sub(key, 1)), None);
        }
        assert_eq!(crowds.list(&subs).len(), 100_000);
        assert_eq!(crowds.put(&mut subs, sub(77_777, 2)).unwrap().id(), Some(1));
        for key in 0..99_999 {
            assert_eq!(crowds.take(&mut subs, Target::session(key)), Taken::Left, "{key}");
        }
        assert_eq!(crowds.crowds.len(), 0);
        assert_eq!(crowds.list(&subs), [sub(99_999, 1)]);
        assert_eq!(crowds.take(&mut subs, Target::session(0)), Taken::Absent);
        assert_eq!(crowds.take(&mut subs, Target::session(99_999)), Taken::Last);
    }
}
