//! A customer's context document: merge patches, and fields that expire.
//!
//! A document is a JSON object. A patch of it is a JSON merge patch (RFC 7396) that is an object too; one of `null`, or
//! an empty payload, takes the whole document away. What a patch does not touch stays as it was written, byte for byte.
//!
//! *When a field expires* (a member of the document itself, whatever is in it) stands in the document, in the reserved
//! member `_ttl`: `{"_ttl": {"session_page": 1795403776809}}`, in milliseconds since the epoch. So it is kept, restored
//! and shown to readers with the document. The rules do not see it, a patch cannot set it, and a whole document may bring
//! it: whoever reads a document and writes it back changes nothing.
//!
//! A field that is written expires after
//! 1. what the user property `ttl` of the patch says: seconds, fractions allowed. Either a number, for all fields that
//!    the patch sets, or an object of field and seconds. `null` in place of seconds: never. A field that the object names
//!    gets its time anew even if the patch does not set it; one that the document has not is passed over;
//! 2. else what the tenant's rules say for its name, the first pattern that matches;
//! 3. else never: then it lasts as long as the document.
//!
//! Writing a field again starts its time anew, by the same three.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::json::{self, ContextError, Strict};

/// The reserved member.
const EXPIRIES: &str = "_ttl";

/// The longest time that a `ttl` property may ask for: ten years.
const MAX_TTL: Duration = Duration::from_hours(3650 * 24);

/// How the context documents of a tenant are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextRules {
    /// The most bytes of a document, and of a patch.
    pub max_bytes: usize,
    /// A document expires as a whole this many milliseconds after its last change, unless the publisher says.
    pub ttl_ms: Option<u64>,
    /// When fields expire, by their names: the first that matches.
    pub fields: Vec<FieldTtl>,
}

/// When the fields of certain names expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTtl {
    /// The names: `*` stands for any characters, also none.
    pub pattern: String,
    /// Milliseconds after they are written; `None`: never.
    pub ttl_ms: Option<u64>,
}

impl Default for ContextRules {
    /// 64 KiB; `session*` 30 minutes, `history*` 72 hours, all others never.
    fn default() -> Self {
        let minutes = |pattern: &str, minutes: u64| FieldTtl {
            pattern: pattern.to_owned(),
            ttl_ms: Some(minutes * 60_000),
        };
        Self {
            max_bytes: json::MAX_BYTES,
            ttl_ms: None,
            fields: vec![minutes("session*", 30), minutes("history*", 72 * 60)],
        }
    }
}

impl ContextRules {
    /// How many milliseconds a field of this name lasts; `None`: as long as the document.
    pub fn ttl_of(&self, name: &str) -> Option<u64> {
        self.fields.iter().find(|field| matches(&field.pattern, name))?.ttl_ms
    }
}

/// Whether `name` is one of a pattern's.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(at) = left.find(part) else { return false };
        left = left.get(at + part.len()..).unwrap_or_default();
    }
    left.ends_with(last)
}

/// A change of a document.
#[derive(Debug)]
pub struct Patch {
    /// `None`: the whole document goes.
    members: Option<BTreeMap<String, Box<RawValue>>>,
    ttl: Ttl,
}

/// What the `ttl` property says, in milliseconds; `None`: never.
#[derive(Debug)]
enum Ttl {
    /// There is no property.
    ByName,
    All(Option<u64>),
    Fields(BTreeMap<String, Option<u64>>),
}

impl Patch {
    /// Reads a patch; `ttl` is its user property of that name.
    ///
    /// # Errors
    /// It is no JSON object (nor `null` or empty), sets `_ttl`, or its `ttl` is none.
    pub fn parse(payload: &[u8], ttl: Option<&str>) -> Result<Self, ContextError> {
        let ttl = ttl.map_or(Ok(Ttl::ByName), |text| Ttl::parse(text).ok_or(ContextError::Ttl))?;
        if payload.is_empty() {
            return Ok(Self { members: None, ttl });
        }
        let _: Strict = serde_json::from_slice(payload)?;
        match payload.trim_ascii() {
            b"null" => return Ok(Self { members: None, ttl }),
            text if text.starts_with(b"{") => {}
            _ => return Err(ContextError::NotAnObject),
        }
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(payload)?;
        if members.contains_key(EXPIRIES) {
            return Err(ContextError::Reserved);
        }
        Ok(Self { members: Some(members), ttl })
    }
}

impl Ttl {
    fn parse(text: &str) -> Option<Self> {
        match serde_json::from_str(text).ok()? {
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, ttl)| match ttl {
                    Value::Null => Some((name, None)),
                    ttl => Some((name, Some(milliseconds(&ttl)?))),
                });
                fields.collect::<Option<_>>().map(Self::Fields)
            }
            Value::Null => Some(Self::All(None)),
            ttl => Some(Self::All(Some(milliseconds(&ttl)?))),
        }
    }
}

fn milliseconds(seconds: &Value) -> Option<u64> {
    let ttl = Duration::try_from_secs_f64(seconds.as_f64()?).ok()?;
    let ttl = (!ttl.is_zero() && ttl <= MAX_TTL).then_some(ttl)?;
    u64::try_from(ttl.as_millis()).ok().map(|ms| ms.max(1))
}

/// A document, taken apart into its fields. Times are milliseconds since the epoch.
#[derive(Debug, Default)]
pub(super) struct Document {
    fields: BTreeMap<String, Box<RawValue>>,
    /// Of fields that are there, no others.
    expiries: BTreeMap<String, u64>,
}

impl Document {
    /// Reads a document. What is in the fields is not looked at: [`super::Context`] does.
    ///
    /// # Errors
    /// It is no JSON object, or its `_ttl` is no object of times.
    pub(super) fn parse(text: &str) -> Result<Self, ContextError> {
        if !text.trim_ascii_start().starts_with('{') {
            return Err(ContextError::NotAnObject);
        }
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text)?;
        let mut expiries = BTreeMap::<String, u64>::new();
        if let Some(written) = fields.remove(EXPIRIES) {
            expiries = serde_json::from_str(written.get()).map_err(|_| ContextError::Expiries)?;
            expiries.retain(|name, _| fields.contains_key(name));
        }
        Ok(Self { fields, expiries })
    }

    /// Whether no field is left.
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The fields, each with its value as JSON.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.get()))
    }

    /// When the first field expires.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.expiries.values().min().copied()
    }

    /// Gives the fields of a whole document their times, but those that it brings a time for. `true`: it has changed.
    pub(super) fn stamp(&mut self, rules: &ContextRules, now: u64) -> bool {
        let before = self.expiries.len();
        for name in self.fields.keys() {
            if !self.expiries.contains_key(name)
                && let Some(ttl) = rules.ttl_of(name)
            {
                self.expiries.insert(name.clone(), now.saturating_add(ttl));
            }
        }
        self.expiries.len() > before
    }

    /// Takes out what has expired, and says how many fields that was.
    pub(super) fn expire(&mut self, now: u64) -> usize {
        let Self { fields, expiries } = self;
        let before = fields.len();
        expiries.retain(|name, at| *at > now || fields.remove(name).is_none());
        before - fields.len()
    }

    /// Applies a patch.
    ///
    /// # Errors
    /// A value of the document that the patch goes into cannot be read.
    pub(super) fn apply(
        &mut self,
        patch: &Patch,
        rules: &ContextRules,
        now: u64,
    ) -> Result<(), ContextError> {
        let Some(members) = &patch.members else {
            *self = Self::default();
            return Ok(());
        };
        for (name, value) in members {
            if value.get() == "null" {
                self.fields.remove(name);
                self.expiries.remove(name);
                continue;
            }
            let merged = merge(self.fields.get(name).map(|value| &**value), value)?;
            self.fields.insert(name.clone(), merged);
            let ttl = match &patch.ttl {
                Ttl::All(ttl) => *ttl,
                Ttl::Fields(fields) if fields.contains_key(name) => None,
                Ttl::ByName | Ttl::Fields(_) => rules.ttl_of(name),
            };
            self.set_expiry(name, ttl, now);
        }
        if let Ttl::Fields(fields) = &patch.ttl {
            for (name, ttl) in fields {
                if self.fields.contains_key(name) {
                    self.set_expiry(name, *ttl, now);
                }
            }
        }
        Ok(())
    }

    fn set_expiry(&mut self, name: &str, ttl: Option<u64>, now: u64) {
        match ttl {
            Some(ttl) => self.expiries.insert(name.to_owned(), now.saturating_add(ttl)),
            None => self.expiries.remove(name),
        };
    }

    /// The document as JSON: its fields by name, then `_ttl` if there are times.
    ///
    /// # Errors
    /// None that can happen: the fields are JSON already.
    pub(super) fn to_json(&self) -> Result<String, ContextError> {
        Ok(serde_json::to_string(self)?)
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        if !self.expiries.is_empty() {
            map.serialize_entry(EXPIRIES, &self.expiries)?;
        }
        map.end()
    }
}

/// A member of a document with a member of a patch merged into it.
fn merge(target: Option<&RawValue>, patch: &RawValue) -> Result<Box<RawValue>, ContextError> {
    if !patch.get().starts_with('{') {
        return Ok(patch.to_owned());
    }
    let mut merged = match target {
        Some(target) if target.get().starts_with('{') => serde_json::from_str(target.get())?,
        _ => Value::Object(Map::new()),
    };
    merge_value(&mut merged, serde_json::from_str(patch.get())?);
    Ok(to_raw_value(&merged)?)
}

/// `MergePatch` of RFC 7396, section 2. As deep as a JSON reader goes: 128 levels.
fn merge_value(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge_value(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: u64 = 1_795_403_776_809;

    fn document(value: &Value) -> Document {
        Document::parse(&value.to_string()).unwrap()
    }

    fn value(document: &Document) -> Value {
        serde_json::from_str(&document.to_json().unwrap()).unwrap()
    }

    /// A document after a patch with a `ttl`.
    fn patched(before: &Value, patch: &Value, ttl: Option<&str>) -> Value {
        let mut document = document(before);
        let patch = Patch::parse(patch.to_string().as_bytes(), ttl).unwrap();
        document.apply(&patch, &ContextRules::default(), NOW).unwrap();
        value(&document)
    }

    /// RFC 7396, appendix A: original, patch, result.
    fn examples() -> [(Value, Value, Value); 15] {
        [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ]
    }

    #[test]
    fn every_example_of_rfc_7396_appendix_a() {
        for (original, patch, result) in examples() {
            let mut merged = original.clone();
            merge_value(&mut merged, patch.clone());
            assert_eq!(merged, result, "{original} {patch}");
            // As a document, and as the value of a field: there `null` takes the field away.
            if original.is_object() && patch.is_object() {
                assert_eq!(patched(&original, &patch, None), result, "{original} {patch}");
            }
            let inner = if result.is_null() { json!({}) } else { json!({ "x": result }) };
            assert_eq!(patched(&json!({ "x": original }), &json!({ "x": patch }), None), inner);
        }
    }

    #[test]
    fn what_a_patch_does_not_touch_stays_as_it_was_written() {
        let mut document =
            Document::parse(r#"{"b":1.50,"a":123456789012345678901234567890,"c":[ 1 ]}"#).unwrap();
        let patch = Patch::parse(br#"{"c":[1,  2.0],"d":{"e":null}}"#, None).unwrap();
        document.apply(&patch, &ContextRules::default(), NOW).unwrap();
        assert_eq!(
            document.to_json().unwrap(),
            r#"{"a":123456789012345678901234567890,"b":1.50,"c":[1,  2.0],"d":{}}"#
        );
    }

    #[test]
    fn a_patch_is_an_object_without_the_reserved_member_or_takes_all_away() {
        let parse = |text: &str, ttl| Patch::parse(text.as_bytes(), ttl);
        for all in ["", "null", " null\n"] {
            let mut document = document(&json!({"a":1,"session":2,"_ttl":{"a":NOW + 1}}));
            document.apply(&parse(all, None).unwrap(), &ContextRules::default(), NOW).unwrap();
            assert!(document.is_empty() && document.next_expiry().is_none(), "{all:?}");
        }
        for wrong in ["[1]", "\"a\"", "7", "true", " "] {
            let error = parse(wrong, None).unwrap_err();
            assert!(matches!(error, ContextError::NotAnObject | ContextError::Json(_)), "{wrong}: {error}");
        }
        for wrong in ["{", "{}x", "\u{0}", r#"{"a":"\ud800"}"#, r#"{"a":1e999}"#] {
            assert!(matches!(parse(wrong, None), Err(ContextError::Json(_))), "{wrong}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(matches!(parse(&deep, None), Err(ContextError::Json(_))));
        for reserved in [r#"{"_ttl":{}}"#, r#"{"_ttl":null}"#, r#"{"\u005fttl":1}"#] {
            assert!(matches!(parse(reserved, None), Err(ContextError::Reserved)), "{reserved}");
        }
        for ttl in ["0", "-1", "1e300", "315360001", "true", "\"5\"", "[5]", "", "{\"a\":0}", "{\"a\":\"1\"}"]
        {
            assert!(matches!(parse("{}", Some(ttl)), Err(ContextError::Ttl)), "{ttl}");
        }
    }

    #[test]
    fn fields_expire_as_the_patch_says_else_by_their_name() {
        let before = json!({"session_id":"s","tier":"gold","_ttl":{"session_id":NOW + 7}});
        let patch = json!({"session_page":"/","history":[1],"tier":"silver"});
        let hour = 3_600_000;
        for (ttl, expected) in [
            (None, json!({"session_id":NOW + 7,"session_page":NOW + hour / 2,"history":NOW + 72 * hour})),
            (
                Some("1.5"),
                json!({"session_id":NOW + 7,"session_page":NOW + 1500,"history":NOW + 1500,"tier":NOW + 1500}),
            ),
            (Some("null"), json!({"session_id":NOW + 7})),
            (
                Some(r#"{"tier":60,"history":null,"session_id":0.0001,"none":5}"#),
                json!({"session_id":NOW + 1,"session_page":NOW + hour / 2,"tier":NOW + 60_000}),
            ),
        ] {
            let after = patched(&before, &patch, ttl);
            assert_eq!(after.get("_ttl"), Some(&expected), "{ttl:?}");
        }
        // Written again without a time, or taken away: the former time is forgotten.
        let before = json!({"a":1,"b":2,"_ttl":{"a":NOW + 5,"b":NOW + 5}});
        assert_eq!(patched(&before, &json!({"a":2,"b":null}), None), json!({"a":2}));
    }

    #[test]
    fn a_whole_document_gets_the_times_that_it_does_not_bring() {
        let rules = ContextRules::default();
        let mut plain = document(&json!({"tier":"gold"}));
        assert!(!plain.stamp(&rules, NOW));
        let mut brought = document(&json!({"session":1,"session_2":2,"_ttl":{"session":5,"gone":6}}));
        assert!(brought.stamp(&rules, NOW));
        assert_eq!(
            value(&brought),
            json!({"session":1,"session_2":2,"_ttl":{"session":5,"session_2":NOW + 1_800_000}})
        );
        for wrong in ["[]", "7", "{\"a\":-1}", "{\"a\":1.5}", "{\"a\":null}"] {
            let wrong = Document::parse(&format!("{{\"a\":1,\"_ttl\":{wrong}}}"));
            assert!(matches!(wrong, Err(ContextError::Expiries)));
        }
    }

    #[test]
    fn what_has_expired_goes_and_the_rest_stays() {
        let mut document = document(&json!({"a":1,"b":2,"c":3,"_ttl":{"a":10,"b":11}}));
        assert_eq!((document.next_expiry(), document.expire(9)), (Some(10), 0));
        assert_eq!((document.expire(10), document.next_expiry()), (1, Some(11)));
        assert_eq!(value(&document), json!({"b":2,"c":3,"_ttl":{"b":11}}));
        assert_eq!((document.expire(12), document.next_expiry()), (1, None));
        assert_eq!(value(&document), json!({"c":3}));
    }

    #[test]
    fn names_match_patterns() {
        for (pattern, name, expected) in [
            ("session*", "session", true),
            ("session*", "session_page", true),
            ("session*", "my_session", false),
            ("*", "", true),
            ("*_at", "seen_at", true),
            ("*_at", "_a", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("a*b*b", "ab", false),
            ("a**b", "ab", true),
            ("tier", "tier", true),
            ("tier", "tiers", false),
            ("客*", "客服", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        let rules = ContextRules {
            fields: vec![
                FieldTtl { pattern: "session_pinned".into(), ttl_ms: None },
                FieldTtl { pattern: "session*".into(), ttl_ms: Some(1) },
            ],
            ..ContextRules::default()
        };
        assert_eq!((rules.ttl_of("session_pinned"), rules.ttl_of("session_x")), (None, Some(1)));
    }

    /// JSON of few names, so that documents and patches meet.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3i64..3).prop_map(Value::from),
            "[a\"\\\\é]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from), any_members(inner)]
        })
    }

    fn any_members(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
        prop::collection::btree_map("[abc]|session", inner, 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    /// The RFC's words, copying everything: a value of an object of a patch that is not `null` is merged.
    fn model(target: &Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let target = target.as_object().cloned().unwrap_or_default();
        let kept = target.iter().filter(|(name, _)| !patch.contains_key(*name));
        let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
        let set = patch.iter().filter(|(_, value)| !value.is_null());
        let set =
            set.map(|(name, value)| (name.clone(), model(target.get(name).unwrap_or(&Value::Null), value)));
        Value::Object(kept.chain(set).collect())
    }

    proptest! {
        #[test]
        fn a_life_of_patches_is_as_in_the_model(
            first in any_members(any_json()),
            steps in prop::collection::vec((any_members(any_json()), 0u64..4, 0u64..3_000), 1..8),
        ) {
            let rules = ContextRules {
                fields: vec![FieldTtl { pattern: "s*".into(), ttl_ms: Some(1500) }],
                ..ContextRules::default()
            };
            let (mut now, mut document) = (NOW, document(&first));
            let mut fields = first.as_object().unwrap().clone();
            let mut times = BTreeMap::new();
            for (patch, ttl, pause) in steps {
                now += pause;
                document.expire(now);
                let gone: Vec<String> =
                    times.iter().filter(|(_, at)| **at <= now).map(|(name, _): (&String, &u64)| name.clone()).collect();
                for name in gone {
                    fields.remove(&name);
                    times.remove(&name);
                }
                let property = (ttl > 0).then(|| ttl.to_string());
                let read = Patch::parse(patch.to_string().as_bytes(), property.as_deref()).unwrap();
                document.apply(&read, &rules, now).unwrap();
                fields = model(&Value::Object(fields), &patch).as_object().unwrap().clone();
                for (name, value) in patch.as_object().unwrap() {
                    let lasts = if ttl > 0 { Some(ttl * 1000) } else { name.starts_with('s').then_some(1500) };
                    match lasts.filter(|_| !value.is_null()) {
                        Some(lasts) => times.insert(name.clone(), now + lasts),
                        None => times.remove(name),
                    };
                }
                // And as after a restart.
                document = Document::parse(&document.to_json().unwrap()).unwrap();
                let mut expected = fields.clone();
                if !times.is_empty() {
                    expected.insert(EXPIRIES.to_owned(), json!(times));
                }
                prop_assert_eq!(value(&document), Value::Object(expected));
                prop_assert_eq!(document.next_expiry(), times.values().min().copied());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), ttl in any::<String>()) {
            let _ = Patch::parse(&bytes, Some(&ttl));
            let _ = Document::parse(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn patterns_match_as_expressions_do(pattern in "[ab*]{1,6}", name in "[ab]{0,6}") {
            let expression = format!("^{}$", pattern.replace('*', ".*"));
            prop_assert_eq!(matches(&pattern, &name), regex::Regex::new(&expression).unwrap().is_match(&name));
        }
    }
}
