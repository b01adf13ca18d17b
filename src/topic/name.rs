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

/// Why a Topic Name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A name has at least one character [MQTT-4.7.3-1].
    #[error("the topic name is empty")]
    Empty,
    /// Longer than [`Limits::max_bytes`].
    #[error("the topic name has more bytes than the limit")]
    TooLong,
    /// Deeper than [`Limits::max_levels`].
    #[error("the topic name has more levels than the limit")]
    TooManyLevels,
    /// `+` and `#` are for filters [MQTT-3.3.2-2].
    #[error("the topic name contains a wildcard character")]
    Wildcard,
    /// U+0000 is not allowed [MQTT-4.7.3-2].
    #[error("the topic name contains U+0000")]
    Null,
}

/// Checks a Topic Name against the standard and `limits`, in one pass without branches on the bytes.
pub fn check_name(name: &str, limits: &Limits) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > limits.max_bytes {
        return Err(NameError::TooLong);
    }
    let shape = Shape::of(name);
    if shape.null {
        return Err(NameError::Null);
    }
    if shape.wildcard {
        return Err(NameError::Wildcard);
    }
    if shape.levels > limits.max_levels {
        return Err(NameError::TooManyLevels);
    }
    Ok(())
}

/// What one pass over the bytes of a name or filter tells.
pub(super) struct Shape {
    pub(super) levels: usize,
    pub(super) wildcard: bool,
    pub(super) null: bool,
}

impl Shape {
    #[inline]
    pub(super) fn of(text: &str) -> Shape {
        let (mut levels, mut wildcard, mut null) = (1, false, false);
        for byte in text.bytes() {
            levels += usize::from(byte == b'/');
            wildcard |= matches!(byte, b'+' | b'#');
            null |= byte == 0;
        }
        Shape { levels, wildcard, null }
    }
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
        assert_eq!(check_name("a/b/cde", &limits), Err(NameError::TooLong));
        assert_eq!(check_name("a/b/c/", &limits), Err(NameError::TooManyLevels));
        assert_eq!(
            check_name("é/é/é", &limits),
            Err(NameError::TooLong),
            "bytes are counted, not characters"
        );
    }
}
