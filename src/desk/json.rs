//! JSON as CEL sees it, read in one pass and within bounds, and the customer's context document.
//!
//! A document comes from outside and a condition may walk all of it, so both its bytes and the number of its
//! values are bounded: that bounds what one condition can cost as well.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::Val;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::document::{ContextRules, Document, Patch};

/// The most values (members, elements, scalars) of one document that conditions look at.
pub(super) const MAX_VALUES: usize = 1024;

/// The most bytes of a context document, or of a message's body, that conditions look at.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// A value of CEL that owns what it shows.
pub(super) type Owned = Box<dyn Val + 'static>;

/// Reads one JSON text as a CEL value: whole numbers are `int` (`uint` above its range), others `double`.
pub(super) fn to_cel(text: &str) -> Result<Owned, serde_json::Error> {
    let mut left = MAX_VALUES;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = CelJson { left: &mut left }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads the members of an object, each one JSON text, as a CEL map.
fn members_to_cel<'t>(members: impl Iterator<Item = (&'t str, &'t str)>) -> Result<Owned, serde_json::Error> {
    let mut left = MAX_VALUES - 1;
    let mut map: HashMap<CelMapKey<'static>, Owned> = HashMap::new();
    for (name, text) in members {
        let mut reader = serde_json::Deserializer::from_str(text);
        map.insert(name.to_owned().into(), CelJson { left: &mut left }.deserialize(&mut reader)?);
    }
    Ok(Box::new(CelMap::from(map)))
}

/// Deserializes into a CEL value; `left` is how many values the document may still have.
struct CelJson<'n> {
    left: &'n mut usize,
}

impl<'de> DeserializeSeed<'de> for CelJson<'_> {
    type Value = Owned;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Owned, D::Error> {
        *self.left = self.left.checked_sub(1).ok_or_else(|| {
            serde::de::Error::custom(format_args!("more than {MAX_VALUES} values in one document"))
        })?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CelJson<'_> {
    type Value = Owned;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Owned, E> {
        Ok(Box::new(CelNull))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Owned, E> {
        Ok(Box::new(CelBool::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Owned, E> {
        Ok(Box::new(CelInt::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Owned, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Box::new(CelInt::from(value)),
            Err(_) => Box::new(CelUInt::from(value)),
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Owned, E> {
        Ok(Box::new(CelDouble::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Owned, E> {
        Ok(Box::new(CelString::from(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Owned, A::Error> {
        let mut items: Vec<Owned> = Vec::new();
        while let Some(item) = seq.next_element_seed(CelJson { left: self.left })? {
            items.push(item);
        }
        Ok(Box::new(CelList::from(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Owned, A::Error> {
        let mut members: HashMap<CelMapKey<'static>, Owned> = HashMap::new();
        while let Some(key) = map.next_key::<String>()? {
            members.insert(key.into(), map.next_value_seed(CelJson { left: self.left })?);
        }
        Ok(Box::new(CelMap::from(members)))
    }
}

/// JSON that every strict reader takes, read for its form alone and not kept: at most `serde_json`'s 128 levels
/// deep, no half of a surrogate pair, no number too large for a double.
pub(super) struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// A customer's context document (the retained `customer/{c}/context`), parsed once and ready for conditions.
/// Cheap to clone and to share between threads.
#[derive(Debug, Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The document as it came, for `control/explain`.
    text: Box<RawValue>,
    value: Owned,
    empty: bool,
    next_expiry: Option<u64>,
}

/// Why a context document, or a patch of one, cannot be used. Of a document conditions then see an empty one.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The document, or the patch, is larger than it may be.
    #[error("the context document has {bytes} bytes; at most {most}")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What it may have.
        most: usize,
    },
    /// The document, or the patch, is not a JSON object.
    #[error("the context document is not a JSON object")]
    NotAnObject,
    /// The document's `_ttl` does not say when fields expire.
    #[error("`_ttl` of the context document is not an object of milliseconds since the epoch")]
    Expiries,
    /// The patch would set `_ttl`.
    #[error("a patch cannot set `_ttl`; it has a user property `ttl`")]
    Reserved,
    /// The patch's `ttl` property is no time.
    #[error("the property `ttl` is not a number of seconds, nor an object of field and seconds")]
    Ttl,
    /// The text is no JSON, or has more values than conditions look at.
    #[error("the context document cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

impl Context {
    /// Reads a document: a JSON object of at most 64 KiB and 1024 values.
    ///
    /// # Errors
    /// See [`ContextError`].
    pub fn parse(document: &[u8]) -> Result<Self, ContextError> {
        Self::parse_within(document, MAX_BYTES)
    }

    /// As [`Self::parse`], with another bound on its bytes.
    ///
    /// # Errors
    /// See [`ContextError`].
    pub fn parse_within(document: &[u8], most: usize) -> Result<Self, ContextError> {
        if document.len() > most {
            return Err(ContextError::TooLarge { bytes: document.len(), most });
        }
        let text: Box<RawValue> = serde_json::from_slice(document)?;
        let document = Document::parse(text.get())?;
        Self::new(text, &document)
    }

    /// Reads a whole document that is published, and gives its fields the times that it does not bring.
    ///
    /// # Errors
    /// See [`ContextError`].
    pub fn whole(payload: &[u8], rules: &ContextRules, now: u64) -> Result<Self, ContextError> {
        let published = Self::parse_within(payload, rules.max_bytes)?;
        let mut document = Document::parse(published.text())?;
        if !document.stamp(rules, now) {
            return Ok(published);
        }
        let stamped = document.to_json()?;
        Self::parse_within(stamped.as_bytes(), rules.max_bytes)
    }

    /// A document after a patch; `None` if nothing is left. `current` that is no document counts as an empty one.
    ///
    /// # Errors
    /// See [`ContextError`].
    pub fn patched(
        current: Option<&[u8]>,
        patch: &Patch,
        rules: &ContextRules,
        now: u64,
    ) -> Result<Option<Self>, ContextError> {
        let current = current.and_then(|document| std::str::from_utf8(document).ok());
        let mut document = current.and_then(|text| Document::parse(text).ok()).unwrap_or_default();
        document.expire(now);
        document.apply(patch, rules, now)?;
        if document.is_empty() {
            return Ok(None);
        }
        Self::parse_within(document.to_json()?.as_bytes(), rules.max_bytes).map(Some)
    }

    /// When the first field expires, in milliseconds since the epoch.
    pub fn next_expiry(&self) -> Option<u64> {
        self.inner.next_expiry
    }

    /// Whether the document has no field.
    pub fn is_empty(&self) -> bool {
        self.inner.empty
    }

    /// What conditions see of a document; `text` is how it is written.
    fn new(text: Box<RawValue>, document: &Document) -> Result<Self, ContextError> {
        let value = members_to_cel(document.fields())?;
        Ok(Self {
            inner: Arc::new(Inner {
                text,
                value,
                empty: document.is_empty(),
                next_expiry: document.next_expiry(),
            }),
        })
    }

    /// The document without what has expired; `None` if nothing has. `now` is in milliseconds since the epoch.
    pub fn shortened(&self, now: u64) -> Option<Self> {
        if self.inner.next_expiry.is_none_or(|at| at > now) {
            return None;
        }
        let mut document = Document::parse(self.text()).ok()?;
        document.expire(now);
        let text = RawValue::from_string(document.to_json().ok()?).ok()?;
        Self::new(text, &document).ok()
    }

    /// A field that is a text.
    pub fn text_field(&self, name: &str) -> Option<String> {
        let fields: HashMap<&str, &RawValue> = serde_json::from_str(self.text()).ok()?;
        serde_json::from_str(fields.get(name)?.get()).ok()
    }

    /// The document as it came.
    pub fn text(&self) -> &str {
        self.inner.text.get()
    }

    pub(super) fn value(&self) -> &(dyn Val + 'static) {
        &*self.inner.value
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_kind() {
        for (text, kind) in [
            ("1", "int"),
            ("-1", "int"),
            ("18446744073709551615", "uint"),
            ("1.5", "double"),
            ("1e2", "double"),
            ("true", "bool"),
            ("null", "null_type"),
            ("\"a\\n\"", "string"),
            ("[1,[2]]", "list"),
            ("{\"a\":{}}", "map"),
        ] {
            assert_eq!(to_cel(text).unwrap().get_type().name(), kind, "{text}");
        }
    }

    #[test]
    fn what_conditions_may_walk_is_bounded() {
        let list = |values: usize| format!("[{}]", vec!["0"; values].join(","));
        assert!(to_cel(&list(MAX_VALUES - 1)).is_ok(), "the list itself counts");
        assert!(to_cel(&list(MAX_VALUES)).unwrap_err().to_string().contains("more than 1024 values"));
        assert!(to_cel(&format!("{}{}", "[".repeat(1000), "]".repeat(1000))).is_err());
    }

    #[test]
    fn a_context_is_a_bounded_object() {
        let context = Context::parse(b" {\"tier\":\"gold\"} ").unwrap();
        assert_eq!(context.text(), "{\"tier\":\"gold\"}");
        assert!(matches!(Context::parse(b"[1]"), Err(ContextError::NotAnObject)));
        assert!(matches!(Context::parse(b"{\"a\":"), Err(ContextError::Json(_))));
        assert!(matches!(Context::parse(b"\xff"), Err(ContextError::Json(_))));
        assert!(matches!(Context::parse(b""), Err(ContextError::Json(_))));
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BYTES));
        assert!(matches!(Context::parse(large.as_bytes()), Err(ContextError::TooLarge { .. })));
    }

    #[test]
    fn the_times_of_a_context_are_hidden_and_what_has_expired_is_gone() {
        let context = Context::parse(br#"{"a":1,"b":2,"_ttl":{"a":1000,"b":2000}}"#).unwrap();
        let names = |context: &Context| format!("{:?}", context.value());
        assert!(!names(&context).contains("_ttl"), "{}", names(&context));
        assert!(context.shortened(999).is_none());
        let later = context.shortened(1000).unwrap();
        assert_eq!(later.text(), r#"{"b":2,"_ttl":{"b":2000}}"#);
        assert!(later.shortened(1999).is_none());
        assert_eq!(later.shortened(2000).unwrap().text(), "{}");
        assert!(matches!(Context::parse(br#"{"_ttl":[]}"#), Err(ContextError::Expiries)));
    }

    #[test]
    fn strict_json_is_what_any_reader_takes() {
        let strict = |text: &str| serde_json::from_str::<Strict>(text).is_ok();
        assert!(strict("{\"a\":[1,2.5,null,true,\"\\ud83d\\ude00\"],\"a\":{}}"));
        for bad in ["\"\\ud800\"", "1e999", "{", "\"\u{1}\"", "01", "[1,]"] {
            assert!(!strict(bad), "{bad}");
        }
        assert!(!strict(&format!("{}{}", "[".repeat(200), "]".repeat(200))));
    }
}
