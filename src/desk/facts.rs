//! What a condition can ask about: `message`, `customer`, `conversation` and `now`, each made only when a
//! condition asks for it.

use std::sync::OnceLock;

use cel::ExecutionError;
use cel::common::traits::Indexer;
use cel::common::types::{CelBytes, CelInt, CelMap, CelMapKey, CelString, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

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
    now: OnceLock<Zoned>,
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
            now: OnceLock::new(),
        }
    }

    /// A variable, or a field of one by its dotted name: the interpreter asks for the longest name first, so
    /// that nothing is made but the field.
    pub(super) fn variable<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        if let Some((variable, field)) = name.split_once('.') {
            return self.field(variable, field)?.ok();
        }
        let variable = match name {
            "customer" => {
                return Some(CowVal::Borrowed(match self.inbound.context {
                    Some(context) => context.value(),
                    None => &self.nothing,
                }));
            }
            "message" => "message",
            "conversation" => "conversation",
            "now" => "now",
            _ => return None,
        };
        Some(CowVal::owned(Record { facts: self, variable }))
    }

    /// `None`: there is no such field.
    fn field<'b>(&'b self, variable: &str, field: &str) -> Option<Result<CowVal<'b, 'a>, ExecutionError>> {
        let inbound = self.inbound;
        let now = || self.now.get_or_init(|| zoned(inbound.now_ms, self.zone));
        Some(Ok(match (variable, field) {
            ("message", "topic") => text(inbound.topic),
            ("message", "type") => text(inbound.payload.kind()),
            ("message", "size") => int(i64::try_from(inbound.payload.bytes().len()).unwrap_or(i64::MAX)),
            ("message", "properties") => {
                CowVal::Borrowed(self.properties.get_or_init(|| properties(inbound.properties)))
            }
            ("message", "body") => match self.body.get_or_init(|| body(inbound)) {
                Ok(Body::Json(value)) => CowVal::Borrowed(&**value),
                Ok(Body::Text(text)) => CowVal::Borrowed(text),
                Ok(Body::Bytes(bytes)) => CowVal::Borrowed(bytes),
                Err(why) => return Some(Err(ExecutionError::function_error("message.body", why))),
            },
            // Rules are asked for a conversation's first message: it has lasted for no time yet. In `shared` mode there
            // are none, and there was none before.
            ("conversation", "age_s") => int(0),
            ("conversation", "previous_group") => text(inbound.previous.0),
            ("conversation", "previous_agent") => text(inbound.previous.1),
            ("now", "weekday") => int(now().weekday().to_monday_one_offset().into()),
            ("now", "day") => text(day_name(now().weekday())),
            ("now", "hour") => int(now().hour().into()),
            ("now", "minute") => int(now().minute().into()),
            ("now", "date") => CowVal::owned(CelString::from(now().date().to_string())),
            ("now", "ms") => int(inbound.now_ms),
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

pub(super) fn zoned(now_ms: i64, zone: &TimeZone) -> Zoned {
    // Outside of jiff's years -9999 to 9999 the clock is wrong by more than an hour: take the epoch.
    Timestamp::from_millisecond(now_ms).unwrap_or_default().to_zoned(zone.clone())
}

fn day_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "monday",
        Weekday::Tuesday => "tuesday",
        Weekday::Wednesday => "wednesday",
        Weekday::Thursday => "thursday",
        Weekday::Friday => "friday",
        Weekday::Saturday => "saturday",
        Weekday::Sunday => "sunday",
    }
}

fn int<'b, 'v>(value: i64) -> CowVal<'b, 'v> {
    CowVal::owned(CelInt::from(value))
}

fn text(value: &str) -> CowVal<'_, '_> {
    CowVal::owned(CelString::from(value))
}

/// `message`, `conversation` or `now` by itself: a map whose fields are made when they are read. It can be
/// read by field, not walked.
#[derive(Debug, Clone, Copy)]
struct Record<'f, 'a> {
    facts: &'f Facts<'a>,
    variable: &'static str,
}

impl Val for Record<'_, '_> {
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

impl Indexer for Record<'_, '_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let Some(field) = index.downcast_ref::<CelString<'_>>().map(CelString::inner) else {
            let got = index.get_type().name().to_owned();
            return Err(ExecutionError::UnexpectedType { got, want: "string".to_owned() });
        };
        self.facts.field(self.variable, field).unwrap_or_else(|| Err(ExecutionError::no_such_key(field)))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}
