//! What a Topic Name may look like, and the operator's limits on it.

/// Bounds on topic names and filters, from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most levels, counted as separators plus one; at least 1.
    pub max_levels: usize,
    /// Most bytes of UTF-8; at most 65,535, which is all that the wire can carry [MQTT-4.7.3-3].
    pub max_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_levels: 128, max_bytes: 65_535 }
    }
}

/// How a name or filter goes beyond [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Longer than [`Limits::max_bytes`].
    #[error("the topic has more bytes than the limit")]
    TooLong,
    /// Deeper than [`Limits::max_levels`].
    #[error("the topic has more levels than the limit")]
    TooManyLevels,
}

/// Why a Topic Name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A name has at least one character [MQTT-4.7.3-1].
    #[error("the topic name is empty")]
    Empty,
    /// Beyond the operator's limits.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// `+` and `#` are for filters [MQTT-3.3.2-2].
    #[error("the topic name contains a wildcard character")]
    Wildcard,
    /// U+0000 is not allowed [MQTT-4.7.3-2].
    #[error("the topic name contains U+0000")]
    Null,
}

/// Checks a Topic Name against the standard and `limits`.
pub fn check_name(name: &str, limits: &Limits) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    limits.check(name)?;
    if contains_any(name, *b"+#") {
        return Err(NameError::Wildcard);
    }
    if contains_any(name, *b"\0\0") {
        return Err(NameError::Null);
    }
    Ok(())
}

impl Limits {
    /// Checks the size of a name alone, for names whose characters a decoder has checked. Free for those with
    /// fewer bytes than levels are allowed, which is nearly all.
    #[inline]
    pub fn check(&self, name: &str) -> Result<(), LimitError> {
        if name.len() > self.max_bytes {
            return Err(LimitError::TooLong);
        }
        if name.len() >= self.max_levels && levels(name) > self.max_levels {
            return Err(LimitError::TooManyLevels);
        }
        Ok(())
    }
}

fn levels(text: &str) -> usize {
    1 + text.bytes().filter(|&byte| byte == b'/').count()
}

/// Reads all of the text rather than stop at the first: this becomes vector instructions.
#[inline]
pub(super) fn contains_any(text: &str, [a, b]: [u8; 2]) -> bool {
    text.bytes().fold(0, |found, byte| found | u8::from(byte == a) | u8::from(byte == b)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_standard_allows() {
        let limits = Limits::default();
        for name in ["a", "/", "//", "/a", "a/", "a//b", "$SYS/x", "a b", "é/日本/\u{10FFFF}", "$", "$share"]
        {
            assert_eq!(check_name(name, &limits), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn names_that_it_does_not() {
        let limits = Limits::default();
        for (name, error) in [
            ("", NameError::Empty),
            ("a/+", NameError::Wildcard),
            ("a/b+", NameError::Wildcard),
            ("#", NameError::Wildcard),
            ("a\0", NameError::Null),
        ] {
            assert_eq!(check_name(name, &limits), Err(error), "{name:?}");
        }
    }

    #[test]
    fn limits_hold_at_the_edge() {
        let limits = Limits { max_levels: 3, max_bytes: 6 };
        assert_eq!(check_name("a/b/cd", &limits), Ok(()));
        assert_eq!(check_name("a/b/cde", &limits), Err(LimitError::TooLong.into()));
        assert_eq!(check_name("a/b/c/", &limits), Err(LimitError::TooManyLevels.into()));
        assert_eq!(
            check_name("é/é/é", &limits),
            Err(LimitError::TooLong.into()),
            "bytes are counted, not characters"
        );
    }
}
