//! What everybody was told, and whether it fits together: while it runs.
//!
//! Events, states and offers come from the tenant's floor and messages from their customer's shard, each in order; what
//! comes from two of them is only compared when all is at rest, in [`super::rest`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::draining::Drains;
use super::party::Role;
use super::shards::World;
use super::stats::Stats;
use super::wire::Delivered;

/// What a publisher knows of its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    #[default]
    Unknown,
    Taken,
    Refused,
}

/// A message of a customer or an agent. Its text is `m` and its number.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub customer: usize,
    /// The agent that replied.
    pub agent: Option<String>,
    pub has_id: bool,
    /// Messages of that customer's conversations that were said before.
    pub marks: usize,
    pub sends: u32,
    pub outcome: Outcome,
    /// The connection that it was said over first.
    pub link: usize,
}

/// A conversation as it was told.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    pub customer: String,
    /// By version.
    pub events: BTreeMap<u32, Value>,
    /// The highest version that anybody was told.
    pub ver: u32,
    /// A crash came between an event and its announcement.
    pub gaps: bool,
    pub ended: bool,
    /// The messages by number: id and text.
    pub messages: BTreeMap<u32, (String, String)>,
    /// The last message that the witness has heard.
    pub heard: u32,
    /// Messages for the customer that the witness has heard, by number.
    pub down: BTreeSet<u32>,
    /// What somebody has heard that it has done, as reasons of transitions.
    pub done: BTreeSet<&'static str>,
    /// Who has it, and to whom it is offered.
    pub agent: Option<String>,
    pub offered: Option<String>,
    /// All who have had it, in order.
    pub agents: Vec<String>,
}

/// An offer as it was told.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    pub agent: String,
    pub conversation: String,
    pub over: Option<String>,
    /// Its agent has heard that it was accepted.
    pub accepted: bool,
    /// Crashes before it was made.
    pub crashes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Oracle {
    pub stats: Stats,
    pub crashes: u64,
    pub said: Vec<Said>,
    pub conversations: BTreeMap<String, Conversation>,
    pub offers: BTreeMap<String, Offer>,
    /// What the reader has been shown: retained payloads by topic.
    pub retained: BTreeMap<String, Value>,
    /// What the reader was answered: pages of transcripts.
    pub pages: Vec<Value>,
    pub drains: Drains,
    /// The versions of agents' states.
    agents: BTreeMap<String, u64>,
    /// The versions of queues' states.
    queues: BTreeMap<String, u64>,
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

fn ver(value: &Value) -> u32 {
    value["ver"].as_u64().unwrap_or_default() as u32
}

impl World {
    /// A publisher hears what became of its message.
    pub fn settled(&mut self, message: usize, reason: u8) {
        let said = &mut self.oracle.said[message];
        let outcome = if reason < 0x80 { Outcome::Taken } else { Outcome::Refused };
        let what = match (&said.agent, outcome) {
            (None, Outcome::Taken) => "customers' messages taken",
            (None, _) => "customers' messages refused",
            (Some(_), Outcome::Taken) => "replies taken",
            (Some(_), _) => "replies refused",
        };
        said.outcome = outcome;
        if outcome == Outcome::Refused && said.agent.is_some() && said.sends > 1 {
            // By now it is somebody else's; it may have been taken the first time.
            said.outcome = Outcome::Unknown;
        }
        self.oracle.stats.add(what, 1);
    }

    /// A client is told something.
    pub fn told(&mut self, party: usize, topic: &str, delivered: &Delivered) {
        let value: Value = if delivered.payload.is_empty() {
            Value::Null
        } else {
            match serde_json::from_slice(&delivered.payload) {
                Ok(value) => value,
                Err(error) => return self.fail(format!("{topic} is no JSON: {error}")),
            }
        };
        let role = self.parties[party].role;
        let levels: Vec<&str> = topic.split('/').collect();
        match (role, levels.as_slice()) {
            (Role::Reader, ["customer", _, "answer"]) => self.oracle.pages.push(value),
            (Role::Reader, _) if value.is_null() => drop(self.oracle.retained.remove(topic)),
            (Role::Reader, _) => drop(self.oracle.retained.insert(topic.to_owned(), value)),
            (Role::Witness, ["conversation", v, "events"]) => self.hear_event(v, &value),
            (Role::Witness, ["conversation", v, "messages"]) => {
                self.hear_message(v, &value);
                self.hear_in_order(v, &value);
            }
            (Role::Witness, ["customer", name, "state"]) => {
                self.hear_customer_state(name, &value, delivered.dup);
            }
            (Role::Witness, ["agent", name, "state"]) => self.hear_agent_state(name, &value, delivered.dup),
            (Role::Witness, ["queue", name, "state"]) => self.hear_queue_state(name, &value, delivered.dup),
            (Role::Witness, ["agent", name, "offer"]) => self.hear_offer(name, &value),
            (Role::Witness, ["customer", name, "down"]) if value.get("conversation").is_none() => {
                let customer = self.customers.iter().position(|c| c.name == *name).unwrap();
                self.customers[customer].turned_away += 1;
                self.oracle.stats.add("customers turned away", 1);
            }
            (Role::Witness, ["customer", _, "down"]) => {
                let v = text(&value, "conversation").to_owned();
                let seq = value["seq"].as_u64().unwrap_or_default() as u32;
                self.oracle.conversations.entry(v).or_default().down.insert(seq);
            }
            (Role::Device(_), ["customer", _, "down"]) => {
                if let Some(v) = value["conversation"].as_str() {
                    self.hear_message(v, &value);
                }
            }
            (Role::Device(_), ["customer", _, "answer"]) => self.hear_done(&value),
            (Role::Agent, ["agent", _, "inbox", v]) => {
                self.hear_message(v, &value);
                let seq = value["seq"].as_u64().unwrap_or_default() as u32;
                let had = self.parties[party].desk.had.entry((*v).to_owned()).or_default();
                if !had.insert(seq) {
                    self.oracle.stats.add("messages in an inbox again", 1);
                }
            }
            (Role::Agent, ["agent", _, what]) => self.hear_own(party, what, &value),
            _ => {}
        }
    }

    /// An agent hears what is for it.
    fn hear_own(&mut self, party: usize, what: &str, value: &Value) {
        match what {
            "offer" => {
                let offer = text(value, "offer").to_owned();
                let desk = &mut self.parties[party].desk;
                if value.get("over").is_some() {
                    desk.offers.remove(&offer);
                } else {
                    desk.offers.insert(offer, text(value, "conversation").to_owned());
                }
            }
            "state" => {
                let desk = &mut self.parties[party].desk;
                text(value, "show").clone_into(&mut desk.seen_as);
                let holds = value["conversations"].as_array().into_iter().flatten();
                desk.holds = holds
                    .map(|held| (text(held, "conversation").to_owned(), text(held, "state").to_owned()))
                    .collect();
            }
            "result" => self.hear_result(party, value),
            _ => {}
        }
    }

    /// Somebody hears that what it wanted is done.
    fn hear_done(&mut self, value: &Value) {
        let reason = match (text(value, "verb"), value["ok"] == true) {
            ("accept", true) => "accepted",
            ("release", true) => "released",
            ("hold", true) => "held",
            ("transfer", true) => "transfer",
            ("complete", true) => "completed",
            ("leave", true) => "customer_left",
            _ => return,
        };
        let v = text(value, "conversation").to_owned();
        self.oracle.conversations.entry(v).or_default().done.insert(reason);
    }

    fn hear_result(&mut self, party: usize, value: &Value) {
        self.hear_done(value);
        let (verb, ok) = (text(value, "verb"), value["ok"] == true);
        self.oracle.stats.add(&format!("{verb}: {}", if ok { "ok" } else { text(value, "reason") }), 1);
        if verb != "accept" {
            return;
        }
        let name = self.parties[party].name.clone();
        let (id, v) = (text(value, "offer").to_owned(), text(value, "conversation").to_owned());
        let offer = self.oracle.offers.entry(id.clone()).or_default();
        if !ok {
            if offer.accepted && offer.over.is_none() && text(value, "reason") == "not_yours" {
                self.fail(format!("offer {id} was accepted by {name} and is not its own: {value}"));
            }
            return;
        }
        offer.accepted = true;
        (offer.agent, offer.conversation) = (name, v);
        if let Some(over) = offer.over.clone() {
            self.fail(format!("offer {id} was accepted and is over: {over}"));
        }
    }

    fn hear_offer(&mut self, name: &str, value: &Value) {
        let id = text(value, "offer").to_owned();
        let crashes = self.oracle.crashes;
        let offer = self.oracle.offers.entry(id.clone()).or_default();
        let Some(over) = value.get("over") else {
            if offer.conversation.is_empty() {
                self.oracle.stats.add(&format!("offers: {}", text(value, "reason")), 1);
            }
            let offer = self.oracle.offers.entry(id).or_default();
            offer.crashes = crashes;
            (offer.agent, offer.conversation) = (name.to_owned(), text(value, "conversation").to_owned());
            return;
        };
        let over = over.to_string();
        let (before, accepted) = (offer.over.replace(over.clone()), offer.accepted);
        if accepted || before.as_ref().is_some_and(|before| *before != over) {
            self.fail(format!("offer {id}: accepted {accepted}, over {before:?}, and now over {over}"));
        }
    }

    /// A transition, as the witness hears it: versions grow by one, and one of them means one thing.
    fn hear_event(&mut self, v: &str, value: &Value) {
        let crashes = self.oracle.crashes;
        let told = self.oracle.conversations.entry(v.to_owned()).or_default();
        text(value, "customer").clone_into(&mut told.customer);
        let number = ver(value);
        if let Some(before) = told.events.get(&number) {
            if before != value {
                let why = format!("{v}: version {number} is {before} and then {value}");
                self.fail(why);
            }
            return;
        }
        let last = told.events.last_key_value().map_or(0, |(last, _)| *last);
        if number <= last || (number > last + 1 && crashes == 0) {
            let why = format!("{v}: version {number} comes behind {last}: {value}");
            return self.fail(why);
        }
        let before = told.events.last_key_value().map(|(_, before)| text(before, "to").to_owned());
        if number == last + 1 && before.is_some_and(|before| before != text(value, "from")) {
            let why = format!("{v}: {value} does not begin where the one before has ended");
            return self.fail(why);
        }
        told.gaps |= number > last + 1;
        told.ver = told.ver.max(number);
        if told.ended {
            let why = format!("{v}: {value} comes behind the end");
            return self.fail(why);
        }
        told.events.insert(number, value.clone());
        let agent = value["agent"].as_str().map(str::to_owned);
        let (to, reason) = (text(value, "to").to_owned(), text(value, "reason").to_owned());
        match (to.as_str(), reason.as_str()) {
            ("offered", _) | ("transferring", "matched") => told.offered = agent,
            ("transferring" | "wrapup" | "held", _) => told.offered = None,
            ("assigned", _) => {
                told.offered = None;
                if told.agent != agent {
                    told.agents.extend(agent.clone());
                }
                told.agent = agent;
            }
            _ => (told.agent, told.offered) = (None, None),
        }
        told.ended = matches!(to.as_str(), "closed" | "abandoned" | "expired");
        self.oracle.stats.add(&format!("reason: {reason}"), 1);
        self.judge_drained(v, value);
        self.judge_loads();
    }

    /// Whoever counts with the events finds no agent above its capacity.
    fn judge_loads(&mut self) {
        if self.oracle.crashes > 0 || self.plan.agents > 20 {
            // It may not have heard of a transition.
            return;
        }
        let mut loads: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (v, told) in &self.oracle.conversations {
            for agent in told.agent.iter().chain(&told.offered) {
                loads.entry(agent).or_default().insert(v);
            }
        }
        for party in self.parties.iter().filter(|p| p.role == Role::Agent) {
            let load = loads.get(&*party.name).map_or(0, BTreeSet::len);
            if load > usize::from(party.desk.capacity) {
                let why =
                    format!("{} has {load} conversations and room for {}", party.name, party.desk.capacity);
                return self.fail(why);
            }
        }
    }

    fn hear_customer_state(&mut self, name: &str, value: &Value, again: bool) {
        let Some(v) = value["conversation"].as_str() else { return };
        let told = self.oracle.conversations.entry(v.to_owned()).or_default();
        name.clone_into(&mut told.customer);
        let (number, before) = (ver(value), told.ver);
        told.ver = before.max(number);
        if number < before && !again {
            let why = format!("{v}: version {before} was told, and then {value}");
            self.fail(why);
        }
    }

    fn hear_agent_state(&mut self, name: &str, value: &Value, again: bool) {
        let (used, max) = (value["used"].as_u64().unwrap(), value["max"].as_u64().unwrap());
        let count = value["conversations"].as_array().map_or(0, Vec::len) as u64;
        if used > max || used != count {
            self.fail(format!("agent {name}: {value}"));
        }
        let number = value["ver"].as_u64().unwrap();
        let before = self.oracle.agents.insert(name.to_owned(), number).unwrap_or_default();
        if number < before && !again {
            self.fail(format!("agent {name}: version {before} was told, and then {value}"));
        }
    }

    fn hear_queue_state(&mut self, name: &str, value: &Value, again: bool) {
        let number = value["ver"].as_u64().unwrap();
        let before = self.oracle.queues.insert(name.to_owned(), number).unwrap_or_default();
        if number <= before && !again {
            self.fail(format!("queue {name}: version {before} was told, and then {value}"));
        }
    }

    /// A message of a conversation, whoever hears it: its number always means the same.
    pub fn hear_message(&mut self, v: &str, value: &Value) {
        let seq = value["seq"].as_u64().unwrap_or_default() as u32;
        let heard = (text(value, "id").to_owned(), value["body"].to_string());
        if value["conversation"] != v || seq == 0 {
            return self.fail(format!("{v}: {value}"));
        }
        let told = self.oracle.conversations.entry(v.to_owned()).or_default();
        if value["from"]["role"] == "customer" {
            text(&value["from"], "id").clone_into(&mut told.customer);
        }
        let before = told.messages.entry(seq).or_insert_with(|| heard.clone());
        if *before != heard {
            let why = format!("{v}: message {seq} is {before:?} and then {heard:?}");
            self.fail(why);
        }
    }

    fn hear_in_order(&mut self, v: &str, value: &Value) {
        let seq = value["seq"].as_u64().unwrap_or_default() as u32;
        let crashes = self.oracle.crashes;
        let told = self.oracle.conversations.entry(v.to_owned()).or_default();
        if seq > told.heard + 1 || (seq <= told.heard && crashes == 0) {
            let why = format!("{v}: message {seq} comes behind {}", told.heard);
            return self.fail(why);
        }
        told.heard = told.heard.max(seq);
    }
}
