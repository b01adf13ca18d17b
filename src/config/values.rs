//! Single values: in range or told, the default in place of a wrong one. Pure.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::problem::{Problems, Source};
use super::raw::{Count, Measured, Switch, Word};
use super::units::{Quantity, show_bytes, show_duration};
use crate::spelling::suggest;

/// For what memory bounds before we do.
pub(super) const PLENTY: u64 = 1 << 40;

/// What an address looks like.
pub(super) const ADDRESS: &str = "an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"";

/// Reads values and collects what is wrong with them.
pub(super) struct Values<'a> {
    pub(super) source: &'a Source<'a>,
    /// Where the file is.
    pub(super) folder: Option<&'a Path>,
    pub(super) problems: Problems,
}

impl Values<'_> {
    pub(super) fn problem(
        &mut self,
        span: &Range<usize>,
        key: &str,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) {
        if !self.problems.is_full() {
            self.problems.push(self.source.problem(span, key, wrong, right));
        }
    }

    /// As many of `raw` as may be, with a problem at the first one too many.
    pub(super) fn at_most<'r, T>(
        &mut self,
        key: &str,
        raw: &'r [Spanned<T>],
        most: usize,
        what: &str,
    ) -> &'r [Spanned<T>] {
        if let Some(first) = raw.get(most) {
            self.problem(&first.span(), key, format!("{} {what}", raw.len()), format!("at most {most}"));
        }
        raw.get(..most).unwrap_or(raw)
    }

    /// Whether a problem with `key` was told already; then it is not missing as well.
    pub(super) fn told(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    pub(super) fn count<T>(&mut self, key: &str, raw: &Count, default: T, allowed: RangeInclusive<T>) -> T
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let Some(written) = raw else { return default };
        match T::try_from(*written.get_ref()) {
            Ok(count) if allowed.contains(&count) => count,
            _ => {
                let wrong = format!("{} is not allowed", written.get_ref());
                self.problem(&written.span(), key, wrong, between(allowed.start(), allowed.end()));
                default
            }
        }
    }

    pub(super) fn size<T: TryFrom<u64>>(
        &mut self,
        key: &str,
        raw: &Measured,
        default: T,
        allowed: RangeInclusive<u64>,
    ) -> T {
        let Some(written) = raw else { return default };
        let limits = between(show_bytes(*allowed.start()), show_bytes(*allowed.end()));
        let Some(bytes) = written.get_ref().bytes() else {
            let right = format!("a whole number with B, KiB, MiB or GiB, {limits}");
            self.unmeasured(key, written, "is no size", right);
            return default;
        };
        match T::try_from(bytes) {
            Ok(size) if allowed.contains(&bytes) => size,
            _ => {
                let wrong = format!("{} is not allowed", show_bytes(bytes));
                self.problem(&written.span(), key, wrong, limits);
                default
            }
        }
    }

    pub(super) fn duration(
        &mut self,
        key: &str,
        raw: &Measured,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(written) = raw else { return default };
        let limits = between(show_duration(*allowed.start()), show_duration(*allowed.end()));
        let Some(duration) = written.get_ref().duration() else {
            let right = format!("a whole number with ms, s, m, h or d, {limits}");
            self.unmeasured(key, written, "is no duration", right);
            return default;
        };
        if allowed.contains(&duration) {
            return duration;
        }
        let wrong = format!("{} is not allowed", show_duration(duration));
        self.problem(&written.span(), key, wrong, limits);
        default
    }

    /// As [`Self::duration`], in milliseconds.
    pub(super) fn millis(
        &mut self,
        key: &str,
        raw: &Measured,
        default_ms: u64,
        allowed: RangeInclusive<Duration>,
    ) -> u64 {
        let duration = self.duration(key, raw, Duration::from_millis(default_ms), allowed);
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }

    /// A duration that goes over the wire in seconds.
    pub(super) fn seconds(
        &mut self,
        key: &str,
        raw: &Measured,
        default: Duration,
        longest: Duration,
    ) -> Duration {
        let duration = self.duration(key, raw, default, Duration::ZERO..=longest);
        if let Some(written) = raw
            && duration.subsec_nanos() != 0
        {
            let wrong = format!("{} is not allowed", show_duration(duration));
            self.problem(&written.span(), key, wrong, "whole seconds");
        }
        duration
    }

    fn unmeasured(&mut self, key: &str, written: &Spanned<Quantity>, what: &str, right: String) {
        let wrong = if written.get_ref().is_bare() {
            format!("{} has no unit", written.get_ref().0)
        } else {
            format!("{:?} {what}", written.get_ref().0)
        };
        self.problem(&written.span(), key, wrong, right);
    }

    pub(super) fn address(&mut self, key: &str, raw: &Word, default: SocketAddr) -> SocketAddr {
        let Some(written) = raw else { return default };
        written.get_ref().parse().unwrap_or_else(|_| {
            let wrong = format!("{:?} is not allowed", written.get_ref());
            self.problem(&written.span(), key, wrong, ADDRESS);
            default
        })
    }

    /// A file beside this one; in an argument, one in the working directory. `None`: no word, or an empty one.
    pub(super) fn path(&self, raw: &Word) -> Option<PathBuf> {
        let written = raw.as_ref().filter(|written| !written.get_ref().is_empty())?;
        let beside = self.folder.filter(|_| !self.source.is_argument(&written.span()));
        Some(beside.unwrap_or(Path::new("")).join(written.get_ref()))
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &str, raw: &Word, default: T, words: &[(&str, T)]) -> T {
        let Some(written) = raw else { return default };
        if let Some((_, choice)) = words.iter().find(|(word, _)| word == written.get_ref()) {
            return *choice;
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let wrong = format!("{:?} is not known", written.get_ref());
        self.problem(&written.span(), key, wrong, suggest(written.get_ref(), &names));
        default
    }
}

pub(super) fn switch(raw: &Switch, default: bool) -> bool {
    raw.as_ref().map_or(default, |written| *written.get_ref())
}

fn between(least: impl Display, most: impl Display) -> String {
    format!("{least} to {most}")
}
