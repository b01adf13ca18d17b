//! The envelope in which an agent gets a customer's message.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;
use ulid::Ulid;

use super::payload::{Payload, Reading};

/// The content type of an envelope.
pub const CONTENT_TYPE: &str = "application/vnd.switchboard+json";

/// Who has written a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author<'a> {
    /// A customer.
    Customer(&'a str),
    /// An agent.
    Agent(&'a str),
    /// An agent that is a program.
    Bot(&'a str),
    /// The desk itself.
    System,
}

/// A message on its way from a customer to agents, or back.
#[derive(Debug, Clone, Copy)]
pub struct Outbound<'a> {
    /// Who wrote it.
    pub author: Author<'a>,
    /// The conversation that it belongs to, and its number there.
    pub conversation: Option<(u128, u32)>,
    /// What was published.
    pub payload: &'a Payload<'a>,
    /// The publish's user properties, in their order; a name may occur more than once.
    pub properties: &'a [(&'a str, &'a str)],
    /// The publish's content type.
    pub content_type: Option<&'a str>,
    /// The bits of a fresh ULID, used unless the customer set an id of its own.
    pub id: u128,
    /// When the desk accepted the message, in milliseconds since the epoch.
    pub at_ms: u64,
}

/// The envelope would have more bytes than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the envelope would have more than {maximum} bytes")]
pub struct EnvelopeTooLarge {
    /// The bound that was given.
    pub maximum: usize,
}

/// Appends the envelope of a message to `out`: one JSON object of at most `maximum` bytes.
///
/// `{"v":1,"id":…,"conversation":…,"seq":…,"at":…,"from":{"role":"customer","id":…},"type":…,"body":…,"re":…,
/// "meta":{…}}`; what a message does not have is left out. In `shared` mode there is no conversation, and without
/// one nobody counts its messages, so `conversation` and `seq` are left out: an invented number would promise an
/// order without gaps that nothing keeps.
///
/// `meta` is what the customer's own envelope had there, with the user properties over it (a name that occurs
/// more than once gives a list of its values, in order) and the content type as `content-type` unless a user
/// property has that name.
///
/// # Errors
/// [`EnvelopeTooLarge`]; `out` is then as it was.
pub fn envelope(message: &Outbound<'_>, maximum: usize, out: &mut Vec<u8>) -> Result<(), EnvelopeTooLarge> {
    let before = out.len();
    let writer = Bounded { out, left: maximum };
    // Nothing but the bound can fail: the keys are strings and no number is infinite.
    serde_json::to_writer(writer, &Wire(message)).map_err(|_| {
        out.truncate(before);
        EnvelopeTooLarge { maximum }
    })
}

/// Whether an envelope is for the customer: it is not the customer who has written it.
pub fn is_for_customer(envelope: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Read<'t> {
        #[serde(borrow)]
        from: Role<'t>,
    }
    #[derive(serde::Deserialize)]
    struct Role<'t> {
        role: &'t str,
    }
    serde_json::from_slice::<Read<'_>>(envelope).is_ok_and(|read| read.from.role != "customer")
}

/// Stops writing at a bound, so that text whose every byte is escaped does not grow sixfold first.
struct Bounded<'o> {
    out: &'o mut Vec<u8>,
    left: usize,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(io::ErrorKind::WriteZero)?;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Wire<'m>(&'m Outbound<'m>);

impl Serialize for Wire<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.0;
        let reading = message.payload.reading();
        let offered = match reading {
            Reading::Envelope(offered) => Some(offered),
            Reading::Text(_) | Reading::Binary(_) => None,
        };
        let id = offered.and_then(|offered| offered.id).unwrap_or(Ulid(message.id));
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("v", &1)?;
        map.serialize_entry("id", id.array_to_str(&mut [0; ulid::ULID_LEN]))?;
        if let Some((conversation, seq)) = message.conversation {
            map.serialize_entry("conversation", Ulid(conversation).array_to_str(&mut [0; ulid::ULID_LEN]))?;
            map.serialize_entry("seq", &seq)?;
        }
        map.serialize_entry("at", &message.at_ms)?;
        let (role, id) = match message.author {
            Author::Customer(id) => ("customer", Some(id)),
            Author::Agent(id) => ("agent", Some(id)),
            Author::Bot(id) => ("bot", Some(id)),
            Author::System => ("system", None),
        };
        map.serialize_entry("from", &From { role, id })?;
        map.serialize_entry("type", message.payload.kind())?;
        match reading {
            Reading::Envelope(offered) => map.serialize_entry("body", offered.body)?,
            Reading::Text(text) => map.serialize_entry("body", text)?,
            Reading::Binary(bytes) => map.serialize_entry("body", &BASE64.encode(bytes))?,
        }
        if let Some(re) = offered.and_then(|offered| offered.re) {
            map.serialize_entry("re", re.array_to_str(&mut [0; ulid::ULID_LEN]))?;
        }
        let meta = meta(message, offered.and_then(|offered| offered.meta));
        if !meta.is_empty() {
            map.serialize_entry("meta", &meta)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct From<'m> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'m str>,
}

/// A member of `meta`.
#[derive(Serialize)]
#[serde(untagged)]
enum Meta<'m> {
    /// As the customer wrote it: a number keeps its digits.
    Own(&'m RawValue),
    Property(&'m str),
    Properties(Vec<&'m str>),
}

fn meta<'m>(message: &Outbound<'m>, own: Option<&'m RawValue>) -> BTreeMap<Cow<'m, str>, Meta<'m>> {
    // The payload's reading has checked that this is JSON.
    let own: BTreeMap<Cow<'m, str>, &RawValue> =
        own.and_then(|own| serde_json::from_str(own.get()).ok()).unwrap_or_default();
    let mut meta: BTreeMap<Cow<'m, str>, Meta<'m>> =
        own.into_iter().map(|(name, value)| (name, Meta::Own(value))).collect();
    if let Some(content_type) = message.content_type {
        meta.insert("content-type".into(), Meta::Property(content_type));
    }
    let mut seen = ahash::AHashSet::with_capacity(message.properties.len());
    for &(name, value) in message.properties {
        if seen.insert(name) {
            meta.insert(name.into(), Meta::Property(value));
            continue;
        }
        match meta.get_mut(name) {
            Some(Meta::Properties(values)) => values.push(value),
            Some(Meta::Property(first)) => {
                let values = vec![*first, value];
                meta.insert(name.into(), Meta::Properties(values));
            }
            Some(Meta::Own(_)) | None => {}
        }
    }
    meta
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const OWN: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn written(payload: &[u8], properties: &[(&str, &str)], content_type: Option<&str>) -> String {
        let payload = Payload::new(payload);
        let message = Outbound {
            author: Author::Customer("42"),
            conversation: None,
            payload: &payload,
            properties,
            content_type,
            id: 1,
            at_ms: 1_700_000_000_000,
        };
        let mut out = b"before ".to_vec();
        envelope(&message, 1 << 20, &mut out).unwrap();
        String::from_utf8(out.strip_prefix(b"before ").unwrap().to_vec()).unwrap()
    }

    #[test]
    fn text_becomes_a_text_body() {
        assert_eq!(
            written("Hé \"you\"\u{1}".as_bytes(), &[], None),
            "{\"v\":1,\"id\":\"00000000000000000000000001\",\"at\":1700000000000,\
             \"from\":{\"role\":\"customer\",\"id\":\"42\"},\"type\":\"text\",\"body\":\"Hé \\\"you\\\"\\u0001\"}"
        );
    }

    #[test]
    fn bytes_become_base64() {
        let value: Value = serde_json::from_str(&written(&[0, 255, 16], &[], Some("image/png"))).unwrap();
        assert_eq!(value["type"], "binary");
        assert_eq!(value["body"], "AP8Q");
        assert_eq!(value["meta"], json!({"content-type": "image/png"}));
    }

    #[test]
    fn an_envelope_keeps_its_own_id_body_and_meta_but_not_its_claims() {
        let payload = format!(
            "{{\"v\":9,\"id\":\"{OWN}\",\"conversation\":\"x\",\"seq\":7,\"at\":1,\"from\":{{\"role\":\"agent\"}},\
             \"type\":\"card\",\"body\": {{\"price\":123456789012345678901234.50}},\"re\":\"{OWN}\",\"meta\":{{\"a\":1,\"k\":2}}}}"
        );
        let text = written(payload.as_bytes(), &[("k", "v")], None);
        assert!(text.contains("\"body\":{\"price\":123456789012345678901234.50}"), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["v"], 1);
        assert_eq!(value["id"], OWN);
        assert_eq!(value["re"], OWN);
        assert_eq!(value["at"], 1_700_000_000_000_u64);
        assert_eq!(value["from"], json!({"role": "customer", "id": "42"}));
        assert_eq!(value["type"], "card");
        assert_eq!(value["meta"], json!({"a": 1, "k": "v"}));
        assert!(value.get("seq").is_none() && value.get("conversation").is_none());
    }

    #[test]
    fn user_properties_go_to_meta_repeated_names_as_lists() {
        let properties = [("a", "1"), ("b", "x"), ("a", "2"), ("a", "3"), ("content-type", "mine")];
        let value: Value = serde_json::from_str(&written(b"x", &properties, Some("text/plain"))).unwrap();
        assert_eq!(value["meta"], json!({"a": ["1", "2", "3"], "b": "x", "content-type": "mine"}));
        let value: Value =
            serde_json::from_str(&written(b"{\"body\":1,\"meta\":{\"a\":[9]}}", &properties, None)).unwrap();
        assert_eq!(value["meta"]["a"], json!(["1", "2", "3"]), "a list of the customer's is replaced");
    }

    #[test]
    fn an_envelope_over_the_bound_leaves_nothing() {
        let bytes = vec![1; 100_000];
        let payload = Payload::new(&bytes);
        let message = Outbound {
            author: Author::Customer("42"),
            conversation: None,
            payload: &payload,
            properties: &[],
            content_type: None,
            id: 1,
            at_ms: 1,
        };
        let mut out = b"kept".to_vec();
        assert_eq!(envelope(&message, 3000, &mut out), Err(EnvelopeTooLarge { maximum: 3000 }));
        assert_eq!(out, b"kept");
        assert!(out.capacity() < 10_000, "stopped while writing");
        envelope(&message, 700_000, &mut out).unwrap();
        let written = out.len() - 4;
        out.truncate(4);
        envelope(&message, written, &mut out).unwrap();
        assert!(envelope(&message, written - 1, &mut out).is_err());
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(
                    prop_oneof![
                        Just("body".to_owned()),
                        Just("type".to_owned()),
                        Just("meta".to_owned()),
                        any::<String>()
                    ],
                    inner,
                    0..6
                )
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn check(payload: &[u8], properties: &[(String, String)]) -> Result<(), TestCaseError> {
        let pairs: Vec<(&str, &str)> = properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let text = written(payload, &pairs, None);
        let value: Value =
            serde_json::from_str(&text).map_err(|e| TestCaseError::fail(format!("{e}: {text}")))?;
        prop_assert_eq!(&value["v"], 1);
        prop_assert!(value.get("body").is_some());
        prop_assert!(
            ["text", "image", "card", "file", "event", "binary"].contains(&value["type"].as_str().unwrap())
        );
        prop_assert!(Ulid::from_string(value["id"].as_str().unwrap()).is_ok());
        for (name, _) in properties {
            prop_assert!(value["meta"].get(name).is_some());
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_whole_envelope(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            properties in prop::collection::vec((any::<String>(), any::<String>()), 0..5)
        ) {
            check(&payload, &properties)?;
        }

        #[test]
        fn any_text_comes_back_as_it_was(text in any::<String>()) {
            let value: Value = serde_json::from_str(&written(text.as_bytes(), &[], None)).unwrap();
            prop_assert_eq!(value["body"].as_str().unwrap(), text);
        }

        #[test]
        fn any_json_gives_a_whole_envelope(value in json_value(), properties in prop::collection::vec(("[a-c]", any::<String>()), 0..5)) {
            check(value.to_string().as_bytes(), &properties)?;
        }

        #[test]
        fn a_body_comes_back_as_it_was(body in json_value()) {
            prop_assume!(!body.is_null());
            let body = body.to_string();
            let text = written(format!("{{\"body\":{body}}}").as_bytes(), &[], None);
            prop_assert!(text.contains(&format!("\"body\":{body}")), "{}", text);
        }
    }
}
