//! JSON read one level at a time, each value with its path, so that whatever is wrong can be told with its place.
//!
//! What is not asked for is only skipped over. That takes no recursion, and a list is never read further than it may
//! be long: what is held at a time is the file and one list of it.

use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::flaw::{ModelError, ModelFlaw};

/// The most members of an object that is looked into; XGBoost writes 16.
const MAX_MEMBERS: usize = 256;

/// What a file as a whole is called in place of a path.
pub(super) const FILE: &str = "the model file";

/// One value of the file.
#[derive(Debug)]
pub(super) struct Place<'j> {
    path: String,
    json: &'j RawValue,
}

/// The members of an object.
#[derive(Debug)]
pub(super) struct Object<'j> {
    path: String,
    members: BTreeMap<String, &'j RawValue>,
}

impl<'j> Place<'j> {
    pub(super) fn file(bytes: &'j [u8]) -> Result<Self, ModelError> {
        let json = serde_json::from_slice(bytes).map_err(|error| {
            let wrong =
                if is_no_number(bytes, &error) { ModelFlaw::NoNumber(error) } else { ModelFlaw::Json(error) };
            ModelError::new(FILE, wrong)
        })?;
        Ok(Self { path: String::new(), json })
    }

    pub(super) fn path(&self) -> &str {
        if self.path.is_empty() { FILE } else { &self.path }
    }

    pub(super) fn wrong(&self, wrong: ModelFlaw) -> ModelError {
        ModelError::new(self.path(), wrong)
    }

    /// What is wrong with one element of a list.
    pub(super) fn wrong_at(&self, index: usize, wrong: ModelFlaw) -> ModelError {
        ModelError::new(format!("{}[{index}]", self.path), wrong)
    }

    pub(super) fn object(&self) -> Result<Object<'j>, ModelError> {
        match serde_json::from_str(self.json.get()) {
            Ok(Members::Once(members)) => Ok(Object { path: self.path.clone(), members }),
            Ok(Members::Twice(name)) => Err(self.wrong(ModelFlaw::Twice(name))),
            Ok(Members::Many) => Err(self.wrong(ModelFlaw::TooMany {
                what: "members",
                found: MAX_MEMBERS + 1,
                most: MAX_MEMBERS,
            })),
            Err(_) => Err(self.wrong(ModelFlaw::Kind("an object"))),
        }
    }

    /// A string.
    pub(super) fn text(&self) -> Result<String, ModelError> {
        serde_json::from_str(self.json.get()).map_err(|_| self.wrong(ModelFlaw::Kind("a string")))
    }

    /// A whole number in a string, as XGBoost writes its parameters.
    pub(super) fn count(&self) -> Result<u32, ModelError> {
        let flaw = || self.wrong(ModelFlaw::Kind("a whole number in a string, e.g. \"1\""));
        self.text()?.parse().map_err(|_| flaw())
    }

    /// A list with at most so many elements, each of which `must_be` the same; the first that is more fails.
    pub(super) fn list<T: Deserialize<'j>>(
        &self,
        must_be: &'static str,
        most: usize,
        what: &'static str,
    ) -> Result<Vec<T>, ModelError> {
        let mut at = None;
        let list = List { most, at: &mut at, kind: PhantomData };
        let read = serde_json::Deserializer::from_str(self.json.get()).deserialize_seq(list);
        read.map_err(|_| match at {
            None => self.wrong(ModelFlaw::Kind("a list")),
            Some(at) if at == most => self.wrong(ModelFlaw::TooMany { what, found: at + 1, most }),
            Some(at) => self.wrong_at(at, ModelFlaw::Kind(must_be)),
        })
    }

    /// A list with one element for each of something.
    pub(super) fn one_for_each<T: Deserialize<'j>>(
        &self,
        must_be: &'static str,
        expected: usize,
        what: &'static str,
    ) -> Result<Vec<T>, ModelError> {
        let length = |found| self.wrong(ModelFlaw::Length { what, found, expected });
        match self.list(must_be, expected, what) {
            Err(ModelError { wrong: ModelFlaw::TooMany { found, .. }, .. }) => Err(length(found)),
            Ok(list) if list.len() < expected => Err(length(list.len())),
            read => read,
        }
    }

    /// The elements of a list.
    pub(super) fn elements(&self, most: usize, what: &'static str) -> Result<Vec<Self>, ModelError> {
        let elements: Vec<&RawValue> = self.list("JSON", most, what)?;
        let place = |(index, json)| Self { path: format!("{}[{index}]", self.path), json };
        Ok(elements.into_iter().enumerate().map(place).collect())
    }
}

impl<'j> Object<'j> {
    /// A member, if there is one of this name.
    pub(super) fn find(&self, name: &str) -> Option<Place<'j>> {
        let json = *self.members.get(name)?;
        Some(Place { path: self.path_of(name), json })
    }

    /// A member that must be there.
    pub(super) fn get(&self, name: &str) -> Result<Place<'j>, ModelError> {
        self.find(name).ok_or_else(|| ModelError::new(self.path_of(name), ModelFlaw::Missing))
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Whether the reader stumbled over `NaN` or `Infinity`, which XGBoost writes and JSON has not.
fn is_no_number(bytes: &[u8], error: &serde_json::Error) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    matches!(line.get(error.column().saturating_sub(1)), Some(b'N' | b'I'))
}

/// The members of an object, or why they are not read.
enum Members<'j> {
    Once(BTreeMap<String, &'j RawValue>),
    /// One of this name occurs more than once: readers differ in which they take.
    Twice(String),
    Many,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                let mut twice = None;
                while let Some((name, json)) = map.next_entry::<String, &RawValue>()? {
                    match members.entry(name) {
                        Entry::Occupied(taken) => twice = Some(taken.key().clone()),
                        Entry::Vacant(free) => {
                            free.insert(json);
                        }
                    }
                    if members.len() > MAX_MEMBERS {
                        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                        return Ok(Members::Many);
                    }
                }
                Ok(twice.map_or(Members::Once(members), Members::Twice))
            }
        }

        deserializer.deserialize_map(Read)
    }
}

/// Reads a list and leaves behind, if it fails, at which element: `None` if it is no list.
struct List<'n, T> {
    most: usize,
    at: &'n mut Option<usize>,
    kind: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        loop {
            *self.at = Some(list.len());
            if list.len() == self.most {
                // An element more is read as nothing, so that what is wrong is that it is there.
                return match seq.next_element::<IgnoredAny>()? {
                    None => Ok(list),
                    Some(_) => Err(A::Error::custom("too long")),
                };
            }
            match seq.next_element()? {
                None => return Ok(list),
                Some(element) => list.push(element),
            }
        }
    }
}
