//! Whether one filter matches one name (section 4.7), without an index.

use super::split_level;

/// Whether `filter`, valid and without its `$share` part, matches the topic `name`.
///
/// Wildcards in the first level do not match names that start with `$` [MQTT-4.7.2-1]; `a/#` also matches its
/// parent `a`; `+` matches an empty level.
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filter, mut name) = (Some(filter), Some(name));
    while let Some(wanted) = filter {
        let (wanted, filter_rest) = split_level(wanted);
        if wanted == "#" {
            return true;
        }
        let Some(given) = name else { return false };
        let (given, name_rest) = split_level(given);
        if wanted != "+" && wanted != given {
            return false;
        }
        (filter, name) = (filter_rest, name_rest);
    }
    name.is_none()
}

/// The rules once more, as short as can be, for the property tests to judge everything else by.
#[cfg(test)]
pub(super) mod naive {
    pub(crate) fn matches(filter: &str, name: &str) -> bool {
        fn walk(filter: &[&str], name: &[&str]) -> bool {
            match (filter, name) {
                (["#"], _) | ([], []) => true,
                (["+", filter @ ..], [_, name @ ..]) => walk(filter, name),
                ([f, filter @ ..], [n, name @ ..]) => f == n && walk(filter, name),
                _ => false,
            }
        }
        let filter: Vec<_> = filter.split('/').collect();
        let name: Vec<_> = name.split('/').collect();
        let hidden = name.first().is_some_and(|level| level.starts_with('$'));
        !(hidden && matches!(filter.first(), Some(&("+" | "#")))) && walk(&filter, &name)
    }
}

/// Names and filters from a small alphabet, so that they meet: `$`, empty levels, several bytes a character.
#[cfg(test)]
pub(super) mod arbitrary {
    use proptest::prelude::*;

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![
            6 => Just("a"), 3 => Just("b"), 2 => Just(""), 1 => Just("$"), 1 => Just("$a"), 1 => Just("é"),
            1 => Just("a!"), 1 => Just("aa"), 1 => Just("日本"), 1 => Just(" "),
        ]
    }

    pub(crate) fn name() -> impl Strategy<Value = String> {
        prop::collection::vec(level(), 1..6)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("a name has a character", |name| !name.is_empty())
    }

    pub(crate) fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![4 => level(), 3 => Just("+")];
        (prop::collection::vec(level, 0..6), any::<bool>())
            .prop_map(|(mut levels, multi)| {
                if multi {
                    levels.push("#");
                }
                levels.join("/")
            })
            .prop_filter("a filter has a character", |filter| !filter.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_standard() {
        for (filter, name) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "sport"),
            ("#", "/"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("$SYS/#", "$SYS/broker"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("/#", "/"),
            ("a/+/#", "a/"),
            ("+/$a", "a/$a"),
        ] {
            assert!(matches(filter, name), "{filter} should match {name}");
        }
        for (filter, name) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/broker"),
            ("#", "$SYS"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("+/+", "$/a"),
            ("a", "A"),
            ("a", "a/"),
            ("a/", "a"),
            ("/a", "a"),
            ("a/+/#", "a"),
            ("$SYS/#", "$SYSTEM"),
        ] {
            assert!(!matches(filter, name), "{filter} should not match {name}");
        }
    }

    proptest! {
        #[test]
        fn as_the_naive_matcher(filter in arbitrary::filter(), name in arbitrary::name()) {
            prop_assert_eq!(matches(&filter, &name), naive::matches(&filter, &name));
        }
    }
}
