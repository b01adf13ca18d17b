//! What a condition can ask about: `message`, `customer`, `conversation` and `now`, each made only when a
//! condition asks for it.

use std::sync::OnceLock;

use cel::ExecutionError;
use cel::common::traits::Indexer;
use cel::common::types::{CelBytes, CelInt, CelMap, CelMapKey, CelString, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};
use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use super::json::{self, Owned};
use super::payload::Reading;
use super::routing::Inbound;

/// The variables and, where they are always the same, their fields.
pub(super) const VARIABLES: [(&str, &[&str]); 4] = [
    ("message", &["topic", "body", "type", "properties", "size"]),
    ("customer", &[]),
    ("conversation", &["age_s", "previous_group", "previous_agent"]),
    ("now", &["weekday", "day", "hour", "minute", "date", "ms"]),
];

/// One message as conditions see it; shared by all rules that are tried for it.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    inbound: &'a Inbound<'a>,
    zone: &'a TimeZone,
    nothing: CelMap<'static>,
    body: OnceLock<Result<Body<'a>, String>>,
    properties: OnceLock<CelMap<'a>>,
    conversation: OnceLock<CelMap<'static>>,
    now: OnceLock<CelMap<'static>>,
}

#[derive(Debug)]
enum Body<'a> {
    Json(Owned),
    Text(CelString<'a>),
    Bytes(CelBytes<'a>),
}

impl<'a> Facts<'a> {
    pub(super) fn new(inbound: &'a Inbound<'a>, zone: &'a TimeZone) -> Self {
        Self {
            inbound,
            zone,
            nothing: CelMap::default(),
            body: OnceLock::new(),
            properties: OnceLock::new(),
            conversation: OnceLock::new(),
            now: OnceLock::new(),
        }
    }

    /// A variable, or a field of `message` by its dotted name: the interpreter asks for the longest name
    /// first, so that the map around the field is never made.
    pub(super) fn variable<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        match name {
            "message" => Some(CowVal::owned(Message { facts: self })),
            "customer" => Some(CowVal::Borrowed(match self.inbound.context {
                Some(context) => context.value(),
                None => &self.nothing,
            })),
            "now" => Some(CowVal::Borrowed(self.now.get_or_init(|| now(self.inbound.now_ms, self.zone)))),
            "conversation" => Some(CowVal::Borrowed(self.conversation.get_or_init(no_conversation))),
            _ => self.message_field(name.strip_prefix("message.")?)?.ok(),
        }
    }

    /// `None`: there is no such field.
    fn message_field<'b>(&'b self, field: &str) -> Option<Result<CowVal<'b, 'a>, ExecutionError>> {
        let inbound = self.inbound;
        Some(Ok(match field {
            "topic" => CowVal::owned(CelString::from(inbound.topic)),
            "type" => CowVal::owned(CelString::from(inbound.payload.kind())),
            "size" => CowVal::owned(CelInt::from(whole(inbound.payload.bytes().len()))),
            "properties" => CowVal::Borrowed(self.properties.get_or_init(|| properties(inbound.properties))),
            "body" => match self.body.get_or_init(|| body(inbound)) {
                Ok(Body::Json(value)) => CowVal::Borrowed(&**value),
                Ok(Body::Text(text)) => CowVal::Borrowed(text),
                Ok(Body::Bytes(bytes)) => CowVal::Borrowed(bytes),
                Err(why) => return Some(Err(ExecutionError::function_error("message.body", why))),
            },
            _ => return None,
        }))
    }
}

fn body<'a>(inbound: &Inbound<'a>) -> Result<Body<'a>, String> {
    let size = inbound.payload.bytes().len();
    if size > json::MAX_BYTES {
        return Err(format!("{size} bytes are too many for a condition; at most {}", json::MAX_BYTES));
    }
    match inbound.payload.reading() {
        Reading::Envelope(offered) => {
            json::to_cel(offered.body.get()).map(Body::Json).map_err(|e| e.to_string())
        }
        Reading::Text(text) => Ok(Body::Text(CelString::from(*text))),
        Reading::Binary(bytes) => Ok(Body::Bytes(CelBytes::from(*bytes))),
    }
}

/// Of a name that occurs more than once the first value.
fn properties<'a>(pairs: &'a [(&'a str, &'a str)]) -> CelMap<'a> {
    let entries = pairs.iter().rev();
    let entry = |(name, value): &(&'a str, &'a str)| {
        (CelMapKey::from(*name), Box::new(CelString::from(*value)) as Box<dyn Val + 'a>)
    };
    CelMap::from(entries.map(entry).collect::<std::collections::HashMap<_, _>>())
}

/// In `shared` mode there are no conversations: none has lasted, and there was none before.
fn no_conversation() -> CelMap<'static> {
    record([("age_s", int(0)), ("previous_group", text("")), ("previous_agent", text(""))])
}

fn now(now_ms: i64, zone: &TimeZone) -> CelMap<'static> {
    // Outside of jiff's years -9999 to 9999 the clock is wrong by more than an hour: take the epoch.
    let at = Timestamp::from_millisecond(now_ms).unwrap_or_default().to_zoned(zone.clone());
    let day = match at.weekday() {
        Weekday::Monday => "monday",
        Weekday::Tuesday => "tuesday",
        Weekday::Wednesday => "wednesday",
        Weekday::Thursday => "thursday",
        Weekday::Friday => "friday",
        Weekday::Saturday => "saturday",
        Weekday::Sunday => "sunday",
    };
    record([
        ("weekday", int(at.weekday().to_monday_one_offset().into())),
        ("day", text(day)),
        ("hour", int(at.hour().into())),
        ("minute", int(at.minute().into())),
        ("date", Box::new(CelString::from(at.date().to_string()))),
        ("ms", int(now_ms)),
    ])
}

fn record<const N: usize>(fields: [(&'static str, Owned); N]) -> CelMap<'static> {
    CelMap::from(
        fields
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect::<std::collections::HashMap<_, _>>(),
    )
}

fn int(value: i64) -> Owned {
    Box::new(CelInt::from(value))
}

fn text(value: &'static str) -> Owned {
    Box::new(CelString::from(value))
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// `message` itself: a map whose fields are made when they are read. It can be read by field, not walked.
#[derive(Debug, Clone, Copy)]
struct Message<'f, 'a> {
    facts: &'f Facts<'a>,
}

impl Val for Message<'_, '_> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Indexer for Message<'_, '_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let Some(field) = index.downcast_ref::<CelString<'_>>().map(CelString::inner) else {
            let got = index.get_type().name().to_owned();
            return Err(ExecutionError::UnexpectedType { got, want: "string".to_owned() });
        };
        self.facts.message_field(field).unwrap_or_else(|| Err(ExecutionError::no_such_key(field)))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}
