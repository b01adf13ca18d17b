//! Retained topics in an order that a filter can be walked in, a bounded piece at a time.
//!
//! Topics are sorted by their bytes, and a walk seeks: from a topic that does not match, the filter tells the
//! least one behind it that could, so `a/+/b` over a big tree reads a few topics for each `a/x`, not all of
//! them. Nothing is kept between two pieces of a walk but the topic at which the first one stopped.

use super::split_level;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// After so many topics short of the place to go to, look the place up instead of walking on to it.
const PATIENCE: u32 = 4;

/// Values, such as retained messages, by topic name.
#[derive(Debug)]
pub struct RetainedIndex<V> {
    topics: BTreeMap<Arc<str>, V>,
}

impl<V> Default for RetainedIndex<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> RetainedIndex<V> {
    /// An empty index.
    pub const fn new() -> Self {
        RetainedIndex { topics: BTreeMap::new() }
    }

    /// How many topics have a value.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether no topic has a value.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Sets the value of a topic and returns the one that it replaces. The string of the first insertion stays.
    pub fn insert(&mut self, topic: Arc<str>, value: V) -> Option<V> {
        self.topics.insert(topic, value)
    }

    /// Takes the value of a topic out.
    pub fn remove(&mut self, topic: &str) -> Option<V> {
        self.topics.remove(topic)
    }

    /// The value of a topic.
    pub fn get(&self, topic: &str) -> Option<&V> {
        self.topics.get(topic)
    }

    /// The value of a topic, to be changed.
    pub fn get_mut(&mut self, topic: &str) -> Option<&mut V> {
        self.topics.get_mut(topic)
    }

    /// Calls `f` with the topics that `filter` matches, in the order of their bytes, until `f` breaks or
    /// `max_visits` topics (at least one) have been looked at, matching or not. What lies between two places
    /// is not looked at.
    ///
    /// Returns the topic to pass as `after` to go on behind it, or `None` when there is no more. That topic
    /// may have been removed by then. What is inserted or removed behind it meanwhile is noticed, what is
    /// inserted before it is not.
    pub fn scan(
        &self,
        filter: &str,
        after: Option<&str>,
        max_visits: usize,
        mut f: impl FnMut(&Arc<str>, &V) -> ControlFlow<()>,
    ) -> Option<Arc<str>> {
        let mut target = String::new();
        let mut walk = match after {
            None => self.walk(Bound::Included(literal_prefix(filter))),
            Some(after) => match Step::of(filter, after, &mut target) {
                Step::Match | Step::Next => self.walk(Bound::Excluded(after)),
                Step::Seek => self.walk(Bound::Included(&target)),
                Step::Done => return None,
            },
        };
        target.clear();
        let mut short = 0;
        let mut visits = 0;
        loop {
            let (topic, value) = walk.next()?;
            visits += 1;
            if **topic < *target {
                short += 1;
                if short == PATIENCE {
                    walk = self.walk(Bound::Included(&target));
                }
            } else {
                short = 0;
                target.clear();
                match Step::of(filter, topic, &mut target) {
                    Step::Match => {
                        if f(topic, value).is_break() {
                            return Some(Arc::clone(topic));
                        }
                    }
                    Step::Next | Step::Seek => {}
                    Step::Done => return None,
                }
            }
            if visits >= max_visits {
                return Some(Arc::clone(topic));
            }
        }
    }

    fn walk(&self, from: Bound<&str>) -> std::collections::btree_map::Range<'_, Arc<str>, V> {
        self.topics.range::<str, _>((from, Bound::Unbounded))
    }
}

/// What all names that `filter` matches start with.
fn literal_prefix(filter: &str) -> &str {
    match filter.split_once(['+', '#']) {
        None => filter,
        // `a/#` matches `a` too.
        Some((prefix, _)) if filter.ends_with('#') && prefix.len() + 1 == filter.len() => {
            prefix.strip_suffix('/').unwrap_or(prefix)
        }
        Some((prefix, _)) => prefix,
    }
}

/// How a walk goes on from a topic.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The filter matches it.
    Match,
    /// It does not, but the very next topic might.
    Next,
    /// Nothing before the target can match; the target itself, greater than the topic, may.
    Seek,
    /// Nothing behind the topic matches.
    Done,
}

impl Step {
    /// Writes the target of [`Step::Seek`] to `target`, which is empty.
    ///
    /// Everything rests on this: of strings in the order of their bytes, those with a common beginning are
    /// neighbours, and those that begin with `x/` end where `x0` would stand, since `0` follows `/`.
    fn of(filter: &str, topic: &str, target: &mut String) -> Step {
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            target.push('%'); // the character after `$`
            return Step::Seek;
        }
        let (mut wanted_rest, mut given_rest) = (Some(filter), Some(topic));
        // Where the level of `given_rest` starts; where the last level that a `+` took ends.
        let mut start = 0;
        let mut plus_end = None;
        while let Some(wanted) = wanted_rest {
            let (wanted, more) = split_level(wanted);
            if wanted == "#" {
                return Step::Match;
            }
            let Some(given) = given_rest else {
                // Too short by this level. Behind `x` come things like `x!/y` before `x/`, of interest only
                // if it was a `+` that took `x`.
                if plus_end == Some(topic.len()) {
                    return Step::Next;
                }
                return Step::seek(target, &[topic, "/", if wanted == "+" { "" } else { wanted }]);
            };
            let (level, given_more) = split_level(given);
            let end = start + level.len();
            if wanted == "+" {
                plus_end = Some(end);
            } else if wanted != level {
                let before = topic.get(..start).unwrap_or_default();
                if *given < *wanted {
                    return Step::seek(target, &[before, wanted]);
                }
                // `given` is something like `wanted!`, before `wanted/`.
                if more.is_some() && given.strip_prefix(wanted).is_some_and(|rest| *rest < *"/") {
                    return Step::seek(target, &[before, wanted, "/"]);
                }
                return Step::past(topic, plus_end, target);
            }
            (wanted_rest, given_rest, start) = (more, given_more, end + 1);
        }
        match given_rest {
            None => Step::Match,
            Some(_) => Step::past(topic, plus_end, target),
        }
    }

    fn seek(target: &mut String, parts: &[&str]) -> Step {
        target.extend(parts.iter().copied());
        Step::Seek
    }

    /// Nothing more under this value of the last `+`: past all that begins with it and a separator.
    fn past(topic: &str, plus_end: Option<usize>, target: &mut String) -> Step {
        match plus_end.and_then(|end| topic.get(..end)) {
            Some(taken) => Step::seek(target, &[taken, "0"]),
            None => Step::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::matching::{arbitrary, naive};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn index(names: &BTreeSet<String>) -> RetainedIndex<()> {
        let mut index = RetainedIndex::new();
        for name in names {
            index.insert(name.as_str().into(), ());
        }
        index
    }

    fn scan_all<V>(index: &RetainedIndex<V>, filter: &str) -> Vec<String> {
        let mut found = Vec::new();
        let rest = index.scan(filter, None, usize::MAX, |topic, _| {
            found.push(topic.to_string());
            ControlFlow::Continue(())
        });
        assert_eq!(rest, None);
        found
    }

    proptest! {
        #[test]
        fn a_step_never_passes_a_match(
            filter in arbitrary::filter(),
            topic in arbitrary::name(),
            other in arbitrary::name(),
        ) {
            let mut target = String::new();
            let step = Step::of(&filter, &topic, &mut target);
            prop_assert_eq!(step == Step::Match, naive::matches(&filter, &topic));
            prop_assert_eq!(step == Step::Seek, !target.is_empty());
            if step == Step::Seek {
                prop_assert!(target > topic, "a walk goes forward");
            }
            if naive::matches(&filter, &other) {
                prop_assert!(&*other >= literal_prefix(&filter));
                if other > topic {
                    prop_assert!(step != Step::Done, "passes {}", other);
                    prop_assert!(other >= target, "passes {} to {}", other, target);
                }
            }
        }

        #[test]
        fn a_walk_in_pieces_is_a_walk(
            names in prop::collection::btree_set(arbitrary::name(), 0..60),
            filter in arbitrary::filter(),
            max_visits in 0..7_usize,
            page in 1..5_usize,
        ) {
            let index = index(&names);
            let wanted: Vec<_> = names.iter().filter(|name| naive::matches(&filter, name)).cloned().collect();
            prop_assert_eq!(scan_all(&index, &filter), &*wanted);
            let (mut found, mut after) = (Vec::new(), None::<Arc<str>>);
            for turn in 0.. {
                prop_assert!(turn <= names.len() + 1, "each call goes forward");
                let before = found.len();
                after = index.scan(&filter, after.as_deref(), max_visits, |topic, ()| {
                    found.push(topic.to_string());
                    if found.len() - before == page { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                prop_assert!(found.len() - before <= page.min(max_visits.max(1)));
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(found, wanted);
        }

        /// What is there from beginning to end is found once; what comes and goes, at most once and never wrongly.
        #[test]
        fn a_walk_goes_on_while_topics_come_and_go(
            names in prop::collection::btree_set(arbitrary::name(), 0..40),
            changes in prop::collection::vec(arbitrary::name(), 1..40),
            filter in arbitrary::filter(),
            max_visits in 1..5_usize,
        ) {
            let mut index = index(&names);
            let (mut found, mut after) = (BTreeSet::new(), None::<Arc<str>>);
            let mut touched = BTreeSet::new();
            let mut changes = changes.into_iter();
            loop {
                after = index.scan(&filter, after.as_deref(), max_visits, |topic, ()| {
                    assert!(found.insert(topic.to_string()), "{topic} twice");
                    assert!(naive::matches(&filter, topic));
                    ControlFlow::Continue(())
                });
                let Some(cursor) = &after else { break };
                // The cursor's own topic goes away under it, too.
                touched.insert(cursor.to_string());
                index.remove(cursor);
                if let Some(name) = changes.next() {
                    if index.remove(&name).is_none() {
                        index.insert(name.as_str().into(), ());
                    }
                    touched.insert(name);
                }
            }
            for name in names.iter().filter(|name| naive::matches(&filter, name) && !touched.contains(*name)) {
                prop_assert!(found.contains(name), "{} is missing", name);
            }
        }

        #[test]
        fn a_map_it_is(acts in prop::collection::vec((arbitrary::name(), any::<Option<u8>>()), 1..80)) {
            let mut index = RetainedIndex::new();
            let mut map = BTreeMap::new();
            for (name, value) in acts {
                if let Some(value) = value {
                    let known = map.insert(name.clone(), value);
                    prop_assert_eq!(index.insert(name.as_str().into(), value), known);
                } else {
                    prop_assert_eq!(index.remove(&name), map.remove(&name));
                }
                prop_assert_eq!(index.get(&name), map.get(&name));
                prop_assert_eq!((index.len(), index.is_empty()), (map.len(), map.is_empty()));
            }
        }
    }

    /// How many topics a whole scan looks at.
    fn visits<V>(index: &RetainedIndex<V>, filter: &str) -> usize {
        let (mut calls, mut after) = (0, None::<Arc<str>>);
        loop {
            after = index.scan(filter, after.as_deref(), 1, |_, _| ControlFlow::Continue(()));
            if after.is_none() {
                return calls;
            }
            calls += 1;
        }
    }

    #[test]
    fn a_scan_looks_at_little_more_than_it_finds() {
        let mut index = RetainedIndex::new();
        for customer in 0..100 {
            for leaf in 0..100 {
                index.insert(format!("cs/1/main/customer/{customer}/leaf{leaf:02}").into(), ());
            }
        }
        for customer in 0..10_000 {
            index.insert(format!("other/{customer}").into(), ());
            index.insert(format!("$SYS/{customer}").into(), ());
        }
        for (filter, found, most) in [
            ("cs/1/main/customer/42/leaf07", 1, 2),
            ("cs/1/main/customer/42/#", 100, 101),
            ("cs/1/main/customer/+/leaf50", 100, 301),
            ("cs/1/main/customer/+/none", 0, 201),
            ("cs/1/+/customer/+/leaf99", 100, 301),
            ("cs/+/+/+/7/leaf00", 1, 205),
            ("cs/2/#", 0, 1),
            ("nothing/+", 0, 1),
            ("+", 0, 10),
        ] {
            assert_eq!(scan_all(&index, filter).len(), found, "{filter}");
            let visits = visits(&index, filter);
            assert!(visits <= most, "{filter}: looked at {visits} topics");
        }
    }

    #[test]
    fn a_scan_that_finds_nothing_is_cut_short_too() {
        let mut index = RetainedIndex::new();
        for n in 0..1000 {
            index.insert(format!("a/{n}").into(), ());
        }
        let cursor = index.scan("a/+/b", None, 10, |topic, ()| {
            assert!(topic.is_empty(), "nothing matches");
            ControlFlow::Continue(())
        });
        assert_eq!(cursor.as_deref(), Some("a/106"), "the tenth of a/0, a/1, a/10, a/100, a/101 …");
    }
}
