//! A topic filter with placeholders, as a rule has it.

use super::ANY_SIZE;
use super::values::{Slot, Values};
use crate::topic::{FilterError, ParsedFilter, covers, overlaps, parse_filter};

const SHARE: &str = "$share/";

/// A topic filter in which values of a client may stand: `sensors/%c/#`.
///
/// `$share/NAME/FILTER` is of shared subscriptions alone, and NAME may be `+`: any. A filter without it is of plain and
/// of shared subscriptions, whatever the name of those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    share: Option<Share>,
    pieces: Box<[Piece]>,
    /// The [`Slot`]s in it, one bit each.
    needs: u8,
    /// The last byte of all that it matches, if that is always the same: most topics of a rule are told apart by it.
    last: Option<u8>,
}

/// Why a text is no [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no topic filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// `%` and something else than a placeholder's letter.
    #[error("%{0} stands for nothing; %c, %u, %t, %i, %g, or %% for a percent sign")]
    Placeholder(char),
    /// A `%` with nothing behind it.
    #[error("% stands alone; %% is a percent sign")]
    Percent,
    /// A first level such as `$%c`.
    #[error("a first level that begins with $ has no placeholder")]
    Dollar,
}

/// The name of a shared subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Share {
    Any,
    Named(Box<[Piece]>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Never empty.
    Text(Box<str>),
    Value(Slot),
    /// `+`
    One,
    /// `/#`, which is also nothing at all.
    Rest,
    /// `#` alone.
    All,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let any = text.strip_prefix(SHARE).and_then(|rest| rest.strip_prefix("+/"));
        let parsed = parse_filter(any.unwrap_or(text), &ANY_SIZE)?;
        if any.is_some() && parsed.share.is_some() {
            return Err(FilterError::Share.into());
        }
        let pieces = pieces(parsed.filter)?;
        if parsed.filter.starts_with('$') && parsed.filter.split('/').next().is_some_and(|l| l.contains('%'))
        {
            return Err(PatternError::Dollar);
        }
        let share = match (any, parsed.share) {
            (Some(_), _) => Some(Share::Any),
            (None, Some(name)) => Some(Share::Named(self::pieces(name)?)),
            (None, None) => None,
        };
        let named: &[Piece] = if let Some(Share::Named(named)) = &share { named } else { &[] };
        let needs = named.iter().chain(&pieces).fold(0, |needs, piece| needs | piece.needs());
        let last = match pieces.last() {
            Some(Piece::Text(end)) => end.bytes().last(),
            _ => None,
        };
        Ok(Self { text: text.into(), share, pieces, needs, last })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is of shared subscriptions alone.
    #[inline]
    pub(super) fn is_shared(&self) -> bool {
        self.share.is_some()
    }

    /// The [`Slot`]s that it has to know a value of, one bit each.
    pub(super) fn needs(&self) -> u8 {
        self.needs
    }

    /// Whether the client has all that stands in it.
    pub(super) fn is_possible(&self, values: &Values) -> bool {
        values.has(self.needs)
    }

    /// Whether a name is matched by the filter, with any of the client's groups.
    #[inline]
    pub(super) fn matches(&self, values: &Values, name: &str) -> bool {
        if self.last.is_some() && name.as_bytes().last().copied() != self.last {
            return false;
        }
        self.any(values, |group| self.matches_with(values, group, name))
    }

    /// Whether a subscription's filter is covered, with any of the client's groups.
    pub(super) fn covers(&self, values: &Values, wanted: &ParsedFilter<'_>) -> bool {
        self.compare(values, wanted, covers)
    }

    /// Whether some of a subscription's filter is covered, with any of the client's groups.
    pub(super) fn overlaps(&self, values: &Values, wanted: &ParsedFilter<'_>) -> bool {
        self.compare(values, wanted, overlaps)
    }

    fn compare(
        &self,
        values: &Values,
        wanted: &ParsedFilter<'_>,
        related: impl Fn(&str, &str) -> bool,
    ) -> bool {
        self.any(values, |group| {
            self.is_share(values, group, wanted.share)
                && self.filter(values, group).is_some_and(|filter| related(&filter, wanted.filter))
        })
    }

    /// Whether something holds: once, or for any of the client's groups if the pattern speaks of them.
    #[inline]
    fn any(&self, values: &Values, holds: impl FnMut(usize) -> bool) -> bool {
        let times = if self.needs & Slot::Group.bit() == 0 { 1 } else { values.groups() };
        values.has(self.needs) && (0..times).any(holds)
    }

    fn matches_with(&self, values: &Values, group: usize, name: &str) -> bool {
        let name = name.as_bytes();
        if name.starts_with(b"$") && !self.is_hidden() {
            return false;
        }
        let mut rest = name;
        for piece in &self.pieces {
            let after = match piece {
                Piece::Text(text) => rest.strip_prefix(text.as_bytes()),
                Piece::Value(slot) => rest.strip_prefix(values.get(*slot, group).as_bytes()),
                Piece::One => rest.get(rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len())..),
                Piece::Rest => return rest.is_empty() || rest.starts_with(b"/"),
                Piece::All => return true,
            };
            let Some(after) = after else { return false };
            rest = after;
        }
        rest.is_empty()
    }

    fn is_share(&self, values: &Values, group: usize, wanted: Option<&str>) -> bool {
        match (&self.share, wanted) {
            (None, _) | (Some(Share::Any), Some(_)) => true,
            (Some(_), None) => false,
            (Some(Share::Named(name)), Some(wanted)) => text(name, values, group) == wanted,
        }
    }

    /// The filter with a client's values; `None` if they would make it one of `$` topics, which only the rule itself
    /// may name.
    fn filter(&self, values: &Values, group: usize) -> Option<String> {
        let filter = text(&self.pieces, values, group);
        (self.is_hidden() || !filter.starts_with('$')).then_some(filter)
    }

    /// Whether it is of topics that begin with `$`, which no wildcard and no value reaches [MQTT-4.7.2-1].
    fn is_hidden(&self) -> bool {
        matches!(self.pieces.first(), Some(Piece::Text(text)) if text.starts_with('$'))
    }
}

impl Piece {
    fn needs(&self) -> u8 {
        if let Self::Value(slot) = self { slot.bit() } else { 0 }
    }
}

fn text(pieces: &[Piece], values: &Values, group: usize) -> String {
    let mut out = String::new();
    for piece in pieces {
        out.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Value(slot) => values.get(*slot, group),
            Piece::One => "+",
            Piece::Rest => "/#",
            Piece::All => "#",
        });
    }
    out
}

/// Takes a valid filter, or the name of a share, apart.
fn pieces(filter: &str) -> Result<Box<[Piece]>, PatternError> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut chars = filter.chars();
    while let Some(c) = chars.next() {
        let piece = match c {
            '%' => match chars.next() {
                None => return Err(PatternError::Percent),
                Some('%') => None,
                Some(letter) => {
                    Some(Piece::Value(Slot::of(letter).ok_or(PatternError::Placeholder(letter))?))
                }
            },
            '+' => Some(Piece::One),
            '#' if plain.is_empty() && pieces.is_empty() => Some(Piece::All),
            '#' => {
                plain.pop();
                Some(Piece::Rest)
            }
            _ => None,
        };
        let Some(piece) = piece else {
            plain.push(c);
            continue;
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
        }
        pieces.push(piece);
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain.into()));
    }
    Ok(pieces.into())
}
