//! Agents: they accept, reject, reply, hand over and complete.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::peer::Peer;
use super::{AGENTS, CUSTOMERS, PREFIX, RUN, Reply, STOP, World};
use crate::dialogue::{Packet, v5, will};

/// Replies that an agent has under way at most: the broker knows so many again when they come again.
const WINDOW: usize = 16;

/// What an agent has published and not had acknowledged.
pub struct Sent {
    pub topic: String,
    pub payload: String,
    /// Of a reply: its conversation, its id.
    pub reply: Option<(String, String)>,
    pub at: Instant,
}

/// An agent of flesh and blood.
pub struct Agent {
    pub number: usize,
    pub name: String,
    pub peer: Peer,
    pub under_way: BTreeMap<u16, Sent>,
    /// Messages of customers that it has read.
    pub read: HashSet<(String, u64)>,
    /// Of each conversation: its group, and how many messages it still wants to read before it does something about it.
    pub mine: HashMap<String, (String, u32)>,
}

impl Agent {
    pub fn new(number: usize, world: &Arc<World>, seed: u64) -> Self {
        let name = format!("agent-{number}");
        let gone = will(&format!("{PREFIX}agent/{name}/presence"), r#"{"show":"offline"}"#).qos(1);
        let peer = Peer::new(world, v5(&name).will(gone), seed);
        let (under_way, read, mine) = (BTreeMap::new(), HashSet::new(), HashMap::new());
        Self { number, name, peer, under_way, read, mine }
    }

    pub fn publish(&mut self, topic: String, payload: String, reply: Option<(String, String)>) {
        let id = self.peer.next_id();
        self.peer.say(&topic, &payload, id);
        self.under_way.insert(id, Sent { topic, payload, reply, at: Instant::now() });
    }

    pub fn answer(&mut self, what: &Value) {
        self.publish(format!("agent/{}/answer", self.name), what.to_string(), None);
    }

    /// Connects, says that it is there, and repeats its replies: answers may have been for an offer that is over.
    pub fn appear(&mut self) {
        if self.peer.connect(false).is_none() {
            return;
        }
        let number = self.number;
        self.peer.world.note(|book| book.inboxes[number].clear());
        self.peer.subscribe(&[&format!("agent/{}/#", self.name)]);
        let before = std::mem::take(&mut self.under_way);
        let presence = json!({"show": "ready", "groups": AGENTS[number], "capacity": CUSTOMERS});
        self.publish(format!("agent/{}/presence", self.name), presence.to_string(), None);
        for sent in before.into_values().filter(|sent| sent.reply.is_some()) {
            let id = self.peer.next_id();
            self.peer.say(&sent.topic, &sent.payload, id);
            self.under_way.insert(id, sent);
        }
    }

    pub fn hear(&mut self, packet: Packet, runs: bool) {
        match packet {
            Packet::SubAck(_) => {}
            Packet::PubAck(ack) => {
                let Sent { reply, at, payload, .. } = self.under_way.remove(&ack.id).unwrap();
                let agent = self.number;
                self.peer.world.note(|book| match reply {
                    Some((conversation, id)) if ack.reason < 0x80 => {
                        book.replies.push(Reply { id, conversation, agent, sent_at: at });
                    }
                    Some(_) if ack.reason == 0x87 => book.refused += 1,
                    None if ack.reason < 0x80 => {}
                    _ => book.faults.push(format!("agent {agent}: {:#04x} to {payload}", ack.reason)),
                });
            }
            Packet::Publish(publish) => {
                let topic = publish.topic.strip_prefix(PREFIX).unwrap();
                let kind = topic.split('/').nth(2).unwrap();
                let value = serde_json::from_slice(&publish.payload).unwrap_or(Value::Null);
                match kind {
                    "offer" => self.offered(&value, runs),
                    "inbox" => self.reads(&value, runs),
                    "result" => self.learns(&value),
                    _ => {}
                }
            }
            other => panic!("{}: {other:?}", self.name),
        }
    }

    pub fn offered(&mut self, offer: &Value, runs: bool) {
        if !offer["over"].is_null() {
            return;
        }
        let v = offer["conversation"].as_str().unwrap().to_owned();
        self.mine.insert(v, (offer["group"].as_str().unwrap().to_owned(), self.peer.rng.u32(1..12)));
        let verb = match self.peer.rng.u8(..20) {
            0 if runs => return,
            1..4 if runs => "reject",
            _ => "accept",
        };
        self.answer(&json!({"verb": verb, "offer": offer["offer"]}));
    }

    pub fn reads(&mut self, m: &Value, runs: bool) {
        let (v, seq) = (m["conversation"].as_str().unwrap().to_owned(), m["seq"].as_u64().unwrap());
        let (number, name) = (self.number, &self.name);
        let new = self.read.insert((v.clone(), seq));
        self.peer.world.note(|book| {
            book.saw(name, m);
            book.inboxes[number].entry(v.clone()).or_default().insert(seq);
            book.again += usize::from(!new);
        });
        if !runs || !new || m["from"]["role"] != "customer" {
            return;
        }
        if self.under_way.len() < WINDOW && self.peer.rng.bool() {
            let id = self.peer.ulid();
            let reply = json!({"id": id, "body": format!("to {seq}")}).to_string();
            self.peer.world.note(|book| book.written.insert(id.clone()));
            self.publish(format!("conversation/{v}/reply"), reply, Some((v.clone(), id)));
        }
        let (group, left) = self.mine.entry(v.clone()).or_insert_with(|| ("care".to_owned(), 5));
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        *left = self.peer.rng.u32(1..12);
        let other = if group == "care" { "shop" } else { "care" };
        let colleague = (number + self.peer.rng.usize(1..AGENTS.len())) % AGENTS.len();
        let what = match self.peer.rng.u8(..3) {
            0 => json!({"verb": "complete", "conversation": v}),
            1 => json!({"verb": "transfer", "conversation": v, "group": other}),
            _ => json!({"verb": "transfer", "conversation": v, "agent": format!("agent-{colleague}")}),
        };
        self.answer(&what);
    }

    pub fn learns(&mut self, result: &Value) {
        if result["ok"] != true {
            return;
        }
        let v = result["conversation"].as_str().unwrap().to_owned();
        let number = self.number;
        self.peer.world.note(|book| match result["verb"].as_str().unwrap() {
            "accept" => {
                let offer = result["offer"].as_str().unwrap().to_owned();
                book.accepted.entry((v, number)).or_default().insert(offer);
            }
            "reject" => book.rejected += 1,
            "transfer" => book.transfers += 1,
            _ => book.completed += 1,
        });
    }
}

pub fn agent(number: usize, world: &Arc<World>, seed: u64) {
    let mut agent = Agent::new(number, world, seed);
    while world.phase() != STOP {
        if agent.peer.stream.is_none() {
            agent.appear();
        }
        agent.peer.flush();
        let runs = world.phase() == RUN;
        while let Some(packet) = agent.peer.packet() {
            agent.hear(packet, runs);
            if agent.peer.unread.is_empty() {
                agent.peer.flush();
            }
        }
        agent.peer.flush();
        if !runs && agent.under_way.is_empty() {
            world.note(|book| book.idle.insert(number));
        }
        // Now and then it goes away, so that its will is heard.
        if runs && agent.peer.rng.u32(..300) == 0 {
            agent.peer.lose();
        }
    }
}
