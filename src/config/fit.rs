//! Reads a TOML text into a serde structure and goes on after a wrong key, so that one run names everything. Pure.
//!
//! serde ends at the first thing that does not fit. So what does not fit as a whole is tried again in pieces, each
//! alone in the tables around it, down to the single keys that do not fit; what is left without them is the result.
//! Each level of the file is read at most twice, however much is wrong.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue, Error};

use super::problem::{MAX_PROBLEMS, Problems, Source};
use crate::spelling::suggest;

impl<'a> Source<'a> {
    /// Reads the text into `T` and goes on past what does not fit.
    ///
    /// A text that is no TOML gives every syntax error and no `T`. Otherwise each unknown key and each value
    /// of a wrong type is a problem and is left out, so `T` holds what was right and the caller can go on to
    /// check it; all fields of `T` and of what is in it must be optional or have defaults for that. `None` with
    /// problems means that nothing could be read, or that there are too many.
    pub(super) fn read<T: DeserializeOwned>(&self) -> (Option<T>, Problems) {
        match self.table() {
            Ok(table) => self.fit(table),
            Err(problems) => (None, problems),
        }
    }

    /// The file's part of the text as a table.
    ///
    /// # Errors
    /// Every syntax error.
    pub(super) fn table(&self) -> Result<Spanned<DeTable<'a>>, Problems> {
        let (table, errors) = DeTable::parse_recoverable(self.in_file());
        let mut problems = Problems::default();
        for error in errors.iter().take(MAX_PROBLEMS + 1) {
            let (wrong, right) = in_words(error.message());
            problems.push(self.problem(&error.span().unwrap_or(0..0), "", wrong, right));
        }
        if problems.is_empty() { Ok(table) } else { Err(problems) }
    }

    /// Like [`Self::read`], from a table whose spans are of this text.
    pub(super) fn fit<T: DeserializeOwned>(&self, mut table: Spanned<DeTable<'_>>) -> (Option<T>, Problems) {
        let error = match T::deserialize(toml::Deserializer::from(table.clone())) {
            Ok(value) => return (Some(value), Problems::default()),
            Err(error) => error,
        };
        let mut search = Search::<T> {
            source: self,
            root: table.span(),
            problems: Problems::default(),
            misfits: Misfits::default(),
            fits: PhantomData,
        };
        search.children(&mut Vec::new(), Node::Table(table.get_ref()), &error);
        let Search { mut problems, misfits, .. } = search;
        if problems.is_full() {
            return (None, problems);
        }
        misfits.leave(table.get_mut());
        match T::deserialize(toml::Deserializer::from(table)) {
            Ok(value) => (Some(value), problems),
            Err(error) => {
                let (wrong, right) = in_words(error.message());
                problems.push(self.problem(&error.span().unwrap_or(0..0), "", wrong, right));
                (None, problems)
            }
        }
    }
}

/// A step from a table or a list into it.
struct Step<'t, 'd> {
    /// `None` in a list.
    key: Option<&'t Spanned<DeString<'d>>>,
    value: Range<usize>,
}

impl Step<'_, '_> {
    fn stands_at(&self, span: &Range<usize>) -> bool {
        self.value == *span || self.key.is_some_and(|key| key.span() == *span)
    }
}

/// What has something in it.
#[derive(Clone, Copy)]
enum Node<'t, 'd> {
    Table(&'t DeTable<'d>),
    List(&'t DeArray<'d>),
}

impl<'t, 'd> Node<'t, 'd> {
    fn of(value: &'t DeValue<'d>) -> Option<Self> {
        match value {
            DeValue::Table(table) => Some(Self::Table(table)),
            DeValue::Array(items) => Some(Self::List(items)),
            _ => None,
        }
    }
}

/// What is to be left out: entries by their keys, items of lists by themselves.
#[derive(Default)]
struct Misfits {
    keys: HashSet<Range<usize>>,
    items: HashSet<Range<usize>>,
}

impl Misfits {
    fn add(&mut self, step: &Step<'_, '_>) {
        match step.key {
            Some(key) => self.keys.insert(key.span()),
            None => self.items.insert(step.value.clone()),
        };
    }

    fn leave(&self, table: &mut DeTable<'_>) {
        let wrong: Vec<String> = table
            .keys()
            .filter(|key| self.keys.contains(&key.span()))
            .map(|key| key.get_ref().clone().into_owned())
            .collect();
        for key in wrong {
            table.remove(key.as_str());
        }
        table.iter_mut().for_each(|(_, value)| self.leave_within(value.get_mut()));
    }

    fn leave_within(&self, value: &mut DeValue<'_>) {
        match value {
            DeValue::Table(inner) => self.leave(inner),
            DeValue::Array(items) => {
                let all = std::mem::replace(items, DeArray::new());
                *items = all.into_iter().filter(|item| !self.items.contains(&item.span())).collect();
                items.iter_mut().for_each(|item| self.leave_within(item.get_mut()));
            }
            _ => {}
        }
    }
}

/// Looks for what does not fit into a `T`.
struct Search<'s, T> {
    source: &'s Source<'s>,
    root: Range<usize>,
    problems: Problems,
    misfits: Misfits,
    fits: PhantomData<T>,
}

impl<T: DeserializeOwned> Search<'_, T> {
    /// Looks into what does not fit because of `error`.
    fn children<'t, 'd>(&mut self, path: &mut Vec<Step<'t, 'd>>, node: Node<'t, 'd>, error: &Error) {
        let before = self.problems.len();
        match node {
            Node::Table(table) => {
                for (key, value) in table {
                    self.child(path, Step { key: Some(key), value: value.span() }, value.get_ref());
                }
            }
            Node::List(items) => {
                for item in items {
                    self.child(path, Step { key: None, value: item.span() }, item.get_ref());
                }
            }
        }
        if self.problems.len() == before {
            // Each fits by itself and all do not together.
            self.found(path, error);
        }
    }

    fn child<'t, 'd>(&mut self, path: &mut Vec<Step<'t, 'd>>, step: Step<'t, 'd>, value: &'t DeValue<'d>) {
        if self.problems.is_full() {
            return;
        }
        path.push(step);
        if let Err(error) = T::deserialize(toml::Deserializer::from(alone(&self.root, path, value))) {
            let span = error.span();
            let here = path.iter().any(|step| span.as_ref().is_some_and(|span| step.stands_at(span)));
            match Node::of(value) {
                Some(node) if !here => self.children(path, node, &error),
                _ => self.found(path, &error),
            }
        }
        path.pop();
    }

    /// The end of `path` does not fit.
    fn found(&mut self, path: &[Step<'_, '_>], error: &Error) {
        let keys: Vec<&str> =
            path.iter().filter_map(|step| step.key).map(|key| key.get_ref().as_ref()).collect();
        let (wrong, right) = in_words(error.message());
        let span = error.span().unwrap_or(0..0);
        self.problems.push(self.source.problem(&span, keys.join("."), wrong, right));
        if let Some(last) = path.last() {
            self.misfits.add(last);
        }
    }
}

/// The value at the end of `path` with nothing beside it.
fn alone<'d>(root: &Range<usize>, path: &[Step<'_, 'd>], value: &DeValue<'d>) -> Spanned<DeTable<'d>> {
    let mut inner = value.clone();
    for step in path.iter().rev() {
        let value = Spanned::new(step.value.clone(), inner);
        inner = if let Some(key) = step.key {
            DeValue::Table(DeTable::from_iter([(key.clone(), value)]))
        } else {
            DeValue::Array(DeArray::from_iter([value]))
        };
    }
    let table = if let DeValue::Table(table) = inner { table } else { DeTable::new() };
    Spanned::new(root.clone(), table)
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde::Deserialize;

    use super::*;

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

    fn lines(problems: Problems) -> Vec<String> {
        problems.sorted("f.toml").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_run_names_every_key_that_does_not_fit_and_keeps_the_rest() {
        let text = "name = \"x\"\nnmae = 1\n[limits]\nreceive_maximun = 5\nreceive_maximum = 70000\n\
                    packet_bytes = \"1KiB\"\n[[listener]]\nbind = 7\n[[listener]]\nbind = \"here\"\non = \"yes\"\n";
        let (raw, problems) = Source::new("f.toml", text).read::<Raw>();
        assert_eq!(
            lines(problems),
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
            lines(problems),
            [
                "f.toml:1:8  string values must be quoted; expected literal string",
                "f.toml:2:14  missing assignment between key-value pairs; expected `=`",
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_told_once_and_with_all_that_is_in_it() {
        let text = "name = { a = 1, b = [{}, {}] }\n[other]\na = 1\n[other.more]\nb = 2\n[limits]\nreceive_maximum = {}\n\
                    [[listener]]\non = []\nbind = []\n";
        let (raw, problems) = Source::new("f.toml", text).read::<Raw>();
        assert_eq!(
            lines(problems),
            [
                "f.toml:1:8  name: invalid type: map; expected a string",
                "f.toml:2:2  other: unknown key; one of name, limits, listener",
                "f.toml:7:19  limits.receive_maximum: invalid type: map; a whole number from 0 to 65535",
                "f.toml:9:6  listener.on: invalid type: sequence; true or false",
                "f.toml:10:8  listener.bind: invalid type: sequence; expected a string",
            ]
        );
        assert_eq!(raw.unwrap().listener.len(), 1);
    }
}
