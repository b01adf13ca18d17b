//! The clients of the model and what they do at random; [`super::hearing`] is how they take what comes.

use std::collections::{BTreeMap, HashMap, HashSet};

use switchboard::message::Millis;
use switchboard::protocol::AckKind;

use super::plan::pick;
use super::wire::{self, Greeting, LastWill, Options, Outgoing};
use super::world::World;

/// The client that is never disturbed and sees all wills.
pub const WITNESS: usize = 0;

/// How far a publish of the client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Published,
    Released,
}

/// One filter of a session.
#[derive(Clone, Debug, Default)]
pub struct Sub {
    /// Options that it may have had.
    pub variants: Vec<Options>,
    /// Granted for certain, since then.
    pub certain: Option<(Options, Millis)>,
    /// When the client last asked for a change.
    pub changed_at: Millis,
    /// When the broker had confirmed that it is gone.
    pub gone_at: Option<Millis>,
    /// UNSUBSCRIBE is under way.
    pub leaving: bool,
}

/// What a client keeps from connection to connection.
#[derive(Debug, Default)]
pub struct SessionModel {
    pub instance: u64,
    pub subs: BTreeMap<String, Sub>,
    /// Own publishes that are not finished, by packet id.
    pub out: BTreeMap<u16, (usize, Stage)>,
    pub asked: HashMap<u16, (String, Option<Options>)>,
    pub next_id: u16,
    /// QoS 2 messages taken and not released.
    pub taken: HashMap<u16, usize>,
    /// How often each message came other than as a redelivery.
    pub seen: HashMap<usize, u32>,
    /// The last of each order: publisher, topic, QoS as published, QoS as delivered.
    pub last: HashMap<(usize, String, u8, u8), usize>,
    /// Newest retained value of each topic, and all that were shown as retained: topic, message, identifier, when.
    pub newest: HashMap<String, usize>,
    pub shown: HashSet<(String, usize, Option<u32>)>,
    /// What came at QoS 2, to the end of its exchange or not.
    pub once: HashSet<usize>,
    /// The client had begun a new session and forgotten this one when a crash brought it back.
    pub vague: bool,
}

impl SessionModel {
    /// A packet id that is free: the next in turn, or the first there is, so that one is used again at once.
    fn free_id(&mut self, first: bool) -> u16 {
        self.next_id *= u16::from(!first);
        loop {
            self.next_id = self.next_id % 40 + 1;
            if !self.out.contains_key(&self.next_id) && !self.asked.contains_key(&self.next_id) {
                return self.next_id;
            }
        }
    }
}

/// What the broker's rules must hold of a client, as far as the world could see them decide.
#[derive(Debug, Default)]
pub struct Truth {
    pub session: Option<Held>,
    /// A will that is not published yet: message, when it is due.
    pub will: Option<(usize, Millis)>,
    /// How often the client left all of its groups.
    pub breaks: u64,
    /// The last session of which an answer has come that is durable only with the session: instance and connection.
    pub solid: Option<(u64, usize)>,
}

/// A session that the broker holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub instance: u64,
    pub attached: Option<usize>,
    pub expiry: u32,
    /// When it ends, while it is offline.
    pub lapses: Millis,
}

/// One client.
#[derive(Debug, Default)]
pub struct Client {
    pub id: String,
    pub v5: bool,
    /// QoS of its subscriptions to retained topics.
    pub retained_qos: u8,
    /// The current connection, and whether CONNACK came.
    pub link: Option<usize>,
    pub open: bool,
    pub present: bool,
    pub greeting: Greeting,
    pub inbuf: Vec<u8>,
    /// DISCONNECT came: nothing may come behind it.
    pub told_to_go: bool,
    pub aliases_in: HashMap<u16, String>,
    pub aliases_out: Vec<String>,
    /// Publishes of this connection that are not acknowledged, by packet id.
    pub unacked: HashMap<u16, usize>,
    pub replies: Vec<(AckKind, u16)>,
    pub session: SessionModel,
    /// Sessions before that one, which a crash may bring back.
    pub former: HashMap<u64, SessionModel>,
    pub truth: Truth,
    /// The smallest Maximum Packet Size that it ever had.
    pub least_packet: u32,
}

impl Client {
    /// Owes no answer and waits for none.
    pub fn at_rest(&self) -> bool {
        self.replies.is_empty()
            && (self.link.is_none()
                || self.open && self.session.out.is_empty() && self.session.asked.is_empty())
    }
}

/// Number of topics in each tree.
const TOPICS: usize = 4;
pub const RETAINED_TOPICS: usize = 6;
pub const GROUPS: usize = 4;

/// The subscription's text of a group.
pub fn group_text(group: usize) -> String {
    format!("$share/g{group}/s/{group}/#")
}

/// QoS of all subscriptions to a group.
pub fn group_qos(group: usize) -> u8 {
    if group == 2 { 2 } else { 1 }
}

/// Whether a topic belongs to a group's tree.
pub fn group_of(topic: &str) -> Option<usize> {
    topic.strip_prefix("s/")?.split('/').next()?.parse().ok()
}

impl World {
    /// Makes the clients. The witness comes first and connects at once.
    pub fn people(&mut self) {
        for number in 0..=self.plan.clients {
            let client = Client {
                id: format!("c{number}"),
                v5: number == WITNESS || self.rng.bool(),
                retained_qos: self.rng.u8(..3),
                least_packet: u32::MAX,
                ..Client::default()
            };
            self.clients.push(client);
        }
        let expiry = if self.plan.stored { u32::MAX } else { 0 };
        self.connect(WITNESS, Greeting { clean: true, expiry, ..Greeting::default() });
        self.calm = true;
        while !self.at_rest() {
            self.step();
        }
        self.calm = false;
    }

    /// Something that a client might do now.
    pub fn act(&mut self, client: usize) {
        self.answer(client);
        if client == WITNESS && self.clients[WITNESS].link.is_none() && !self.over {
            // Back after a crash.
            self.connect(WITNESS, Greeting { expiry: u32::MAX, ..Greeting::default() });
        }
        if client == WITNESS || self.calm {
            let away = client != WITNESS && self.clients[client].link.is_none();
            if self.calm && away && self.holds(client) {
                self.greet(client, true);
            }
            return;
        }
        let cuts = self.plan.cuts;
        match (self.clients[client].link, self.clients[client].open) {
            (None, _) => {
                if self.chance(4) {
                    self.greet(client, false);
                }
            }
            (Some(_), false) => {
                if self.rng.u32(..1000) < cuts {
                    self.cut(client);
                }
            }
            (Some(link), true) => match self.rng.u32(..1000) {
                n if n < cuts => self.cut(client),
                ..80 => self.subscribe_somewhere(client),
                80..120 => self.unsubscribe_somewhere(client),
                120..135 => self.leave(client),
                135..150 if cuts > 0 => self.greet(client, false),
                150..180 => self.links[link].stalled_until = self.now + self.rng.u64(..3_000),
                180..200 => self.links[link].send(&wire::PINGREQ),
                200..700 => self.publish_something(client),
                _ => {}
            },
        }
    }

    /// Whether the broker still holds a session of the client.
    pub fn holds(&self, client: usize) -> bool {
        self.clients[client]
            .truth
            .session
            .is_some_and(|held| held.attached.is_some() || held.lapses > self.now)
    }

    fn greet(&mut self, client: usize, resume: bool) {
        let v5 = self.clients[client].v5;
        let clean = !resume && self.chance(3);
        let expiry = *pick(&mut self.rng, &[0, 1, 20, 100, u32::MAX]);
        let greeting = Greeting {
            clean,
            expiry: if resume { 100 } else { expiry },
            receive_maximum: pick(&mut self.rng, &[None, Some(1), Some(3), Some(20)]).filter(|_| v5),
            max_packet: pick(&mut self.rng, &[None, None, Some(120), Some(2_500)]).filter(|_| v5 && !resume),
            alias_maximum: *pick(&mut self.rng, &[0, 1, 10]),
            keep_alive: *pick(&mut self.rng, &[0, 0, 10]),
            will: None,
            // Another at each connection, and no choice: seeds that once failed stay what they were.
            accepts: v5 && self.links.len().is_multiple_of(2),
        };
        let will = (!resume && self.chance(3)).then(|| {
            let topic = format!("w/{client}");
            let qos = self.rng.u8(1..3);
            let message = self.compose(client, &topic, qos, false, 20, None);
            self.oracle.messages[message].will = true;
            let delay = *pick(&mut self.rng, &[0, 0, 2, 40]);
            LastWill {
                message,
                topic,
                payload: self.payload(message),
                qos,
                delay: if v5 { delay } else { 0 },
            }
        });
        self.connect(client, Greeting { will, ..greeting });
    }

    /// Opens a connection, beside an older one if there is one.
    pub fn connect(&mut self, client: usize, greeting: Greeting) {
        self.let_go(client);
        let (id, v5) = (self.clients[client].id.clone(), self.clients[client].v5);
        self.note(|| format!("{id} connects {greeting:?}"));
        let link = self.dial(client, greeting.clone());
        self.links[link].send(&wire::connect(&id, v5, &greeting));
        let c = &mut self.clients[client];
        c.least_packet = c.least_packet.min(greeting.max_packet.unwrap_or(u32::MAX));
        c.link = Some(link);
        c.greeting = greeting;
    }

    /// The client turns away from its connection, which stays open for the broker until it notices.
    pub fn let_go(&mut self, client: usize) {
        let notice = self.now + self.rng.u64(..40_000);
        let c = &mut self.clients[client];
        c.open = false;
        c.inbuf.clear();
        c.told_to_go = false;
        c.aliases_in.clear();
        c.aliases_out.clear();
        c.unacked.clear();
        c.replies.clear();
        if let Some(old) = c.link.take() {
            self.links[old].down.clear();
            self.links[old].up_closed.get_or_insert(notice);
        }
    }

    /// The client goes for good, politely or not.
    pub fn depart(&mut self, client: usize) {
        if self.rng.bool() { self.leave(client) } else { self.cut(client) }
    }

    fn cut(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else { return };
        let notice = self.now + *pick(&mut self.rng, &[0, 100, 30_000]);
        self.note(|| format!("c{client} is cut, to be noticed at {notice}"));
        self.links[link].cut(&mut self.rng, notice);
        self.let_go(client);
    }

    /// DISCONNECT.
    fn leave(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else { return };
        let v5 = self.clients[client].v5;
        let reason = if v5 && self.chance(3) { 4 } else { 0 };
        let may_change = v5 && self.clients[client].greeting.expiry > 0 && self.chance(3);
        let expiry = may_change.then(|| *pick(&mut self.rng, &[0, 3, 50]));
        self.note(|| format!("c{client} says good-bye, reason {reason}, expiry {expiry:?}"));
        let now = self.now;
        self.links[link].say_goodbye(&wire::disconnect(v5, reason, expiry), reason, expiry, now);
        self.let_go(client);
    }

    fn options(&mut self, qos: u8, shared: bool) -> Options {
        Options {
            qos,
            no_local: !shared && self.chance(4),
            retain_as_published: self.rng.bool(),
            handling: *pick(&mut self.rng, &[0, 0, 1, 2]),
            id: self.rng.bool().then(|| self.rng.u32(1..400)),
        }
    }

    fn subscribe_somewhere(&mut self, client: usize) {
        let (a, b) = (self.rng.usize(..TOPICS), self.rng.usize(..TOPICS));
        let qos = self.rng.u8(..3);
        let retained_qos = self.clients[client].retained_qos;
        let (filter, qos) = match self.rng.u32(..12) {
            0..4 => (format!("t/area{a}/{b}"), qos),
            4 => (format!("t/+/{b}"), qos),
            5 => (format!("t/area{a}/#"), qos),
            6 => ("t/#".into(), qos),
            7 => (format!("r/{}", self.rng.usize(..RETAINED_TOPICS)), retained_qos),
            8 => ((*pick(&mut self.rng, &["r/+", "r/#"])).into(), retained_qos),
            _ => (group_text(a), group_qos(a)),
        };
        let options = self.options(qos, filter.starts_with("$share"));
        self.subscribe(client, &filter, options);
    }

    /// SUBSCRIBE.
    pub fn subscribe(&mut self, client: usize, filter: &str, mut options: Options) {
        let (now, c) = (self.now, &mut self.clients[client]);
        let Some(link) = c.link.filter(|_| c.session.asked.len() < 10) else { return };
        if !c.v5 {
            options =
                Options { no_local: false, retain_as_published: false, handling: 0, id: None, ..options };
        }
        let id = c.session.free_id(client % 2 == 1);
        let sub = c.session.subs.entry(filter.into()).or_default();
        if sub.gone_at.is_some() && sub.certain.is_none() {
            // Whatever it was before stays possible for what is still queued.
            sub.gone_at = None;
        }
        let new = sub.variants.is_empty();
        sub.variants.push(options);
        sub.certain = None;
        sub.changed_at = now;
        c.session.asked.insert(id, (filter.into(), Some(options)));
        self.links[link].send(&wire::subscribe(id, filter, &options, self.clients[client].v5));
        self.note(|| format!("c{client} subscribes {filter} {options:?}"));
        if options.handling == 0 || options.handling == 1 && new {
            self.expect_retained(client, filter, options);
        }
    }

    fn unsubscribe_somewhere(&mut self, client: usize) {
        let (now, c) = (self.now, &mut self.clients[client]);
        let Some(link) = c.link else { return };
        let filters: Vec<String> = c.session.subs.keys().cloned().collect();
        if filters.is_empty() || c.session.asked.len() >= 10 {
            return;
        }
        let filter = pick(&mut self.rng, &filters).clone();
        let id = c.session.free_id(client % 2 == 1);
        if let Some(sub) = c.session.subs.get_mut(&filter) {
            sub.certain = None;
            sub.changed_at = now;
            sub.leaving = true;
        }
        c.session.asked.insert(id, (filter.clone(), None));
        if filter == group_text(0) {
            self.oracle.left = now;
        }
        self.links[link].send(&wire::unsubscribe(id, &filter, self.clients[client].v5));
        self.note(|| format!("c{client} unsubscribes {filter}"));
    }

    fn publish_something(&mut self, client: usize) {
        let (a, b) = (self.rng.usize(..TOPICS), self.rng.usize(..TOPICS));
        let mut qos = self.rng.u8(..3);
        let mut expiry = None;
        let size = *pick(&mut self.rng, &[12, 20, 60]);
        let mut large = size;
        let topic = match self.rng.u32(..10) {
            0..6 => {
                expiry = (self.clients[client].v5 && self.chance(6)).then(|| self.rng.u32(1..30));
                large = *pick(&mut self.rng, &[size, size, size, 300, 2_400, 5_000]);
                format!("t/area{a}/{b}")
            }
            6..9 => format!("s/{}/{b}", self.rng.usize(..GROUPS)),
            _ => {
                // Each retained topic has one writer and one QoS.
                let mine: Vec<usize> =
                    (0..RETAINED_TOPICS).filter(|n| 1 + n % self.plan.clients == client).collect();
                let Some(&n) = mine.get(self.rng.usize(..mine.len().max(1))) else { return };
                qos = (n % 3) as u8;
                format!("r/{n}")
            }
        };
        let clear = topic.starts_with('r') && self.chance(5);
        let retain = topic.starts_with('r');
        self.publish(client, &topic, qos, retain, if clear { 0 } else { large }, expiry);
    }

    /// PUBLISH of a new message.
    pub fn publish(
        &mut self,
        client: usize,
        topic: &str,
        qos: u8,
        retain: bool,
        size: usize,
        expiry: Option<u32>,
    ) {
        let receive_maximum = usize::from(self.plan.settings.session.receive_maximum);
        let most = receive_maximum.min(20);
        if qos > 0 && self.clients[client].session.out.len() >= most {
            return;
        }
        let message = self.compose(client, topic, qos, retain, size, expiry);
        self.note(|| {
            format!("c{client} publishes {message} to {topic} qos {qos} size {size} expiry {expiry:?}")
        });
        let c = &mut self.clients[client];
        let id = if qos > 0 { c.session.free_id(client % 2 == 1) } else { 0 };
        if qos > 0 {
            c.session.out.insert(id, (message, Stage::Published));
        }
        self.oblige(message);
        let c = &mut self.clients[client];
        let mut alias = None;
        if c.v5 && self.rng.bool() {
            let known = c.aliases_out.iter().position(|t| t == topic);
            if known.is_none() && c.aliases_out.len() < 8 {
                c.aliases_out.push(topic.into());
                alias = Some((c.aliases_out.len() as u16, false));
            } else {
                alias = known.map(|at| (at as u16 + 1, true));
            }
        }
        self.write_publish(client, message, id, false, alias);
    }

    pub fn write_publish(
        &mut self,
        client: usize,
        message: usize,
        id: u16,
        dup: bool,
        alias: Option<(u16, bool)>,
    ) {
        let Some(link) = self.clients[client].link else { return };
        let payload = self.payload(message);
        let compressed = self.compressed(message);
        let sent = &mut self.oracle.messages[message];
        sent.sends += 1;
        let (topic, expiry) = (sent.topic.clone(), sent.expiry);
        let outgoing = Outgoing {
            dup,
            qos: sent.qos,
            retain: sent.retain,
            topic: &topic,
            id,
            alias,
            expiry,
            payload: &payload,
            compressed,
        };
        self.links[link].send(&wire::publish(&outgoing, self.clients[client].v5));
    }

    /// Sends some of the answers that it owes, in any order.
    fn answer(&mut self, client: usize) {
        let calm = self.calm || client == WITNESS;
        while !self.clients[client].replies.is_empty() && (calm || !self.chance(4)) {
            let at = self.rng.usize(..self.clients[client].replies.len());
            let c = &mut self.clients[client];
            let Some(link) = c.link else { return };
            let (kind, id) = c.replies.swap_remove(at);
            if matches!(kind, AckKind::PubAck | AckKind::PubComp) {
                c.unacked.remove(&id);
            }
            self.links[link].send(&wire::ack(kind, id, self.clients[client].v5));
        }
    }
}
