//! `--set PATH=VALUE`: single keys laid over a file's. Pure.
//!
//! The arguments are appended to the text of the file, one a line, and their values put into its table with the
//! places where they stand in that text; from there on nothing tells them from the file's own, and
//! [`Source::is_argument`] knows which is which when something is wrong.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problems, Source};

/// A file's text with the arguments after it.
pub(super) struct Joined {
    text: String,
    /// Where the arguments start.
    end: usize,
    arguments: Vec<Range<usize>>,
}

impl Joined {
    pub(super) fn new(text: &str, arguments: &[String]) -> Self {
        let mut joined = Self { text: text.to_owned(), end: text.len() + 1, arguments: Vec::new() };
        for argument in arguments {
            joined.text.push('\n');
            let start = joined.text.len();
            joined.text.push_str(argument);
            joined.arguments.push(start..joined.text.len());
        }
        joined
    }

    pub(super) fn source<'a>(&'a self, file: &'a str) -> Source<'a> {
        Source::with_arguments(file, &self.text, self.end)
    }

    /// Puts the arguments into the file's table, later ones over earlier ones.
    pub(super) fn lay_over<'a>(
        &'a self,
        table: &mut DeTable<'a>,
        source: &Source<'_>,
        problems: &mut Problems,
    ) {
        for argument in &self.arguments {
            let text = self.text.get(argument.clone()).unwrap_or_default();
            let Some((path, value)) = text.split_once('=') else {
                problems.push(source.problem(argument, text, "has no value", "--set PATH=VALUE"));
                continue;
            };
            let value_at = argument.start + path.len() + 1;
            let keys = keys(path, argument.start);
            if let Err(wrong) = insert(table, &keys, parse(value, value_at)) {
                problems.push(source.problem(
                    argument,
                    path.trim(),
                    wrong,
                    "a path such as listener.tcp.bind",
                ));
            }
        }
    }
}

/// The keys of a dotted path and where they stand.
fn keys(path: &str, start: usize) -> Vec<Spanned<&str>> {
    let mut at = start;
    path.split('.')
        .map(|key| {
            let span = at..at + key.len();
            at = span.end + 1;
            Spanned::new(span, key.trim())
        })
        .collect()
}

/// A TOML value, or else the text itself, so that `--set listener.tcp.bind=127.0.0.1:1884` needs no quotes.
fn parse(text: &str, at: usize) -> Spanned<DeValue<'_>> {
    let at = at + text.len() - text.trim_start().len();
    let text = text.trim();
    match DeValue::parse(text) {
        Ok(mut value) => {
            shift(&mut value, at);
            value
        }
        Err(_) => Spanned::new(at..at + text.len(), DeValue::String(Cow::Borrowed(text))),
    }
}

/// Moves the places of a value from its own text to the joined one.
fn shift(value: &mut Spanned<DeValue<'_>>, by: usize) {
    let moved = |span: Range<usize>| span.start + by..span.end + by;
    let inner = match std::mem::replace(value.get_mut(), DeValue::Boolean(false)) {
        DeValue::Array(mut items) => {
            items.iter_mut().for_each(|item| shift(item, by));
            DeValue::Array(items)
        }
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, mut value)| {
                    shift(&mut value, by);
                    (Spanned::new(moved(key.span()), key.into_inner()), value)
                })
                .collect(),
        ),
        scalar => scalar,
    };
    *value = Spanned::new(moved(value.span()), inner);
}

fn insert<'a>(
    table: &mut DeTable<'a>,
    keys: &[Spanned<&'a str>],
    value: Spanned<DeValue<'a>>,
) -> Result<(), &'static str> {
    let Some((key, rest)) = keys.split_first() else { return Err("names no key") };
    let name = *key.get_ref();
    if name.is_empty() {
        return Err("has an empty key");
    }
    if rest.is_empty() {
        table.remove(name);
        table.insert(Spanned::new(key.span(), Cow::Borrowed(name)), value);
        return Ok(());
    }
    if !table.contains_key(name) {
        let empty = DeValue::Table(DeTable::new());
        table.insert(Spanned::new(key.span(), Cow::Borrowed(name)), Spanned::new(key.span(), empty));
    }
    match table.get_mut(name).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => insert(inner, rest, value),
        Some(DeValue::Array(_)) => Err("goes through a list, which can only be set whole"),
        _ => Err("goes through a value that is no table"),
    }
}
