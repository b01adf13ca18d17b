//! The MQTT clients behind customers, agents and those who watch: connections, sessions, acknowledgements.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use switchboard::message::Millis;
use switchboard::protocol::AckKind;

use super::plan::{PREFIX, pick};
use super::shards::World;
use super::wire::{self, Delivered, Greeting, Heard, LastWill, Options, Outgoing};

/// Whose client it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sees everything, and is disturbed by nothing but crashes.
    Witness,
    /// A device of a customer, by number.
    Device(usize),
    Agent,
    /// Comes when all is at rest.
    Reader,
}

/// What a publish was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A message of the oracle's, by number.
    Said(usize),
    /// A group, and whether it is to be drained.
    DrainGroup(&'static str, bool),
    /// The party of an agent.
    DrainAgent(usize),
    Other,
}

/// A publish that is not acknowledged.
#[derive(Clone, Debug)]
pub struct Out {
    pub topic: String,
    pub payload: Vec<u8>,
    pub what: What,
}

/// What an agent knows of itself.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    pub groups: Vec<&'static str>,
    pub capacity: u16,
    pub skilled: bool,
    /// What it has said last.
    pub show: &'static str,
    /// Its being drained was acknowledged then, and it has not said since it was asked for that it is ready.
    pub drained_at: Option<Millis>,
    /// What its state says that it is.
    pub seen_as: String,
    /// Offers that it has heard of and that are not over: of which conversation.
    pub offers: BTreeMap<String, String>,
    /// Its conversations with their phases, as its state says.
    pub holds: BTreeMap<String, String>,
    /// Numbers of the messages that it has had, by conversation.
    pub had: BTreeMap<String, BTreeSet<u32>>,
}

/// One client.
#[derive(Clone, Debug)]
pub struct Party {
    pub id: String,
    pub role: Role,
    /// The customer's or the agent's name.
    pub name: String,
    pub filters: Vec<String>,
    /// Its sessions outlive their connections.
    pub lasting: bool,
    pub will: bool,
    pub link: Option<usize>,
    pub open: bool,
    /// All filters are granted.
    pub ready: bool,
    pub inbuf: Vec<u8>,
    pub aliases: HashMap<u16, String>,
    pub out: BTreeMap<u16, Out>,
    pub asked: BTreeSet<u16>,
    pub next_id: u16,
    pub acks: Vec<u16>,
    pub desk: Desk,
}

impl Party {
    pub fn new(role: Role, id: String, name: String, filters: Vec<String>) -> Self {
        Self {
            id,
            role,
            name,
            filters,
            lasting: true,
            will: false,
            link: None,
            open: false,
            ready: false,
            inbuf: Vec::new(),
            aliases: HashMap::new(),
            out: BTreeMap::new(),
            asked: BTreeSet::new(),
            next_id: 0,
            acks: Vec::new(),
            desk: Desk::default(),
        }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % 200 + 1;
            if !self.out.contains_key(&self.next_id) && !self.asked.contains(&self.next_id) {
                return self.next_id;
            }
        }
    }

    /// Owes no answer and waits for none.
    pub fn at_rest(&self) -> bool {
        self.acks.is_empty()
            && (self.link.is_none()
                || self.open && self.ready && self.out.is_empty() && self.asked.is_empty())
    }
}

impl World {
    /// Opens a connection, beside an older one if there is one.
    pub fn connect(&mut self, party: usize) {
        self.let_go(party);
        let (lasting, with_will) = (self.parties[party].lasting, self.parties[party].will);
        let delay = *pick(&mut self.rng, &[0, 0, 2, 10]);
        let will = with_will.then(|| LastWill {
            message: 0,
            topic: format!("{PREFIX}agent/{}/presence", self.parties[party].name),
            payload: br#"{"show":"offline"}"#.to_vec(),
            qos: 1,
            delay,
        });
        let short = self.parties[party].role != Role::Witness && !self.calm && self.chance(4);
        let expiry = match (lasting, short) {
            (false, _) => 0,
            (true, true) => 5,
            (true, false) => 50_000,
        };
        let greeting = Greeting { clean: !lasting, expiry, will, ..Greeting::default() };
        let id = self.parties[party].id.clone();
        self.note(|_| format!("{id} connects, clean {}, will {with_will} after {delay} s", !lasting));
        let link = self.dial(party);
        self.links[link].send(&wire::connect(&id, true, &greeting));
        self.parties[party].link = Some(link);
    }

    /// The client turns away from its connection, which stays open for the broker until it notices.
    pub fn let_go(&mut self, party: usize) {
        let notice = self.now + *pick(&mut self.rng, &[0, 50, 3_000, 30_000]);
        let p = &mut self.parties[party];
        (p.open, p.ready) = (false, false);
        p.desk.drained_at = None;
        p.inbuf.clear();
        p.aliases.clear();
        p.acks.clear();
        if let Some(old) = p.link.take() {
            self.links[old].down.clear();
            self.links[old].up_closed.get_or_insert(notice);
        }
    }

    /// The network breaks.
    pub fn cut(&mut self, party: usize) {
        let Some(link) = self.parties[party].link else { return };
        let notice = self.now + *pick(&mut self.rng, &[0, 100, 3_000, 30_000]);
        self.note(|w| format!("{} is cut, to be noticed in {}", w.parties[party].id, notice - w.now));
        self.oracle.stats.add("cuts", 1);
        self.links[link].cut(&mut self.rng, notice);
        self.let_go(party);
    }

    /// DISCONNECT; reason 4 has the will published.
    pub fn leave(&mut self, party: usize, reason: u8) {
        let Some(link) = self.parties[party].link else { return };
        self.note(|w| format!("{} says good-bye, reason {reason}", w.parties[party].id));
        self.links[link].send(&wire::disconnect(true, reason, None));
        self.links[link].up_closed = Some(self.now);
        self.let_go(party);
    }

    /// Publishes at QoS 1.
    pub fn publish(&mut self, party: usize, topic: &str, payload: Vec<u8>, what: What) {
        let id = self.parties[party].free_id();
        self.note(|w| {
            let text = String::from_utf8_lossy(&payload).into_owned();
            format!("{} publishes {id} to {topic}: {text}", w.parties[party].id)
        });
        self.parties[party].out.insert(id, Out { topic: format!("{PREFIX}{topic}"), payload, what });
        self.send_out(party, id, false);
    }

    fn send_out(&mut self, party: usize, id: u16, dup: bool) {
        let (Some(link), Some(out)) = (self.parties[party].link, self.parties[party].out.get(&id)) else {
            return;
        };
        let bytes = wire::publish(
            &Outgoing {
                dup,
                qos: 1,
                retain: false,
                topic: &out.topic,
                id,
                alias: None,
                expiry: None,
                payload: &out.payload,
                compressed: false,
            },
            true,
        );
        self.links[link].send(&bytes);
    }

    fn subscribe(&mut self, party: usize) {
        let Some(link) = self.parties[party].link else { return };
        // The witness hears things happen, and is shown nothing that was before.
        let handling = if self.parties[party].role == Role::Witness { 2 } else { 0 };
        let options = Options { qos: 1, no_local: false, retain_as_published: false, handling, id: None };
        for filter in self.parties[party].filters.clone() {
            let id = self.parties[party].free_id();
            self.parties[party].asked.insert(id);
            self.links[link].send(&wire::subscribe(id, &format!("{PREFIX}{filter}"), &options, true));
        }
    }

    /// Acknowledges something of what has come.
    pub fn acknowledge(&mut self, party: usize) {
        let Some(link) = self.parties[party].link else { return };
        let most = if self.calm { usize::MAX } else { self.rng.usize(0..6) };
        let acks = &mut self.parties[party].acks;
        for id in acks.drain(..most.min(acks.len())).collect::<Vec<u16>>() {
            self.links[link].send(&wire::ack(AckKind::PubAck, id, true));
        }
    }

    /// All clients read what has come.
    pub fn parties_read(&mut self) {
        for at in 0..self.live.len() {
            let link = self.live[at];
            let party = self.links[link].party;
            if self.parties[party].link != Some(link) {
                self.links[link].down.clear();
                continue;
            }
            if !self.calm && self.links[link].stalled_until > self.now {
                continue;
            }
            let waiting = self.links[link].down.len();
            if waiting > 0 {
                let most =
                    if self.calm || self.chance(2) { waiting } else { waiting.min(self.rng.usize(1..600)) };
                let bytes: Vec<u8> = self.links[link].down.drain(..most).collect();
                self.parties[party].inbuf.extend(bytes);
                self.hear_all(party);
            }
            if self.links[link].down_closed
                && self.links[link].down.is_empty()
                && self.parties[party].link == Some(link)
            {
                self.note(|w| format!("{} sees its connection closed", w.parties[party].id));
                self.let_go(party);
                self.links[link].up_closed = Some(self.now);
            }
        }
    }

    fn hear_all(&mut self, party: usize) {
        let bytes = std::mem::take(&mut self.parties[party].inbuf);
        let mut rest = &bytes[..];
        while let Some(length) = wire::split(rest) {
            let (packet, behind) = rest.split_at(length);
            rest = behind;
            match wire::hear(packet, true) {
                Ok(heard) => self.hear(party, heard),
                Err(error) => return self.fail(format!("{} cannot read: {error}", self.parties[party].id)),
            }
            if self.failure.is_some() || self.parties[party].link.is_none() {
                return;
            }
        }
        self.parties[party].inbuf = rest.to_vec();
    }

    fn hear(&mut self, party: usize, heard: Heard) {
        match heard {
            Heard::ConnAck { present, accepted: true } => self.let_in(party, present),
            Heard::PubAck { id, reason } => {
                let Some(out) = self.parties[party].out.remove(&id) else {
                    return self.fail(format!("{}: PUBACK {id} answers nothing", self.parties[party].id));
                };
                self.note(|w| format!("{} hears that {id} has outcome {reason:#x}", w.parties[party].id));
                if let What::Said(message) = out.what {
                    self.settled(message, reason);
                }
                self.drained(out.what, reason);
            }
            Heard::SubAck { id, granted } => {
                if !self.parties[party].asked.remove(&id) || granted != [Some(1)] {
                    return self.fail(format!("{}: SUBACK {id} {granted:?}", self.parties[party].id));
                }
                if self.parties[party].asked.is_empty() {
                    self.parties[party].ready = true;
                    self.subscribed(party);
                }
            }
            Heard::Publish(delivered) => self.take(party, delivered),
            Heard::Disconnect { reason: 0x8E } => {}
            other => self.fail(format!("{} did not expect {other:?}", self.parties[party].id)),
        }
    }

    fn let_in(&mut self, party: usize, present: bool) {
        self.parties[party].open = true;
        self.parties[party].asked.clear();
        self.note(|w| format!("{} is in, session present {present}", w.parties[party].id));
        if present {
            let ids: Vec<u16> = self.parties[party].out.keys().copied().collect();
            for id in ids {
                if let What::Said(message) = self.parties[party].out[&id].what {
                    self.oracle.said[message].sends += 1;
                    self.oracle.stats.add("messages sent again with DUP", 1);
                }
                self.send_out(party, id, true);
            }
        } else {
            // Whoever had not heard what became of its message says it anew, if it can say that it is the same.
            let out = std::mem::take(&mut self.parties[party].out);
            for Out { topic, payload, what } in out.into_values() {
                let What::Said(message) = what else { continue };
                if self.oracle.said[message].has_id && self.oracle.said[message].agent.is_none() {
                    self.oracle.said[message].sends += 1;
                    self.oracle.stats.add("messages said anew with their id", 1);
                    let topic = topic.strip_prefix(PREFIX).unwrap().to_owned();
                    self.publish(party, &topic, payload, what);
                }
            }
        }
        self.subscribe(party);
    }

    fn take(&mut self, party: usize, mut delivered: Delivered) {
        if let Some(alias) = delivered.alias {
            let aliases = &mut self.parties[party].aliases;
            if delivered.topic.is_empty() {
                delivered.topic.clone_from(&aliases[&alias]);
            } else {
                aliases.insert(alias, delivered.topic.clone());
            }
        }
        self.note(|w| {
            let Delivered { topic, dup, retain, payload, .. } = &delivered;
            let text = String::from_utf8_lossy(payload);
            format!("{} hears {topic} dup {dup} retain {retain}: {text}", w.parties[party].id)
        });
        if delivered.qos == 1 {
            self.parties[party].acks.push(delivered.id);
        }
        let Some(topic) = delivered.topic.strip_prefix(PREFIX).map(str::to_owned) else {
            return self.fail(format!("{} hears {}", self.parties[party].id, delivered.topic));
        };
        self.told(party, &topic, &delivered);
    }
}
