//! What is wrong in an operator's file, as data: where, which key, what is wrong and what would be right.
//!
//! Owns the way from a byte of a TOML text to its line and column, and the bound on how much is told at once. Pure:
//! opens no file, prints nothing. Used for `conf/switchboard.toml` and for `conf/routing.toml`.

use std::fmt;
use std::ops::Range;

/// One thing wrong in an operator's file. Sorts by file, then by position.
///
/// Shown as `conf/switchboard.toml:14:19  limits.receive_maximum: 0 is not allowed; 1 to 65535`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct Problem {
    /// The file as the operator named it, or the argument (`--set`) that the value came from.
    pub file: String,
    /// Line, from 1; 0 when the value does not stand in a file.
    pub line: u32,
    /// Column in characters, from 1; 0 when the value does not stand in a file.
    pub column: u32,
    /// The dotted path of the key; empty when the text is no TOML.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right; empty when `wrong` says it all.
    pub right: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str("  ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.wrong)?;
        if !self.right.is_empty() {
            write!(f, "; {}", self.right)?;
        }
        Ok(())
    }
}

/// A place in a text, both numbers from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// The most problems that one run tells: a file with more is no file of ours, or generated.
pub const MAX_PROBLEMS: usize = 100;

/// What was found wrong so far. Takes one more than [`MAX_PROBLEMS`], so that it is known that there are more.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Whether nothing more is taken, so that looking on is of no use.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() > MAX_PROBLEMS
    }

    pub(crate) fn push(&mut self, problem: Problem) {
        if !self.is_full() {
            self.0.push(problem);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub(crate) fn extend(&mut self, others: Self) {
        others.0.into_iter().for_each(|problem| self.push(problem));
    }

    /// All by file and line, and after the first [`MAX_PROBLEMS`] a word about the others.
    pub(crate) fn sorted(self, file: &str) -> Vec<Problem> {
        let full = self.is_full();
        let mut problems = self.0;
        problems.sort();
        problems.dedup();
        if full {
            problems.truncate(MAX_PROBLEMS);
            problems.push(Problem {
                file: file.to_owned(),
                line: 0,
                column: 0,
                key: String::new(),
                wrong: format!("there are more problems than {}", problems.len()),
                right: "check again when these are gone".to_owned(),
            });
        }
        problems
    }
}

/// A TOML text with the name of its file: turns what TOML says of bytes into what people read.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    file: &'a str,
    text: &'a str,
    /// From this byte on the text did not stand in the file but came as `--set` arguments.
    arguments: usize,
    /// The byte after each newline: a file is asked for the line of each of its tables.
    lines: Vec<usize>,
}

/// What a problem with a `--set` argument has for a file.
pub const ARGUMENT: &str = "--set";

impl<'a> Source<'a> {
    /// `file` is only shown, never opened.
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self::with_arguments(file, text, usize::MAX)
    }

    /// A text of which only the first `arguments` bytes stand in the file: what follows came as `--set`
    /// arguments, and problems there have [`ARGUMENT`] for a file and no position.
    pub fn with_arguments(file: &'a str, text: &'a str, arguments: usize) -> Self {
        let lines = text.match_indices('\n').map(|(newline, _)| newline + 1).collect();
        Self { file, text, arguments, lines }
    }

    /// Whether `span` is of an argument and not of the file.
    pub fn is_argument(&self, span: &Range<usize>) -> bool {
        span.start >= self.arguments
    }

    /// The text, as given.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// What of the text stands in the file.
    pub(super) fn in_file(&self) -> &'a str {
        self.text.get(..self.arguments).unwrap_or(self.text)
    }

    /// Where byte `offset` of the text stands; past the end means the end, within a character its start.
    pub fn position(&self, offset: usize) -> Position {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let line = self.lines.partition_point(|&start| start <= end);
        let start = line.checked_sub(1).and_then(|before| self.lines.get(before)).copied().unwrap_or(0);
        let column = self.text.get(start..end).unwrap_or_default().chars().count() + 1;
        Position { line: saturate(line + 1), column: saturate(column) }
    }

    /// The line of [`Self::position`], without a walk along it: lines may be as long as the file.
    pub(crate) fn line(&self, offset: usize) -> u32 {
        saturate(self.lines.partition_point(|&start| start <= offset) + 1)
    }

    /// Which byte of the text gave byte `at` of the string value that stands at `span`: past the quotes and the
    /// escapes before it. For what has positions of its own within a string, an expression for instance.
    pub fn within(&self, span: &Range<usize>, at: usize) -> usize {
        let raw = self.text.get(span.clone()).unwrap_or_default();
        let multiline = raw.starts_with("\"\"\"") || raw.starts_with("'''");
        let basic = raw.starts_with('"');
        let mut rest = raw.get(if multiline { 3 } else { 1 }..).unwrap_or_default();
        if multiline {
            // The newline right after the opening quotes is not part of the value.
            rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')).unwrap_or(rest);
        }
        let mut decoded = 0;
        loop {
            let (taken, given) = match rest.strip_prefix('\\') {
                Some(escaped) if basic => escape(escaped),
                _ => rest.chars().next().map_or((0, 0), |c| (c.len_utf8(), c.len_utf8())),
            };
            // An escape that stands for nothing is behind the byte before it.
            if taken == 0 || (decoded >= at && given > 0) {
                break;
            }
            rest = rest.get(taken..).unwrap_or_default();
            decoded += given;
        }
        span.end.saturating_sub(rest.len())
    }

    /// A problem at the first byte of `span` (what `toml::Spanned::span` gives).
    pub fn problem(
        &self,
        span: &Range<usize>,
        key: impl Into<String>,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) -> Problem {
        let (file, Position { line, column }) = if self.is_argument(span) {
            (ARGUMENT.to_owned(), Position { line: 0, column: 0 })
        } else {
            (self.file.to_owned(), self.position(span.start))
        };
        Problem { file, line, column, key: key.into(), wrong: wrong.into(), right: right.into() }
    }
}

/// How many bytes an escape takes, its backslash among them, and how many it stands for; `rest` follows the
/// backslash.
fn escape(rest: &str) -> (usize, usize) {
    let digits = match rest.chars().next() {
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        // A backslash at the end of a line takes away all white space up to the next character.
        Some(c) if c.is_whitespace() => return (1 + rest.len() - rest.trim_start().len(), 0),
        Some(c) => return (1 + c.len_utf8(), 1),
        None => return (1, 0),
    };
    let code = rest.get(1..=digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    (2 + digits, code.and_then(char::from_u32).map_or(1, char::len_utf8))
}

fn saturate(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde::Deserialize;
    use toml::Spanned;

    #[derive(Deserialize)]
    struct Key {
        k: Spanned<String>,
    }

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("f", "a\nüb = 1\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(2), Position { line: 2, column: 1 });
        assert_eq!(source.position(3), Position { line: 2, column: 1 }, "within ü");
        assert_eq!(source.position(4), Position { line: 2, column: 2 });
        assert_eq!(source.position(999), Position { line: 3, column: 1 });
        for offset in [0, 1, 2, 3, 8, 9, 999] {
            assert_eq!(source.line(offset), source.position(offset).line, "{offset}");
        }
    }

    #[test]
    fn a_byte_of_a_string_is_found_behind_quotes_and_escapes() {
        let cases = [
            ("k = \"ab!\"", 2),
            ("k = 'ab!'", 2),
            ("k = \"\\\"\\t!\"", 2),
            ("k = \"\\u00fc\\x41!\"", 3),
            ("k = \"\\U0001F600!\"", 4),
            ("k = '''\na\nb!'''", 3),
            ("k = '''\r\na\\!'''", 2),
            ("k = \"\"\"ab\\\n   !\"\"\"", 2),
            ("k = \"üb!\"", 3),
        ];
        for (text, at) in cases {
            let source = Source::new("f", text);
            let key = source.read::<Key>().0.unwrap().k;
            assert_eq!(key.get_ref().find('!'), Some(at), "{text}");
            assert_eq!(Some(source.within(&key.span(), at)), text.find('!'), "{text}");
            assert!(source.within(&key.span(), 999) <= text.len());
        }
    }

    #[test]
    fn a_problem_outside_a_file_has_no_position() {
        let problem = Problem {
            file: "--set".into(),
            line: 0,
            column: 0,
            key: "shards".into(),
            wrong: "0 is not allowed".into(),
            right: String::new(),
        };
        assert_eq!(problem.to_string(), "--set  shards: 0 is not allowed");
    }

    #[test]
    fn only_the_first_problems_are_told_and_that_there_are_more() {
        let source = Source::new("f", "a");
        let told = |found: usize| {
            let mut problems = Problems::default();
            (0..found).for_each(|n| problems.push(source.problem(&(0..1), format!("k{n:03}"), "wrong", "")));
            assert_eq!(problems.is_full(), found > 100);
            problems.sorted("f")
        };
        assert_eq!(told(100).len(), 100);
        assert_eq!(told(100).last().unwrap().key, "k099");
        let many = told(5000);
        assert_eq!(many.len(), 101);
        let last = many.last().unwrap().to_string();
        assert_eq!(last, "f  there are more problems than 100; check again when these are gone");
    }
}
