//! What must hold for any filter and name. Shared by the fuzz target and the replay of its corpus.
//!
//! An input is a filter, a line feed, and a name.

use std::ops::ControlFlow;
use std::sync::Arc;

use switchboard::topic::{Limits, RetainedIndex, WildcardTrie, check_name, matches, parse_filter};

/// Parses and matches, and panics where the topic rules and the three ways to match disagree.
pub(crate) fn filter_and_name(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (filter, name) = text.split_once('\n').unwrap_or((text, "a/b"));
    let limits = Limits::default();
    // An input in which the name is refused tries the filter on a name that is not.
    let name = if check_name(name, &limits).is_ok() { name } else { "a/b" };
    let parsed = parse_filter(filter, &limits);
    assert_eq!(parsed.is_ok(), is_filter(filter, &limits), "{filter:?}: {parsed:?}");
    let Ok(parsed) = parsed else { return };
    assert!(filter.ends_with(parsed.filter));
    assert_eq!(parsed.wildcard, parsed.filter.contains(['+', '#']));

    let expected = is_match(parsed.filter, name);
    assert_eq!(matches(parsed.filter, name), expected, "{:?} and {name:?}", parsed.filter);

    if parsed.wildcard {
        let mut trie = WildcardTrie::new();
        trie.get_or_insert_with(parsed.filter, || ());
        let mut found = 0;
        trie.for_each_match(name, |()| found += 1);
        assert_eq!(found, usize::from(expected), "the trie: {:?} and {name:?}", parsed.filter);
        assert!(trie.remove(parsed.filter).is_some() && trie.is_empty());
    }

    let mut retained = RetainedIndex::new();
    retained.insert(Arc::from(name), ());
    let mut found = 0;
    let rest = retained.scan(parsed.filter, None, 10, |_, ()| {
        found += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((found, rest), (usize::from(expected), None), "retained: {:?} and {name:?}", parsed.filter);
}

/// Sections 4.7 and 4.8.2, as plainly as they can be said.
fn is_filter(text: &str, limits: &Limits) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let wildcards_are_right = |levels: &[&str]| {
        levels.iter().enumerate().all(|(at, level)| match *level {
            "#" => at + 1 == levels.len(),
            "+" => true,
            level => !level.contains(['+', '#']),
        })
    };
    !text.is_empty()
        && text.len() <= limits.max_bytes
        && levels.len() <= limits.max_levels
        && !text.contains('\0')
        && match &levels[..] {
            ["$share", name, filter @ ..] => {
                !name.is_empty()
                    && !name.contains(['+', '#'])
                    && !matches!(filter, [] | [""])
                    && wildcards_are_right(filter)
            }
            ["$share"] => false,
            levels => wildcards_are_right(levels),
        }
}

fn is_match(filter: &str, name: &str) -> bool {
    fn levels_match(filter: &[&str], name: &[&str]) -> bool {
        match (filter, name) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, name @ ..]) => levels_match(filter, name),
            ([level, filter @ ..], [other, name @ ..]) => level == other && levels_match(filter, name),
            _ => false,
        }
    }
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    levels_match(&filter.split('/').collect::<Vec<_>>(), &name.split('/').collect::<Vec<_>>())
}
