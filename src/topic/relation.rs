//! What two filters have to do with each other (section 4.7), without an index: for rules about what may be subscribed.

use super::split_level;

/// Whether every name that `narrow` matches is matched by `wide`, too. Both are valid and without their `$share` part.
///
/// `a/#` covers its parent `a`; nothing that begins with a wildcard covers what begins with `$` [MQTT-4.7.2-1].
pub fn covers(wide: &str, narrow: &str) -> bool {
    if begins_wild(wide) && narrow.starts_with('$') {
        return false;
    }
    let (mut wide, mut narrow) = (Some(wide), Some(without_empty_name(narrow)));
    while let Some(at) = wide {
        let (wider, wide_rest) = split_level(at);
        if wider == "#" {
            return true;
        }
        let Some(at) = narrow else { return false };
        let (narrower, narrow_rest) = split_level(at);
        if narrower == "#" || (wider != "+" && wider != narrower) {
            return false;
        }
        (wide, narrow) = (wide_rest, narrow_rest);
    }
    narrow.is_none()
}

/// Whether there is a name that both filters match. Both are valid and without their `$share` part.
pub fn overlaps(one: &str, other: &str) -> bool {
    if begins_wild(one) && other.starts_with('$') || begins_wild(other) && one.starts_with('$') {
        return false;
    }
    let (mut one, mut other) = (Some(without_empty_name(one)), Some(without_empty_name(other)));
    loop {
        let (left, right) = match (one, other) {
            (Some(left), Some(right)) => (left, right),
            // `a/#` matches `a`.
            (Some(left), None) | (None, Some(left)) => return left == "#",
            (None, None) => return true,
        };
        let ((a, a_rest), (b, b_rest)) = (split_level(left), split_level(right));
        if a == "#" || b == "#" {
            return true;
        }
        if a != b && a != "+" && b != "+" {
            return false;
        }
        (one, other) = (a_rest, b_rest);
    }
}

/// The same filter, spelt so that it is seen not to match the name without a character, which is none [MQTT-4.7.3-1].
/// Elsewhere `#` matches its parent.
fn without_empty_name(filter: &str) -> &str {
    match filter {
        "#" => "+/#",
        "/#" => "/+/#",
        other => other,
    }
}

fn begins_wild(filter: &str) -> bool {
    filter.starts_with(['+', '#'])
}

#[cfg(test)]
mod tests {
    use super::super::matching::naive;
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    #[test]
    fn what_covers_what() {
        for (wide, narrow) in [
            ("#", "#"),
            ("#", "+/#"),
            ("+/#", "#"),
            ("#", "a/+/#"),
            ("a/#", "a"),
            ("a/#", "a/"),
            ("a/#", "a/#"),
            ("a/+", "a/b"),
            ("a/+", "a/"),
            ("+/+", "/"),
            ("a/+/#", "a/b/#"),
            ("$SYS/#", "$SYS"),
            ("$SYS/#", "$SYS/+/x"),
            ("/#", "/"),
            ("/+/#", "/#"),
            ("+/+/#", "/#"),
        ] {
            assert!(covers(wide, narrow), "{wide} should cover {narrow}");
        }
        for (wide, narrow) in [
            ("#", "$SYS/#"),
            ("+/x", "$SYS/x"),
            ("a/+", "a"),
            ("a/+", "a/#"),
            ("a/+/#", "a/#"),
            ("+/+/#", "#"),
            ("a/b", "a/+"),
            ("a/42", "a/421"),
            ("a/42/#", "a/421/x"),
            ("a", "a/"),
            ("$SYS/#", "#"),
            ("/#", "#"),
            ("a/#", "#"),
            ("a/#", "+/#"),
        ] {
            assert!(!covers(wide, narrow), "{wide} should not cover {narrow}");
        }
    }

    #[test]
    fn what_meets_what() {
        for (one, other) in
            [("#", "a"), ("a/#", "a"), ("a/+", "+/b"), ("a/#", "+/+/c"), ("+/#", "#"), ("$SYS/#", "$SYS/+")]
        {
            assert!(overlaps(one, other) && overlaps(other, one), "{one} and {other} should meet");
        }
        for (one, other) in [
            ("#", "$SYS/x"),
            ("+", "$SYS"),
            ("a/+", "a"),
            ("a/+", "b/+"),
            ("a", "a/"),
            ("a/+/#", "a"),
            ("+", "/#"),
        ] {
            assert!(!overlaps(one, other) && !overlaps(other, one), "{one} and {other} should not meet");
        }
    }

    /// Every name of up to five levels over what filters say here, and one text that none of them says.
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let levels = ["a", "", "$", "z"];
        let mut names: Vec<String> = levels.map(str::to_owned).to_vec();
        let mut from = 0;
        for _ in 1..5 {
            let last = names.len();
            for at in from..last {
                let longer: Vec<String> = names
                    .get(at)
                    .into_iter()
                    .flat_map(|name| levels.iter().map(move |level| format!("{name}/{level}")))
                    .collect();
                names.extend(longer);
            }
            from = last;
        }
        names.retain(|name| !name.is_empty());
        names
    });

    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![4 => Just("a"), 4 => Just("+"), 1 => Just(""), 1 => Just("$")];
        (prop::collection::vec(level, 0..4), any::<bool>())
            .prop_map(|(mut levels, multi)| {
                if multi {
                    levels.push("#");
                }
                levels.join("/")
            })
            .prop_filter("a filter has a character", |filter| !filter.is_empty())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn as_by_counting(one in filter(), other in filter()) {
            let (mut all, mut some) = (true, false);
            for name in NAMES.iter().filter(|name| naive::matches(&other, name)) {
                let both = naive::matches(&one, name);
                all &= both;
                some |= both;
            }
            prop_assert_eq!(covers(&one, &other), all, "{} covers {}", one, other);
            prop_assert_eq!(overlaps(&one, &other), some, "{} meets {}", one, other);
            prop_assert_eq!(overlaps(&other, &one), some);
        }
    }
}
