//! What a Topic Filter may look like, `$share` included.

use super::name::{LimitError, Limits, contains_any};

/// A Topic Filter that is valid, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedFilter<'a> {
    /// The `ShareName`, when this is a Shared Subscription.
    pub share: Option<&'a str>,
    /// What names are matched against: the text without `$share/{ShareName}/`.
    pub filter: &'a str,
    /// Whether [`filter`](Self::filter) contains `+` or `#`.
    pub wildcard: bool,
}

/// Why a Topic Filter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A filter, also the one inside a Shared Subscription, has at least one character [MQTT-4.7.3-1].
    #[error("the topic filter is empty")]
    Empty,
    /// Beyond the operator's limits. The `$share` and `ShareName` levels count too.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// U+0000 is not allowed [MQTT-4.7.3-2].
    #[error("the topic filter contains U+0000")]
    Null,
    /// `#` shares its level with other characters or is not in the last level [MQTT-4.7.1-1].
    #[error("# must be alone in the last level of a topic filter")]
    MultiLevelWildcard,
    /// `+` shares its level with other characters [MQTT-4.7.1-2].
    #[error("+ must be alone in its level of a topic filter")]
    SingleLevelWildcard,
    /// `$share` without a name of at least one character that is free of `/`, `+` and `#`, or without a filter
    /// after it [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    #[error("a shared subscription is $share/NAME/FILTER, and NAME has no wildcard")]
    Share,
}

/// Takes a Topic Filter from SUBSCRIBE or UNSUBSCRIBE apart and checks all of it.
///
/// Only a filter whose first level is exactly `$share` is a Shared Subscription: `$shared/x` is not.
pub fn parse_filter<'a>(text: &'a str, limits: &Limits) -> Result<ParsedFilter<'a>, FilterError> {
    if text.is_empty() {
        return Err(FilterError::Empty);
    }
    limits.check(text)?;
    if contains_any(text, *b"\0\0") {
        return Err(FilterError::Null);
    }
    let (share, filter) = split_share(text)?;
    let wildcard = contains_any(filter, *b"+#");
    if wildcard {
        check_wildcards(filter)?;
    }
    Ok(ParsedFilter { share, filter, wildcard })
}

fn split_share(text: &str) -> Result<(Option<&str>, &str), FilterError> {
    let Some(after) = text.strip_prefix("$share") else { return Ok((None, text)) };
    if after.is_empty() {
        return Err(FilterError::Share);
    }
    let Some(after) = after.strip_prefix('/') else { return Ok((None, text)) };
    let (name, filter) = after.split_once('/').ok_or(FilterError::Share)?;
    if name.is_empty() || filter.is_empty() || contains_any(name, *b"+#") {
        return Err(FilterError::Share);
    }
    Ok((Some(name), filter))
}

fn check_wildcards(filter: &str) -> Result<(), FilterError> {
    let mut ended = false;
    for level in filter.split('/') {
        if ended {
            return Err(FilterError::MultiLevelWildcard);
        }
        match level {
            "+" => {}
            "#" => ended = true,
            _ if contains_any(level, *b"##") => return Err(FilterError::MultiLevelWildcard),
            _ if contains_any(level, *b"++") => return Err(FilterError::SingleLevelWildcard),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ParsedFilter<'_>, FilterError> {
        parse_filter(text, &Limits::default())
    }

    #[test]
    fn plain_filters() {
        for filter in ["a", "/", "a//b", "$SYS", "$SYS/a", "$sharex/a", "$shared", "share/a/b", "a/$share/b"]
        {
            let parsed = ParsedFilter { share: None, filter, wildcard: false };
            assert_eq!(parse(filter), Ok(parsed), "{filter:?}");
        }
    }

    #[test]
    fn wildcards_fill_a_level() {
        for filter in ["#", "+", "/#", "/+", "+/", "a/#", "+/a/+", "+/+/#", "$SYS/#", "a/+/", "$sharex/+"] {
            let parsed = ParsedFilter { share: None, filter, wildcard: true };
            assert_eq!(parse(filter), Ok(parsed), "{filter:?}");
        }
        for filter in ["a#", "#a", "a/b#", "#/a", "a/#/", "a/#/b", "##", "#/#", "+#", "a/#+"] {
            assert_eq!(parse(filter), Err(FilterError::MultiLevelWildcard), "{filter:?}");
        }
        for filter in ["a+", "+a", "a/+b", "++", "a/++/b"] {
            assert_eq!(parse(filter), Err(FilterError::SingleLevelWildcard), "{filter:?}");
        }
    }

    #[test]
    fn shared_filters() {
        for (text, share, filter, wildcard) in [
            ("$share/g/a", "g", "a", false),
            ("$share/g//", "g", "/", false),
            ("$share/g/#", "g", "#", true),
            ("$share/g/+/a", "g", "+/a", true),
            ("$share/gruppe é/$SYS/+", "gruppe é", "$SYS/+", true),
            ("$share/g/$share/x", "g", "$share/x", false),
        ] {
            assert_eq!(parse(text), Ok(ParsedFilter { share: Some(share), filter, wildcard }), "{text:?}");
        }
        for text in [
            "$share",
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
            "$share/#",
            "$share/g#/a",
        ] {
            assert_eq!(parse(text), Err(FilterError::Share), "{text:?}");
        }
        assert_eq!(parse("$share/g/a/#/b"), Err(FilterError::MultiLevelWildcard));
    }

    #[test]
    fn limits_and_forbidden_characters() {
        let limits = Limits { max_levels: 3, max_bytes: 12 };
        assert!(parse_filter("+/+/#", &limits).is_ok());
        assert_eq!(parse_filter("+/+/+/#", &limits), Err(LimitError::TooManyLevels.into()));
        assert_eq!(parse_filter("$share/g/a/b", &limits), Err(LimitError::TooManyLevels.into()));
        assert_eq!(parse_filter("aaaaaaaaaaaaa", &limits), Err(LimitError::TooLong.into()));
        assert_eq!(parse(""), Err(FilterError::Empty));
        assert_eq!(parse("a\0b"), Err(FilterError::Null));
    }
}
