//! What a customer published, told apart once: an envelope of its own, text, or bytes. Both the rules and the
//! outgoing envelope look at the same reading.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use ulid::Ulid;

use super::json::Strict;

/// The payload of a customer's message.
///
/// - A JSON object with a `body` that is not null (and, if it has a `type`, one of `text`, `image`, `card`,
///   `file`, `event`, `binary`) is the customer's own envelope. Its `body`, `type`, `id`, `re` and `meta` are
///   taken and nothing else: the desk itself says who wrote and when. Without a `type`, a string is `text`
///   and any other body a `card`. An `id` or `re` that is no ULID and a `meta` that is no object are left out.
/// - Any other valid UTF-8 is `text`, JSON without a `body` among it.
/// - All else is `binary`.
#[derive(Debug)]
pub struct Payload<'a> {
    bytes: &'a [u8],
    reading: Reading<'a>,
}

/// What a payload turned out to be.
#[derive(Debug)]
pub(super) enum Reading<'a> {
    Envelope(Offered<'a>),
    Text(&'a str),
    Binary(&'a [u8]),
}

/// What is taken of a customer's own envelope.
#[derive(Debug)]
pub(super) struct Offered<'a> {
    pub kind: &'static str,
    /// JSON, as the customer wrote it, so that numbers and the order of members stay as they are.
    pub body: &'a RawValue,
    pub id: Option<Ulid>,
    pub re: Option<Ulid>,
    /// A JSON object.
    pub meta: Option<&'a RawValue>,
}

impl<'a> Payload<'a> {
    /// Tells what the payload is. Every message needs that for its envelope, so it is done at once; a body is
    /// checked and kept as it is, and made into values only if a condition asks for it.
    pub fn new(bytes: &'a [u8]) -> Self {
        let reading = match std::str::from_utf8(bytes) {
            Ok(text) => offered(text).map_or(Reading::Text(text), Reading::Envelope),
            Err(_) => Reading::Binary(bytes),
        };
        Self { bytes, reading }
    }

    /// The bytes, as published.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// `text`, `image`, `card`, `file`, `event` or `binary`.
    pub fn kind(&self) -> &'static str {
        match &self.reading {
            Reading::Envelope(offered) => offered.kind,
            Reading::Text(_) => "text",
            Reading::Binary(_) => "binary",
        }
    }

    /// The id that its author has given it: the bits of a ULID.
    pub fn id(&self) -> Option<u128> {
        match &self.reading {
            Reading::Envelope(offered) => offered.id.map(|id| id.0),
            Reading::Text(_) | Reading::Binary(_) => None,
        }
    }

    /// How many characters it has, if it is text.
    pub fn characters(&self) -> Option<usize> {
        match &self.reading {
            Reading::Text(text) => Some(text.chars().count()),
            Reading::Envelope(offered) if offered.kind == "text" => {
                string(offered.body).map(|text| text.chars().count())
            }
            Reading::Envelope(_) | Reading::Binary(_) => None,
        }
    }

    /// The beginning of what it says, for lists: at most so many characters, on one line.
    pub fn preview(&self, most: usize) -> String {
        let text: Cow<'_, str> = match &self.reading {
            Reading::Text(text) => Cow::Borrowed(text),
            Reading::Envelope(offered) => {
                let body = offered.body.get();
                serde_json::from_str::<String>(body).map_or(Cow::Borrowed(body), Cow::Owned)
            }
            Reading::Binary(_) => Cow::Borrowed("[binary]"),
        };
        text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    pub(super) fn reading(&self) -> &Reading<'a> {
        &self.reading
    }
}

/// The members of a customer's envelope, each left as text until its form is known.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    re: Option<&'a RawValue>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

fn offered(text: &str) -> Option<Offered<'_>> {
    // Most messages are plain text: they are told by their first character.
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return None;
    }
    let members: Members<'_> = serde_json::from_str(text).ok()?;
    let body = members.body?;
    let kind = match members.kind {
        Some(kind) => known_kind(&string(kind)?)?,
        None if body.get().starts_with('"') => "text",
        None => "card",
    };
    // The bytes of a binary body are in base64.
    if kind == "binary" && !body.get().starts_with('"') {
        return None;
    }
    // Raw values are only skimmed; the body goes to readers that are stricter.
    serde_json::from_str::<Strict>(text).ok()?;
    let ulid = |raw: Option<&RawValue>| raw.and_then(string).and_then(|text| ulid(&text));
    Some(Offered {
        kind,
        body,
        id: ulid(members.id),
        re: ulid(members.re),
        meta: members.meta.filter(|meta| meta.get().starts_with('{')),
    })
}

/// 26 characters have two bits more than a ULID: a first one above 7 would lose them.
fn ulid(text: &str) -> Option<Ulid> {
    text.starts_with(|first| first <= '7').then(|| Ulid::from_string(text).ok()).flatten()
}

fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Borrowable<'_>>(raw.get()).ok().map(|Borrowable(text)| text)
}

/// A string that is borrowed where it holds no escapes.
#[derive(Deserialize)]
struct Borrowable<'a>(#[serde(borrow)] Cow<'a, str>);

fn known_kind(kind: &str) -> Option<&'static str> {
    ["text", "image", "card", "file", "event", "binary"].into_iter().find(|known| *known == kind)
}

#[cfg(test)]
#[expect(clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn envelope_of<'p>(payload: &'p Payload<'_>) -> &'p Offered<'p> {
        match payload.reading() {
            Reading::Envelope(offered) => offered,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_object_with_a_body_is_an_envelope() {
        let text = format!(
            "{{\"id\":\"{ID}\",\"re\":\"{ID}\",\"type\":\"image\",\"body\":{{\"z\":1.10,\"a\":0}},\"meta\":{{\"k\":1}}}}"
        );
        let payload = Payload::new(text.as_bytes());
        let offered = envelope_of(&payload);
        assert_eq!(offered.kind, "image");
        assert_eq!(offered.body.get(), "{\"z\":1.10,\"a\":0}", "as written");
        assert_eq!(offered.id.map(|id| id.to_string()).as_deref(), Some(ID));
        assert_eq!(offered.re, offered.id);
        assert_eq!(offered.meta.map(RawValue::get), Some("{\"k\":1}"));
    }

    #[test]
    fn what_does_not_fit_in_an_envelope_is_left_out() {
        let payload =
            Payload::new(b"\n{\"body\":\"hi\",\"id\":\"7\",\"re\":9,\"meta\":[],\"seq\":5,\"from\":{}}");
        let offered = envelope_of(&payload);
        assert_eq!(offered.kind, "text");
        assert!(offered.id.is_none() && offered.re.is_none() && offered.meta.is_none());
        assert_eq!(Payload::new(b"{\"body\":[1]}").kind(), "card");
        assert_eq!(Payload::new(b"{\"body\":[1],\"type\":\"\\u0066ile\"}").kind(), "file");
    }

    #[test]
    fn all_other_text_is_text() {
        let deep = format!("{{\"body\":{}{}}}", "[".repeat(500), "]".repeat(500));
        for text in [
            "",
            "hello",
            "{",
            "[1]",
            "{}",
            "{\"body\":null}",
            "{\"text\":\"x\"}",
            "{\"body\":1,\"type\":\"sticker\"}",
            "{\"body\":1,\"type\":2}",
            "{\"body\":1,\"body\":2}",
            "{\"body\":\"\\ud800\"}",
            "{\"body\":1e999}",
            "{\"body\":1} x",
            &deep,
        ] {
            let payload = Payload::new(text.as_bytes());
            assert!(matches!(payload.reading(), Reading::Text(same) if *same == text), "{text}");
            assert_eq!(payload.kind(), "text");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_binary() {
        let payload = Payload::new(b"{\"body\":\"\xff\"}");
        assert!(matches!(payload.reading(), Reading::Binary(_)));
        assert_eq!(payload.kind(), "binary");
    }
}
