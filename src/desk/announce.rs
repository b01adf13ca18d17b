//! The desk's own messages as JSON: states, offers, events, results.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use ulid::Ulid;

use super::floor::{
    Agent, Answer, Candidate, Conversation, Event, Floor, OfferNote, OfferWhy, Phase, Prospect, QueueView,
    Reason, Show, Wrong,
};
use super::thread::Past;

fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1000)
}

fn text(value: &impl Serialize) -> Vec<u8> {
    // Nothing of it can fail: the keys are strings and no number is infinite.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Scores are in thousandths of a point inside.
fn points(thousandths: i64) -> f64 {
    // Exact up to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let points = thousandths as f64 / 1000.0;
    points
}

fn id(bits: u128) -> String {
    Ulid(bits).to_string()
}

#[derive(Serialize)]
struct CustomerState<'a> {
    state: &'static str,
    conversation: String,
    group: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eta_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    ver: u32,
}

/// `customer/{c}/state`. `None`: there is no such conversation, or it is over for its customer.
pub fn customer_state(floor: &Floor, key: u32) -> Option<Vec<u8>> {
    let conversation = floor.conversation(key).filter(|conversation| !conversation.phase.over())?;
    let standing = floor.standing(key)?;
    let agent = conversation.agent.and_then(|agent| floor.agent(agent));
    Some(text(&CustomerState {
        state: conversation.phase.name(),
        conversation: id(conversation.id),
        group: &floor.name_of(conversation.group),
        position: standing.position,
        eta_s: standing.eta_ms.map(seconds),
        agent: agent.map(|agent| &*agent.name),
        ver: conversation.ver,
    }))
}

/// `customer/{c}/state` of a conversation that is over.
pub fn customer_over(event: &Event) -> Vec<u8> {
    let to = if event.to == Phase::Wrapup { Phase::Closed } else { event.to };
    text(&CustomerState {
        state: to.name(),
        conversation: id(event.conversation),
        group: &event.group,
        position: None,
        eta_s: None,
        agent: None,
        ver: event.ver,
    })
}

#[derive(Serialize)]
struct WaitingState<'a> {
    customer: &'a str,
    priority: u16,
    score: f64,
    since: u64,
    skills: &'a [Arc<str>],
    preview: &'a str,
    ver: u32,
}

/// `queue/{g}/waiting/{conversation}`. `None`: it does not wait.
pub fn waiting(floor: &Floor, key: u32) -> Option<Vec<u8>> {
    let conversation = floor.conversation(key).filter(|conversation| conversation.phase.waits())?;
    Some(text(&WaitingState {
        customer: &conversation.customer,
        priority: conversation.priority,
        score: points(floor.rank(key)?),
        since: conversation.arrived,
        skills: &conversation.skills,
        preview: &conversation.preview,
        ver: conversation.ver,
    }))
}

#[derive(Serialize)]
struct QueueState {
    status: &'static str,
    drain: bool,
    depth: u32,
    oldest_s: u64,
    wait_p50_s: Option<u64>,
    wait_p95_s: Option<u64>,
    agents: Agents,
    capacity: Capacity,
    sla: Sla,
    ver: u64,
}

#[derive(Serialize)]
struct Agents {
    available: u32,
    busy: u32,
    away: u32,
}

#[derive(Serialize)]
struct Capacity {
    used: u32,
    max: u32,
}

#[derive(Serialize)]
struct Sla {
    target_s: u64,
    breached: u64,
}

/// `queue/{g}/state`.
pub fn queue_state(queue: &QueueView, status: &'static str, ver: u64) -> Vec<u8> {
    let [available, busy, away] = queue.agents;
    text(&QueueState {
        status,
        drain: queue.drained,
        depth: queue.depth,
        oldest_s: seconds(queue.oldest_ms),
        wait_p50_s: queue.wait_p50_ms.map(seconds),
        wait_p95_s: queue.wait_p95_ms.map(seconds),
        agents: Agents { available, busy, away },
        capacity: Capacity { used: queue.capacity.0, max: queue.capacity.1 },
        sla: Sla { target_s: seconds(queue.target_ms), breached: queue.breached },
        ver,
    })
}

#[derive(Serialize)]
struct AgentState<'a> {
    show: Show,
    used: u32,
    max: u16,
    conversations: Vec<Held<'a>>,
    ver: u32,
}

#[derive(Serialize)]
struct Held<'a> {
    conversation: String,
    customer: &'a str,
    state: &'static str,
}

/// `agent/{a}/state`.
pub fn agent_state(floor: &Floor, key: u32, agent: &Agent) -> Vec<u8> {
    let held = |conversation: &'_ Conversation| id(conversation.id);
    let load: Vec<(String, &Conversation)> = floor.load(key).map(|c| (held(c), c)).collect();
    let state = |c: &Conversation| if c.agent == Some(key) { c.phase } else { Phase::Offered };
    let conversations = load
        .iter()
        .map(|(id, c)| Held { conversation: id.clone(), customer: &c.customer, state: state(c).name() })
        .collect();
    text(&AgentState {
        show: floor.shows(key),
        used: agent.used,
        max: agent.capacity,
        conversations,
        ver: agent.ver,
    })
}

#[derive(Serialize)]
struct OfferText<'a> {
    offer: String,
    conversation: String,
    group: &'a str,
    customer: &'a str,
    reason: &'static str,
    preview: &'a str,
    deadline: u64,
    score: f64,
}

#[derive(Serialize)]
struct OfferOver {
    offer: String,
    conversation: String,
    over: Reason,
}

/// `agent/{a}/offer`: one that is open, or one that is open no longer.
pub fn offer(note: &OfferNote) -> Vec<u8> {
    let (offer, conversation) = (id(note.offer), id(note.conversation));
    let reason = match note.why {
        OfferWhy::Over(over) => return text(&OfferOver { offer, conversation, over }),
        OfferWhy::Queue => "queue",
        OfferWhy::Sticky => "sticky",
        OfferWhy::Transfer => "transfer",
    };
    text(&OfferText {
        offer,
        conversation,
        group: &note.group,
        customer: &note.customer,
        reason,
        preview: &note.preview,
        deadline: note.deadline,
        score: points(note.score),
    })
}

#[derive(Serialize)]
struct EventText<'a> {
    v: u8,
    conversation: String,
    ver: u32,
    at: u64,
    customer: &'a str,
    group: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    from: Phase,
    to: Phase,
    reason: Reason,
}

/// `conversation/{v}/events`.
pub fn event(event: &Event) -> Vec<u8> {
    text(&EventText {
        v: 1,
        conversation: id(event.conversation),
        ver: event.ver,
        at: event.at,
        customer: &event.customer,
        group: &event.group,
        agent: event.agent.as_deref(),
        from: event.from,
        to: event.to,
        reason: event.reason,
    })
}

#[derive(Serialize)]
struct ResultText<'a> {
    verb: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<String>,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// `agent/{a}/result`: what came of an answer, and of which conversation.
pub fn result(answer: &Answer, outcome: Result<u128, Wrong>) -> Vec<u8> {
    let conversation = outcome.ok().or(answer.verb.conversation());
    text(&ResultText {
        verb: answer.verb.name(),
        offer: answer.verb.offer().map(id),
        conversation: conversation.map(id),
        ok: outcome.is_ok(),
        reason: outcome.err().map(Wrong::code),
        message: outcome.err().map(|wrong| wrong.to_string()),
    })
}

/// The answer to `control/explain` with what the floor says. `status` is the group's: while it is not `open`, nobody
/// would be asked.
pub fn explanation(mut answer: Value, prospect: &Prospect, status: &str) -> Vec<u8> {
    let open = status == "open";
    let candidate = |one: &Candidate| {
        let terms = one.terms.iter().map(|term| (term.name.to_owned(), points(term.points).into()));
        json!({
            "agent": &*one.agent,
            "score": points(one.score),
            "terms": Value::Object(terms.collect()),
        })
    };
    let candidates = prospect.candidates.iter().filter(|_| open).map(candidate);
    let position = open.then_some(prospect.position);
    if let Some(members) = answer.as_object_mut() {
        members.insert("candidates".to_owned(), candidates.collect());
        let queue = json!({ "depth": prospect.depth, "position": position, "status": status,
            "drain": prospect.drained });
        members.insert("queue".to_owned(), queue);
        if let Some(agent) = prospect.waits_for.as_deref().filter(|_| open) {
            members.insert("waits_for".to_owned(), agent.into());
        }
    }
    answer.to_string().into_bytes()
}

/// The answer to a customer's wish.
pub fn wish(verb: &str, outcome: Result<u128, Wrong>) -> Vec<u8> {
    done(verb, outcome.map(Some))
}

/// The answer to a supervisor, with the conversation that it was about, if it was about one.
pub fn done(verb: &str, outcome: Result<Option<u128>, Wrong>) -> Vec<u8> {
    text(&ResultText {
        verb,
        offer: None,
        conversation: outcome.ok().flatten().map(id),
        ok: outcome.is_ok(),
        reason: outcome.err().map(Wrong::code),
        message: outcome.err().map(|wrong| wrong.to_string()),
    })
}

#[derive(Serialize)]
struct RatedText<'a> {
    v: u8,
    conversation: String,
    at: u64,
    customer: &'a str,
    group: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    rating: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
}

/// `conversation/{v}/events`: how good a customer found it.
pub fn rating(past: &Past, customer: &str, comment: Option<&str>, at: u64) -> Vec<u8> {
    text(&RatedText {
        v: 1,
        conversation: id(past.conversation()),
        at,
        customer,
        group: &past.group,
        agent: past.agent.as_deref(),
        rating: past.rating,
        comment,
    })
}
