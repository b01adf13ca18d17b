//! What is wrong in an operator's file, as data: where, which key, what is wrong and what would be right.
//!
//! Owns the way from a byte of a TOML text to its line and column, and the reading of a text into a serde
//! structure that goes on after a wrong key, so that one run names everything. Pure: opens no file, prints
//! nothing. Used for `conf/switchboard.toml` and for `conf/routing.toml`.

use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::spelling::suggest;

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

/// A TOML text with the name of its file: turns what TOML says of bytes into what people read.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    file: &'a str,
    text: &'a str,
    /// From this byte on the text did not stand in the file but came as `--set` arguments.
    arguments: usize,
}

/// What a problem with a `--set` argument has for a file.
pub const ARGUMENT: &str = "--set";

impl<'a> Source<'a> {
    /// `file` is only shown, never opened.
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, arguments: usize::MAX }
    }

    /// A text of which only the first `arguments` bytes stand in the file: what follows came as `--set`
    /// arguments, and problems there have [`ARGUMENT`] for a file and no position.
    pub fn with_arguments(file: &'a str, text: &'a str, arguments: usize) -> Self {
        Self { file, text, arguments }
    }

    /// Whether `span` is of an argument and not of the file.
    pub fn is_argument(&self, span: &Range<usize>) -> bool {
        span.start >= self.arguments
    }

    /// The text, as given.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Where byte `offset` of the text stands; past the end means the end, within a character its start.
    pub fn position(&self, offset: usize) -> Position {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = self.text.get(..end).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Position { line: saturate(line), column: saturate(column) }
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

    /// Reads the text into `T` and goes on past what does not fit.
    ///
    /// A text that is no TOML gives every syntax error and no `T`. Otherwise each unknown key and each value
    /// of a wrong type is a problem and is left out, so `T` holds what was right and the caller can go on to
    /// check it; the fields of `T` must be optional or have defaults for that, or the table around a missing
    /// key is left out too. `None` with problems means that nothing could be read.
    pub fn read<T: DeserializeOwned>(&self) -> (Option<T>, Vec<Problem>) {
        match self.table() {
            Ok(table) => self.fit(table),
            Err(problems) => (None, problems),
        }
    }

    /// The file's part of the text as a table.
    ///
    /// # Errors
    /// Every syntax error.
    pub fn table(&self) -> Result<Spanned<DeTable<'a>>, Vec<Problem>> {
        let text = self.text.get(..self.arguments).unwrap_or(self.text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut problems: Vec<Problem> = errors
            .iter()
            .map(|error| {
                let (wrong, right) = in_words(error.message());
                self.problem(&error.span().unwrap_or(0..0), "", wrong, right)
            })
            .collect();
        problems.sort();
        if problems.is_empty() { Ok(table) } else { Err(problems) }
    }

    /// Like [`Self::read`], from a table whose spans are of this text.
    pub fn fit<T: DeserializeOwned>(&self, mut table: Spanned<DeTable<'_>>) -> (Option<T>, Vec<Problem>) {
        let mut problems = Vec::new();
        // Each turn takes one entry away, so there are at most as many turns as entries.
        loop {
            let error = match T::deserialize(toml::Deserializer::from(table.clone())) {
                Ok(value) => return (Some(value), problems),
                Err(error) => error,
            };
            let (wrong, right) = in_words(error.message());
            let span = error.span().unwrap_or(0..0);
            let mut path = Vec::new();
            let removed = remove_entry(table.get_mut(), &span, &mut path);
            path.reverse();
            problems.push(self.problem(&span, path.join("."), wrong, right));
            if !removed {
                return (None, problems);
            }
        }
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

/// Takes away the entry whose key or value stands at `span`; `path` gets its keys, innermost first.
fn remove_entry(table: &mut DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    let found = table.iter().find_map(|(key, value)| {
        (key.span() == *span || value.span() == *span).then(|| key.get_ref().as_ref().to_owned())
    });
    if let Some(key) = found {
        table.remove(key.as_str());
        path.push(key);
        return true;
    }
    for (key, value) in table.iter_mut() {
        if remove_within(value, span, path) {
            path.push(key.get_ref().as_ref().to_owned());
            return true;
        }
    }
    false
}

fn remove_within(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    match value.get_mut() {
        DeValue::Table(inner) => remove_entry(inner, span, path),
        DeValue::Array(items) => {
            let before = items.len();
            let kept =
                std::mem::replace(items, DeArray::new()).into_iter().filter(|item| item.span() != *span);
            *items = kept.collect();
            items.len() < before || items.iter_mut().any(|item| remove_within(item, span, path))
        }
        _ => false,
    }
}

/// serde's and toml's message as what is wrong and what would be right.
fn in_words(message: &str) -> (String, String) {
    let (wrong, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    for kind in ["unknown field `", "unknown variant `"] {
        let Some(name) = wrong.strip_prefix(kind).and_then(|rest| rest.strip_suffix('`')) else { continue };
        // serde quotes each candidate: every second piece between backticks is one.
        let candidates: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let wrong = if kind.starts_with("unknown field") {
            "unknown key".to_owned()
        } else {
            format!("`{name}` is not known")
        };
        return (wrong, suggest(name, &candidates));
    }
    let wrong = wrong.lines().next().unwrap_or_default();
    let right = match expected {
        "" => String::new(),
        "a boolean" => "true or false".to_owned(),
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i64" | "i32" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "a sequence" => "a list: [ … ]".to_owned(),
        "a map" => "a table".to_owned(),
        other => format!("expected {other}"),
    };
    (wrong.to_owned(), right)
}

fn saturate(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Raw {
        name: Option<Spanned<String>>,
        limits: Option<Limits>,
        listener: Vec<Listener>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Limits {
        receive_maximum: Option<Spanned<u16>>,
        packet_bytes: Option<Spanned<String>>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Listener {
        bind: Option<Spanned<String>>,
        on: Option<Spanned<bool>>,
    }

    #[derive(Deserialize)]
    struct Key {
        k: Spanned<String>,
    }

    fn lines(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("f", "a\nüb = 1\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(2), Position { line: 2, column: 1 });
        assert_eq!(source.position(3), Position { line: 2, column: 1 }, "within ü");
        assert_eq!(source.position(4), Position { line: 2, column: 2 });
        assert_eq!(source.position(999), Position { line: 3, column: 1 });
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
    fn one_run_names_every_key_that_does_not_fit_and_keeps_the_rest() {
        let text = "name = \"x\"\nnmae = 1\n[limits]\nreceive_maximun = 5\nreceive_maximum = 70000\n\
                    packet_bytes = \"1KiB\"\n[[listener]]\nbind = 7\n[[listener]]\nbind = \"here\"\non = \"yes\"\n";
        let (raw, mut problems) = Source::new("f.toml", text).read::<Raw>();
        problems.sort();
        assert_eq!(
            lines(&problems),
            [
                "f.toml:2:1  nmae: unknown key; did you mean \"name\"?",
                "f.toml:4:1  limits.receive_maximun: unknown key; did you mean \"receive_maximum\"?",
                "f.toml:5:19  limits.receive_maximum: invalid value: integer `70000`; a whole number from 0 to 65535",
                "f.toml:8:8  listener.bind: invalid type: integer `7`; expected a string",
                "f.toml:11:6  listener.on: invalid type: string \"yes\"; true or false",
            ]
        );
        let raw = raw.unwrap();
        assert_eq!(raw.name.unwrap().get_ref(), "x");
        let limits = raw.limits.unwrap();
        assert!(limits.receive_maximum.is_none());
        let packet_bytes = limits.packet_bytes.unwrap();
        assert_eq!(text.get(packet_bytes.span()), Some("\"1KiB\""), "spans survive");
        assert_eq!(raw.listener.len(), 2);
        assert!(raw.listener.iter().all(|l| l.on.is_none()));
        assert_eq!(raw.listener.last().unwrap().bind.as_ref().unwrap().get_ref(), "here");
    }

    #[test]
    fn a_text_that_is_no_toml_names_every_error() {
        let (raw, problems) = Source::new("f.toml", "name = \nlimits = { a 1 }\n").read::<Raw>();
        assert!(raw.is_none());
        assert_eq!(
            lines(&problems),
            [
                "f.toml:1:8  string values must be quoted; expected literal string",
                "f.toml:2:14  missing assignment between key-value pairs; expected `=`",
            ]
        );
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
}
