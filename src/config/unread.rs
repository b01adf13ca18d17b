//! Which keys of a file are there and could not be read, so that they are not missing as well. Pure.

use std::ops::Range;

use super::problem::{Problems, Source};

/// Lines and keys that could not be read.
pub(super) struct Unread(Vec<(u32, String)>);

impl Unread {
    /// What reading a file as a whole has found wrong.
    pub(super) fn new(problems: &Problems) -> Self {
        Self(problems.iter().map(|problem| (problem.line, problem.key.clone())).collect())
    }

    /// Whether a key of a table is there and could not be read.
    pub(super) fn has(&self, source: &Source<'_>, table: &Range<usize>, key: &str) -> bool {
        if self.0.iter().all(|(_, unread)| unread != key) {
            return false;
        }
        let line = source.line(table.start);
        // A table's keys follow its header: the next line that starts with a bracket ends it.
        let rest = source.text().get(table.start..).unwrap_or_default();
        let lines = rest.lines().skip(1).take_while(|line| !line.trim_start().starts_with("[[")).count();
        let last = line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.0.iter().any(|(at, unread)| unread == key && (line..=last).contains(at))
    }
}
