//! What agents and customers say to the desk in JSON: presence, answers, wishes.
//!
//! Members that nobody knows are refused with the names of those that are: a misspelt one would do nothing, silently.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use ulid::Ulid;

use super::assigned::MAX_LEVEL;
use super::floor::{Destination, Presence, Show, Verb};
use super::topics::check_id;

/// The largest request in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Groups, skills and languages that an agent may have.
const MOST_NAMES: usize = 64;

/// The most that an agent takes at once.
const MOST_CAPACITY: u16 = 10_000;

/// Why a request was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RequestError(String);

fn wrong(text: impl Into<String>) -> RequestError {
    RequestError(text.into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    show: Show,
    groups: Option<Vec<Arc<str>>>,
    skills: Option<Skills>,
    languages: Option<Vec<Arc<str>>>,
    capacity: Option<u16>,
    bot: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Skills {
    /// Each with its level.
    Levels(BTreeMap<Arc<str>, u8>),
    /// All at the highest level.
    Names(Vec<Arc<str>>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    verb: String,
    offer: Option<String>,
    conversation: Option<String>,
    group: Option<Arc<str>>,
    agent: Option<Arc<str>>,
}

/// What a customer wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// To stand in a queue without having written anything.
    Join,
    /// To leave.
    Leave,
    /// To say how good its last conversation was.
    Rate {
        /// 1 to 5.
        rating: u8,
        /// In words.
        comment: Option<Arc<str>>,
    },
    /// The messages of its conversation, or of an earlier one, before a number.
    Transcript {
        /// Which; `None`: the open one, else the last.
        conversation: Option<u128>,
        /// Only what comes before this number.
        before: Option<u32>,
        /// At most so many.
        limit: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wished {
    verb: String,
    conversation: Option<String>,
    before: Option<u32>,
    limit: Option<usize>,
    rating: Option<u8>,
    comment: Option<Arc<str>>,
}

/// A conversation that a backend puts straight into a group's queue. What it begins with is `body`, `type`, `id`, `re`
/// and `meta` of the same object, as customers write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Whose.
    pub customer: Arc<str>,
    /// The base priority.
    pub priority: u16,
    /// The wanted skills.
    pub skills: Vec<Arc<str>>,
    /// The customer's language.
    pub language: Option<Arc<str>>,
    /// Its channel.
    pub channel: Option<Arc<str>>,
    /// It begins with a message.
    pub has_body: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Putting<'a> {
    customer: Arc<str>,
    #[serde(default)]
    priority: u16,
    #[serde(default)]
    skills: Vec<Arc<str>>,
    language: Option<Arc<str>>,
    channel: Option<Arc<str>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    // Read with the body.
    #[serde(borrow, rename = "type")]
    _type: Option<&'a RawValue>,
    #[serde(borrow, rename = "id")]
    _id: Option<&'a RawValue>,
    #[serde(borrow, rename = "re")]
    _re: Option<&'a RawValue>,
    #[serde(borrow, rename = "meta")]
    _meta: Option<&'a RawValue>,
}

/// What a supervisor does with a conversation, an agent or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Puts it back into its queue.
    Requeue(u128),
    /// Ends it.
    Close(u128),
    /// Gives it to an agent; `true`: whether that one has room or not.
    Assign(u128, Arc<str>, bool),
    /// Has an agent take nothing new until it says that it is ready.
    DrainAgent(Arc<str>),
    /// Has a group take no new conversations; `false`: take them again.
    DrainGroup(Arc<str>, bool),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drained {
    agent: Option<Arc<str>>,
    group: Option<Arc<str>>,
    drain: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Controlled {
    conversation: String,
    agent: Option<Arc<str>>,
    #[serde(default, rename = "override")]
    override_: bool,
}

/// The highest base priority, as of rules.
const MAX_PRIORITY: u16 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    verb: String,
    customer: Option<Arc<str>>,
    before: Option<u32>,
    limit: Option<usize>,
}

/// The most messages of a transcript in one answer.
const MOST_MESSAGES: usize = 100;

fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, RequestError> {
    read_within(payload, MAX_BYTES)
}

fn read_within<'a, T: Deserialize<'a>>(payload: &'a [u8], most: usize) -> Result<T, RequestError> {
    if payload.len() > most {
        return Err(wrong(format!("more than {most} bytes")));
    }
    // serde would take a list of the members, too.
    if !payload.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("not a JSON object"));
    }
    serde_json::from_slice(payload).map_err(|error| wrong(error.to_string()))
}

fn bounded(names: &[Arc<str>], what: &str) -> Result<(), RequestError> {
    if names.len() > MOST_NAMES {
        return Err(wrong(format!("more than {MOST_NAMES} {what}")));
    }
    names.iter().try_for_each(|name| check_id(name).map_err(|why| wrong(format!("{what}: {why}"))))
}

impl Presence {
    /// Reads what was published to `agent/{a}/presence`.
    ///
    /// # Errors
    /// [`RequestError`] says what is wrong.
    pub fn parse(payload: &[u8]) -> Result<Self, RequestError> {
        let said: Said = read(payload)?;
        bounded(said.groups.as_deref().unwrap_or_default(), "groups")?;
        bounded(said.languages.as_deref().unwrap_or_default(), "languages")?;
        if said.capacity.is_some_and(|capacity| capacity > MOST_CAPACITY) {
            return Err(wrong(format!("capacity: at most {MOST_CAPACITY}")));
        }
        let skills = said.skills.map(|skills| match skills {
            Skills::Levels(levels) => levels.into_iter().collect(),
            Skills::Names(names) => names.into_iter().map(|name| (name, MAX_LEVEL)).collect(),
        });
        if let Some(skills) = &skills {
            let skills: &Vec<(Arc<str>, u8)> = skills;
            bounded(&skills.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), "skills")?;
            if let Some((name, level)) = skills.iter().find(|(_, level)| !(1..=MAX_LEVEL).contains(level)) {
                return Err(wrong(format!("skills.{name}: {level} is no level; 1 to {MAX_LEVEL}")));
            }
        }
        let Said { show, groups, languages, capacity, bot, .. } = said;
        Ok(Self { show, groups, skills, languages, capacity, bot })
    }
}

fn id(name: &str, text: Option<&String>) -> Result<u128, RequestError> {
    let text = text.ok_or_else(|| wrong(format!("{name}: missing")))?;
    Ulid::from_string(text).map(|id| id.0).map_err(|_| wrong(format!("{name}: {text:?} is no ULID")))
}

impl Verb {
    /// All names.
    const NAMES: [&str; 7] = ["accept", "reject", "release", "transfer", "hold", "resume", "complete"];

    /// Reads what was published to `agent/{a}/answer`. `correlation` stands for an offer's id that the answer does not
    /// bring: clients of MQTT 5 send back what the offer had.
    ///
    /// # Errors
    /// [`RequestError`] says what is wrong.
    pub fn parse(payload: &[u8], correlation: Option<&[u8]>) -> Result<Self, RequestError> {
        let said: Answered = read(payload)?;
        let sent_back = correlation.and_then(|data| std::str::from_utf8(data).ok()).map(str::to_owned);
        let offer = || id("offer", said.offer.as_ref().or(sent_back.as_ref()));
        let conversation = || id("conversation", said.conversation.as_ref());
        Ok(match said.verb.as_str() {
            "accept" => Self::Accept(offer()?),
            "reject" => Self::Reject(offer()?),
            "release" => Self::Release(conversation()?),
            "hold" => Self::Hold(conversation()?),
            "resume" => Self::Resume(conversation()?),
            "complete" => Self::Complete(conversation()?),
            "transfer" => {
                let to = match (said.group, said.agent) {
                    (Some(group), None) => Destination::Group(group),
                    (None, Some(agent)) => Destination::Agent(agent),
                    _ => return Err(wrong("transfer: either `group` or `agent`")),
                };
                Self::Transfer(id("conversation", said.conversation.as_ref())?, to)
            }
            other => {
                let right = crate::spelling::suggest(other, &Self::NAMES);
                return Err(wrong(format!("verb: {other:?} is none; {right}")));
            }
        })
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accept(_) => "accept",
            Self::Reject(_) => "reject",
            Self::Release(_) => "release",
            Self::Transfer(..) => "transfer",
            Self::Hold(_) => "hold",
            Self::Resume(_) => "resume",
            Self::Complete(_) => "complete",
        }
    }

    /// The offer that it answers.
    pub const fn offer(&self) -> Option<u128> {
        match self {
            Self::Accept(offer) | Self::Reject(offer) => Some(*offer),
            _ => None,
        }
    }

    /// The conversation that it names.
    pub const fn conversation(&self) -> Option<u128> {
        match self {
            Self::Accept(_) | Self::Reject(_) => None,
            Self::Release(v) | Self::Hold(v) | Self::Resume(v) | Self::Complete(v) | Self::Transfer(v, _) => {
                Some(*v)
            }
        }
    }
}

impl Put {
    /// Reads what was published to `queue/{g}/put`.
    ///
    /// # Errors
    /// [`RequestError`] says what is wrong.
    pub fn parse(payload: &[u8]) -> Result<Self, RequestError> {
        let said: Putting<'_> = read_within(payload, usize::MAX)?;
        check_id(&said.customer).map_err(|why| wrong(format!("customer: {why}")))?;
        bounded(&said.skills, "skills")?;
        if said.priority > MAX_PRIORITY {
            return Err(wrong(format!("priority: at most {MAX_PRIORITY}")));
        }
        let Putting { customer, priority, skills, language, channel, body, .. } = said;
        Ok(Self { customer, priority, skills, language, channel, has_body: body.is_some() })
    }
}

impl Control {
    /// Reads what was published to `control/{verb}`. `None`: it is no such verb.
    ///
    /// # Errors
    /// [`RequestError`] says what is wrong.
    pub fn parse(verb: &str, payload: &[u8]) -> Option<Result<Self, RequestError>> {
        if verb == "drain" {
            return Some(read(payload).and_then(Self::drain));
        }
        if !matches!(verb, "requeue" | "close" | "assign") {
            return None;
        }
        Some(read(payload).and_then(|said: Controlled| {
            let conversation = id("conversation", Some(&said.conversation))?;
            Ok(match (verb, said.agent) {
                ("requeue", None) => Self::Requeue(conversation),
                ("close", None) => Self::Close(conversation),
                ("assign", Some(agent)) => Self::Assign(conversation, agent, said.override_),
                ("assign", None) => return Err(wrong("agent: missing")),
                _ => return Err(wrong("agent: only of assign")),
            })
        }))
    }

    fn drain(said: Drained) -> Result<Self, RequestError> {
        match (said.agent, said.group, said.drain) {
            (Some(agent), None, None | Some(true)) => Ok(Self::DrainAgent(agent)),
            (Some(_), None, Some(false)) => {
                Err(wrong("drain: only of a group; an agent says itself that it is ready"))
            }
            (None, Some(group), drain) => Ok(Self::DrainGroup(group, drain.unwrap_or(true))),
            _ => Err(wrong("drain: either `agent` or `group`")),
        }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Requeue(_) => "requeue",
            Self::Close(_) => "close",
            Self::Assign(..) => "assign",
            Self::DrainAgent(_) | Self::DrainGroup(..) => "drain",
        }
    }
}

impl Wish {
    const NAMES: [&str; 4] = ["join", "leave", "rate", "transcript"];

    /// Reads what was published to `customer/{c}/ask`.
    ///
    /// # Errors
    /// [`RequestError`] says what is wrong.
    pub fn parse(payload: &[u8]) -> Result<Self, RequestError> {
        let said: Wished = read(payload)?;
        Ok(match said.verb.as_str() {
            "join" => Self::Join,
            "leave" => Self::Leave,
            "rate" => match said.rating {
                Some(rating @ 1..=5) => Self::Rate { rating, comment: said.comment },
                _ => return Err(wrong("rating: 1 to 5")),
            },
            "transcript" => Self::Transcript {
                conversation: said.conversation.as_ref().map(|v| id("conversation", Some(v))).transpose()?,
                before: said.before,
                limit: said.limit.unwrap_or(MOST_MESSAGES).clamp(1, MOST_MESSAGES),
            },
            other => {
                let right = crate::spelling::suggest(other, &Self::NAMES);
                return Err(wrong(format!("verb: {other:?} is none; {right}")));
            }
        })
    }

    /// Reads what an agent has published to `conversation/{v}/ask`, and the customer that it names: of a conversation
    /// that is over nobody else knows whose it was.
    ///
    /// # Errors
    /// [`RequestError`] says what is wrong.
    pub fn parse_of_agent(
        payload: &[u8],
        conversation: u128,
    ) -> Result<(Self, Option<Arc<str>>), RequestError> {
        let said: Asked = read(payload)?;
        if said.verb != "transcript" {
            return Err(wrong(format!("verb: {:?} is none; \"transcript\"", said.verb)));
        }
        let limit = said.limit.unwrap_or(MOST_MESSAGES).clamp(1, MOST_MESSAGES);
        let wish = Self::Transcript { conversation: Some(conversation), before: said.before, limit };
        Ok((wish, said.customer))
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Rate { .. } => "rate",
            Self::Transcript { .. } => "transcript",
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    #[test]
    fn presence_is_read_whole_or_not_at_all() {
        let all = br#"{"show":"ready","groups":["care"],"skills":{"x":2},"languages":["de"],"capacity":3,"bot":true}"#;
        let presence = Presence::parse(all).unwrap();
        assert_eq!((presence.show, presence.capacity, presence.bot), (Show::Ready, Some(3), Some(true)));
        assert_eq!(presence.skills.unwrap(), [(Arc::from("x"), 2)]);
        let short = Presence::parse(br#"{"show":"away","skills":["x"]}"#).unwrap();
        assert_eq!((short.groups, short.skills.unwrap()), (None, vec![(Arc::from("x"), MAX_LEVEL)]));
        for (text, part) in [
            ("[]", "not a JSON object"),
            ("{", "EOF"),
            ("{}", "missing field `show`"),
            (r#"{"show":"here"}"#, "unknown variant `here`, expected one of `ready`"),
            (r#"{"show":"ready","group":["a"]}"#, "unknown field `group`"),
            (r#"{"show":"ready","skills":{"x":6}}"#, "skills.x: 6 is no level; 1 to 5"),
            (r#"{"show":"ready","groups":["a/b"]}"#, "groups: an id is one topic level"),
            (r#"{"show":"ready","capacity":10001}"#, "capacity: at most 10000"),
        ] {
            let error = Presence::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn answers_name_what_they_are_about() {
        let offer = Ulid::from_string(ID).unwrap().0;
        let text = |rest: &str| format!("{{\"verb\":{rest}}}").into_bytes();
        let accept = Verb::parse(&text(&format!("\"accept\",\"offer\":\"{ID}\"")), None).unwrap();
        assert_eq!((accept.offer(), accept.name()), (Some(offer), "accept"));
        assert_eq!(Verb::parse(&text("\"reject\""), Some(ID.as_bytes())).unwrap(), Verb::Reject(offer));
        let to =
            |rest: &str| Verb::parse(&text(&format!("\"transfer\",\"conversation\":\"{ID}\"{rest}")), None);
        assert_eq!(to(",\"group\":\"b\"").unwrap(), Verb::Transfer(offer, Destination::Group("b".into())));
        for (answer, part) in [
            (text("\"accept\""), "offer: missing"),
            (text("\"accept\",\"offer\":\"x\""), "offer: \"x\" is no ULID"),
            (text("\"hold\""), "conversation: missing"),
            (text("\"acept\""), "did you mean \"accept\"?"),
        ] {
            let error = Verb::parse(&answer, None).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(to("").is_err() && to(",\"group\":\"b\",\"agent\":\"c\"").is_err());
    }

    #[test]
    fn backends_and_supervisors_are_understood() {
        let put =
            Put::parse(br#"{"customer":"c","skills":["x"],"priority":3,"body":"hi","meta":{}}"#).unwrap();
        assert_eq!((&*put.customer, put.priority, put.has_body), ("c", 3, true));
        for (text, part) in [
            ("{}", "missing field `customer`"),
            (r#"{"customer":"a/b"}"#, "customer: an id is one topic level"),
            (r#"{"customer":"c","priority":1001}"#, "priority: at most 1000"),
            (r#"{"customer":"c","colour":1}"#, "unknown field `colour`"),
        ] {
            let error = Put::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let id = Ulid::from_string(ID).unwrap().0;
        let control = |verb: &str, rest: &str| {
            Control::parse(verb, format!("{{\"conversation\":\"{ID}\"{rest}}}").as_bytes())
        };
        assert_eq!(control("close", "").unwrap().unwrap(), Control::Close(id));
        let assign = control("assign", ",\"agent\":\"a\",\"override\":true").unwrap().unwrap();
        assert_eq!((assign.name(), assign), ("assign", Control::Assign(id, "a".into(), true)));
        assert!(
            control("assign", "").unwrap().is_err() && control("close", ",\"agent\":\"a\"").unwrap().is_err()
        );
        assert!(control("reload", "").is_none());
    }

    #[test]
    fn an_agent_or_a_group_is_drained() {
        let drain = |text: &str| Control::parse("drain", text.as_bytes()).unwrap();
        let group = |drain| Control::DrainGroup("care".into(), drain);
        assert_eq!(drain(r#"{"agent":"anna"}"#).unwrap(), Control::DrainAgent("anna".into()));
        assert_eq!(drain(r#"{"group":"care"}"#).unwrap(), group(true));
        assert_eq!(drain(r#"{"group":"care","drain":false}"#).unwrap(), group(false));
        for (text, part) in [
            ("{}", "either `agent` or `group`"),
            (r#"{"agent":"anna","group":"care"}"#, "either `agent` or `group`"),
            (r#"{"agent":"anna","drain":false}"#, "says itself that it is ready"),
            (r#"{"group":"care","drain":1}"#, "expected a boolean"),
            (r#"{"conversation":"x"}"#, "unknown field `conversation`"),
        ] {
            let error = drain(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn wishes_are_bounded() {
        let wish = Wish::parse(br#"{"verb":"transcript","limit":9999,"before":7}"#).unwrap();
        assert_eq!(wish, Wish::Transcript { conversation: None, before: Some(7), limit: MOST_MESSAGES });
        let rate = |text: &str| Wish::parse(format!("{{\"verb\":\"rate\",{text}}}").as_bytes());
        assert_eq!(rate("\"rating\":5").unwrap(), Wish::Rate { rating: 5, comment: None });
        assert!(rate("\"rating\":6").is_err() && rate("\"comment\":\"x\"").is_err());
        assert!(Wish::parse(br#"{"verb":"erase"}"#).unwrap_err().to_string().contains("verb"));
    }
}
