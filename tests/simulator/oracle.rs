//! What must be true, whatever the seed, judged while a run goes on; [`super::rest`] judges when it has come to rest.
//!
//! The world tells when the rules let a connection in and when they part it from its session; from that and from what
//! each client said follows what the broker must hold. Everything else is judged by what clients read.

use std::collections::HashMap;

use switchboard::message::Millis;

use super::client::{Held, RETAINED_TOPICS, group_of, group_text};
use super::plan::MAX_EXPIRY;
use super::stats::Stats;
use super::wire::{Delivered, Options};
use super::world::World;

/// A message of the model.
#[derive(Debug)]
pub struct Sent {
    pub publisher: usize,
    pub topic: String,
    pub qos: u8,
    pub retain: bool,
    pub at: Millis,
    pub expiry: Option<u32>,
    pub size: usize,
    /// The broker took responsibility, then.
    pub acked: Option<Millis>,
    /// How often the client wrote it.
    pub sends: u32,
    pub will: bool,
    /// Crashes that found it without an acknowledgement, or its will not yet published for good: it may have come
    /// before each of them.
    pub crashed: u32,
}

/// A message owed to a session.
#[derive(Debug)]
pub struct Owed {
    pub client: usize,
    pub instance: u64,
    pub filter: String,
    pub message: usize,
}

/// A retained message owed to a new subscription.
#[derive(Debug)]
pub struct Shown {
    pub client: usize,
    pub instance: u64,
    pub filter: String,
    pub options: Options,
    pub message: usize,
    pub asked_at: Millis,
}

/// A shared message at a member.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    pub client: usize,
    pub breaks: u64,
    pub link: usize,
    pub qos: u8,
}

/// What becomes of a will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Must,
    /// It was published and not durable when there was a crash.
    May,
    MustNot,
}

/// All that is remembered.
#[derive(Debug, Default)]
pub struct Oracle {
    pub messages: Vec<Sent>,
    pub owed: Vec<Owed>,
    pub shown: Vec<Shown>,
    pub visits: HashMap<usize, Vec<Visit>>,
    /// When somebody last asked to leave group 0.
    pub left: Millis,
    /// Newest first delivery of a sticky group: publisher and topic.
    pub sticky: HashMap<(usize, String), usize>,
    /// Whether a will must be published; those not in here must not.
    pub wills: HashMap<usize, Fate>,
    /// Instances of sessions by the number that the store knows them by.
    pub stored: HashMap<u64, u64>,
    /// When the last crash was.
    pub crashed_at: Millis,
    /// What was dropped before the last crash, by reason.
    pub dropped: Vec<u64>,
    pub instances: u64,
    pub stats: Stats,
}

/// Whether a topic matches a filter, said as plainly as possible.
pub fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(f), Some(t)) if f == t => {}
            _ => return false,
        }
    }
}

impl World {
    /// A new message.
    pub fn compose(
        &mut self,
        publisher: usize,
        topic: &str,
        qos: u8,
        retain: bool,
        size: usize,
        expiry: Option<u32>,
    ) -> usize {
        let (topic, at) = (topic.to_owned(), self.now);
        let sent = Sent {
            publisher,
            topic,
            qos,
            retain,
            at,
            expiry,
            size,
            acked: None,
            sends: 0,
            will: false,
            crashed: 0,
        };
        self.oracle.messages.push(sent);
        self.oracle.messages.len() - 1
    }

    /// Whether a message is sent compressed.
    pub fn compressed(&self, message: usize) -> bool {
        let sent = &self.oracle.messages[message];
        self.clients[sent.publisher].v5 && !sent.will && message.is_multiple_of(3)
    }

    /// The payload of a message: its number and a filling that depends on it.
    pub fn payload(&self, message: usize) -> Vec<u8> {
        let size = self.oracle.messages[message].size;
        if size == 0 {
            return Vec::new();
        }
        let mut payload = format!("{message}:").into_bytes();
        while payload.len() < size {
            payload.push((message * 31 + payload.len() * 7) as u8);
        }
        payload
    }

    /// Notes who must get a message that is about to be published.
    pub fn oblige(&mut self, message: usize) {
        let sent = &self.oracle.messages[message];
        // In a crowd one in sixteen is followed.
        if sent.qos == 0 || sent.retain || (self.clients.len() > 100 && !message.is_multiple_of(16)) {
            return;
        }
        let group = group_of(&sent.topic);
        let mut owed = Vec::new();
        for (number, client) in self.clients.iter().enumerate() {
            let held = client.truth.session.filter(|held| held.attached.is_some() || held.lapses > self.now);
            if held.is_none_or(|held| held.instance != client.session.instance) {
                continue;
            }
            for (filter, sub) in &client.session.subs {
                let Some((options, _)) = sub.certain.filter(|(options, _)| options.qos > 0) else { continue };
                let due = match group {
                    Some(group) => *filter == group_text(group) && sent.qos.min(options.qos) == 1,
                    None => matches(filter, &sent.topic) && !(options.no_local && sent.publisher == number),
                };
                if due {
                    let instance = client.session.instance;
                    owed.push(Owed { client: number, instance, filter: filter.clone(), message });
                }
            }
        }
        self.oracle.owed.extend(owed);
    }

    /// Notes what a SUBSCRIBE must be shown.
    pub fn expect_retained(&mut self, client: usize, filter: &str, options: Options) {
        for n in 0..RETAINED_TOPICS {
            let topic = format!("r/{n}");
            let last = self.oracle.messages.iter().rposition(|m| m.topic == topic);
            let Some(message) = last.filter(|_| matches(filter, &topic)) else { continue };
            if self.oracle.messages[message].acked.is_some() && self.oracle.messages[message].size > 0 {
                let instance = self.clients[client].session.instance;
                let filter = filter.to_owned();
                let asked_at = self.now;
                self.oracle.shown.push(Shown { client, instance, filter, options, message, asked_at });
            }
        }
    }

    /// PUBACK or PUBREC for a message.
    pub fn confirmed(&mut self, message: usize, reason: u8) {
        if reason >= 0x80 {
            return self.fail(format!("message {message} is refused: {reason:#x}"));
        }
        let publisher = self.oracle.messages[message].publisher;
        if self.clients[publisher].session.vague {
            // The session may know the packet id from what the client has forgotten.
            return;
        }
        let now = self.now;
        self.oracle.messages[message].acked.get_or_insert(now);
    }

    /// The rules let a connection in.
    pub fn opened(&mut self, link: usize) {
        let number = self.links[link].client;
        if let Some(old) = self.clients[number].truth.session.and_then(|held| held.attached) {
            self.oracle.stats.taken_over += 1;
            self.detached(old);
        }
        let now = self.now;
        let (greeting, v5) = (self.links[link].greeting.clone(), self.clients[number].v5);
        let truth = &mut self.clients[number].truth;
        let present = !greeting.clean && truth.session.is_some_and(|held| held.lapses > now);
        if let Some((will, due)) = truth.will.take() {
            let fate = if due <= now || !present { Fate::Must } else { Fate::MustNot };
            self.oracle.wills.insert(will, fate);
        }
        let wished = if v5 { greeting.expiry } else { u32::MAX * u32::from(!greeting.clean) };
        let instance = if let Some(held) = truth.session.filter(|_| present) {
            held.instance
        } else {
            // A crash may bring back a session that this has ended, without what came to nobody meanwhile.
            let (messages, old) = (&self.oracle.messages, truth.session.map(|held| held.instance));
            self.oracle.owed.retain(|o| Some(o.instance) != old || messages[o.message].acked.is_some());
            self.oracle.instances += 1;
            self.oracle.instances
        };
        let expiry = wished.min(MAX_EXPIRY);
        truth.session = Some(Held { instance, attached: Some(link), expiry, lapses: Millis::MAX });
        self.oracle.stats.resumed += u64::from(present);
        let link = &mut self.links[link];
        (link.opened, link.instance, link.expect_present) = (true, instance, present);
        self.learn_number(number, instance);
        self.note(|| format!("the broker lets c{number} in, present {present}, expiry {expiry}"));
    }

    /// The rules part a connection from its session.
    pub fn detached(&mut self, link: usize) {
        let (number, now) = (self.links[link].client, self.now);
        let goodbye = self.links[link].goodbye_taken();
        self.links[link].detached = true;
        let truth = &mut self.clients[number].truth;
        let Some(held) = truth.session.as_mut().filter(|held| held.attached == Some(link)) else {
            return self.fail(format!("a connection of c{number} ends twice"));
        };
        if let Some((_, Some(expiry))) = goodbye {
            held.expiry = expiry.min(MAX_EXPIRY);
        }
        held.attached = None;
        held.lapses = now + u64::from(held.expiry) * 1000;
        truth.breaks += 1;
        let expiry = held.expiry;
        if expiry == 0 {
            truth.session = None;
        }
        if let Some(will) = &self.links[link].greeting.will {
            let due = now + u64::from(will.delay.min(expiry)) * 1000;
            if goodbye.is_some_and(|(reason, _)| reason == 0) {
                self.oracle.stats.wills_not += 1;
            } else if due <= now {
                self.oracle.wills.insert(will.message, Fate::Must);
            } else {
                truth.will = Some((will.message, due));
            }
        }
        self.note(|| {
            format!("the broker parts c{number} from its connection, good-bye {goodbye:?}, expiry {expiry}")
        });
    }

    /// DISCONNECT from the broker.
    pub fn told_to_go(&mut self, client: usize, reason: u8) {
        let current = self.clients[client].link;
        let fits = match reason {
            // Another connection that the client had given up was let in after all.
            0x8E => self.clients[client].truth.session.is_none_or(|held| held.attached != current),
            0x8D => self.clients[client].greeting.keep_alive > 0,
            0x97 => {
                self.plan.settings.session.overflow == switchboard::config::settings::Overflow::Disconnect
            }
            _ => false,
        };
        if !fits {
            self.fail(format!("c{client} is told to go: {reason:#x}"));
        }
    }

    /// A PUBLISH that a client has read.
    pub fn judge(&mut self, number: usize, d: &Delivered) {
        if let Err(wrong) = self.try_judge(number, d) {
            let message = String::from_utf8_lossy(&d.payload[..d.payload.len().min(8)]).into_owned();
            self.fail(format!(
                "c{number}: {wrong} ({message} on {}, qos {}, id {}, dup {}, retain {}, ids {:?})",
                d.topic, d.qos, d.id, d.dup, d.retain, d.ids
            ));
        }
    }

    fn try_judge(&mut self, number: usize, d: &Delivered) -> Result<(), String> {
        let message = d.payload.split(|b| *b == b':').next().and_then(|n| str::from_utf8(n).ok());
        let message: Option<usize> = message.and_then(|n| n.parse().ok());
        let redelivered = self.judge_flow(number, d, message.unwrap_or(usize::MAX))?;
        self.oracle.stats.delivered += 1;
        self.oracle.stats.redelivered += u64::from(redelivered || d.dup);
        self.oracle.stats.aliased += u64::from(d.alias.is_some());
        self.oracle.stats.compressed += u64::from(d.compressed);
        let Some(message) = message else {
            // Only the clearing of a retained topic is empty.
            return if d.payload.is_empty() && d.topic.starts_with("r/") {
                Ok(())
            } else {
                Err("nobody published this".into())
            };
        };
        self.judge_content(number, d, message)?;
        self.oracle.stats.expanded += u64::from(self.compressed(message) && !d.compressed);
        self.judge_subscription(number, d, message)?;
        if d.topic.starts_with("s/") {
            self.judge_shared(number, d, message, redelivered)?;
        } else if d.topic.starts_with("r/") {
            self.judge_retained(number, d, message)?;
        } else {
            self.judge_once(number, d, message, redelivered)?;
        }
        self.judge_will(message)?;
        *self.clients[number].session.seen.entry(message).or_default() += u32::from(!redelivered && !d.dup);
        Ok(())
    }

    /// Packet ids, Receive Maximum, DUP. Says whether it is a redelivery.
    fn judge_flow(&mut self, number: usize, d: &Delivered, message: usize) -> Result<bool, String> {
        let c = &mut self.clients[number];
        if d.dup && (!c.present || d.qos == 0) {
            return Err("DUP without a resumed session".into());
        }
        if d.qos == 0 {
            return Ok(false);
        }
        let announced = c.greeting.receive_maximum.filter(|_| c.v5).unwrap_or(u16::MAX);
        let most = announced.min(self.plan.settings.session.max_inflight);
        if c.unacked.len() >= usize::from(most) {
            return Err(format!("more than {most} in flight: {:?}", c.unacked));
        }
        if let Some(other) = c.unacked.insert(d.id, message) {
            return Err(format!("its packet id is in use by message {other}"));
        }
        if d.qos == 1 {
            return Ok(d.dup);
        }
        match c.session.taken.insert(d.id, message) {
            None => Ok(false),
            Some(before) if before == message && d.dup => Ok(true),
            Some(before) => Err(format!("its packet id was taken with message {before} and not released")),
        }
    }

    fn judge_content(&self, number: usize, d: &Delivered, message: usize) -> Result<(), String> {
        let sent = self.oracle.messages.get(message).ok_or("nobody published this")?;
        if sent.topic != d.topic || d.payload != self.payload(message) {
            return Err(format!("is not what was published to {}", sent.topic));
        }
        let takes = self.clients[number].greeting.accepts;
        if d.compressed != (self.compressed(message) && takes) {
            return Err(format!("compressed: {}, and its receiver takes that: {takes}", d.compressed));
        }
        if d.qos > sent.qos {
            return Err(format!("was published with qos {}", sent.qos));
        }
        let expiry_fits = match (sent.expiry, d.expiry) {
            (None, None) => true,
            (Some(before), Some(left)) => left <= before,
            (Some(_), None) => !self.clients[number].v5,
            (None, Some(_)) => false,
        };
        if !expiry_fits {
            return Err(format!("expiry {:?} became {:?}", sent.expiry, d.expiry));
        }
        Ok(())
    }

    /// Whether a subscription of the client accounts for the delivery, with its options.
    fn judge_subscription(&self, number: usize, d: &Delivered, message: usize) -> Result<(), String> {
        let sent = &self.oracle.messages[message];
        let plain = |filter: &str| {
            filter
                .strip_prefix("$share/")
                .and_then(|f| f.split_once('/'))
                .map_or(filter.to_owned(), |(_, f)| f.to_owned())
        };
        let (mut options, mut must): (Vec<&Options>, Vec<Options>) = (Vec::new(), Vec::new());
        for (filter, sub) in &self.clients[number].session.subs {
            let over = sub.gone_at.is_some_and(|at| sent.at > at && !sent.will && !d.retain);
            if over || !matches(&plain(filter), &d.topic) {
                continue;
            }
            // No Local is not asked of what was retained: the broker does not keep who published it.
            options.extend(
                sub.variants.iter().filter(|o| d.retain || !(o.no_local && sent.publisher == number)),
            );
            if let Some((certain, since)) = sub.certain
                && since < sent.at
                && sub.variants.len() == 1
                && !(certain.no_local && sent.publisher == number)
            {
                must.push(certain);
            }
        }
        if options.is_empty() {
            return Err("no subscription accounts for it".into());
        }
        if options.iter().all(|o| o.qos < d.qos) {
            return Err("above the QoS of all subscriptions".into());
        }
        if let Some(stranger) = d.ids.iter().find(|id| !options.iter().any(|o| o.id == Some(**id))) {
            return Err(format!("identifier {stranger} belongs to no subscription"));
        }
        let live = d.topic.starts_with("t/");
        if live && d.retain {
            return Err("RETAIN on what was not retained".into());
        }
        if d.retain && options.iter().all(|o| !o.retain_as_published && o.handling == 2) {
            return Err("RETAIN though no subscription asked for it".into());
        }
        for must in must.iter().filter(|_| live) {
            if must.id.is_some_and(|id| !d.ids.contains(&id)) {
                return Err(format!("lacks the identifier of {must:?}"));
            }
            if d.qos < must.qos.min(sent.qos) {
                return Err(format!("below the QoS of {must:?}"));
            }
        }
        Ok(())
    }

    /// One delivery for each publication, in order.
    fn judge_once(
        &mut self,
        number: usize,
        d: &Delivered,
        message: usize,
        redelivered: bool,
    ) -> Result<(), String> {
        let sent = &self.oracle.messages[message];
        let session = &mut self.clients[number].session;
        let before = session.seen.get(&message).copied().unwrap_or(0);
        if session.vague {
            return Ok(());
        }
        // What the publisher was not sure of may have come before a crash, and be new to the broker after it. At QoS 2
        // it has not come: nothing is sent before it is durable.
        let publications = if sent.qos == 1 && !sent.will { sent.sends } else { 1 + sent.crashed };
        let first = !session.seen.contains_key(&message);
        if !redelivered && !d.dup && before >= publications {
            return Err(format!("delivered {} times, published {publications} times", before + 1));
        }
        if d.qos == 2 && !redelivered && !session.once.insert(message) {
            return Err("a second time at QoS 2".into());
        }
        if first {
            let key = (sent.publisher, sent.topic.clone(), sent.qos, d.qos);
            let last = session.last.insert(key, message);
            // To a subscriber who came later the second publication of a message may be the first.
            if last.is_some_and(|last| last > message) && sent.sends == 1 {
                return Err(format!("comes after message {}", last.unwrap_or(0)));
            }
        }
        Ok(())
    }

    fn judge_shared(
        &mut self,
        number: usize,
        d: &Delivered,
        message: usize,
        redelivered: bool,
    ) -> Result<(), String> {
        let sent = &self.oracle.messages[message];
        let group = group_of(&sent.topic).ok_or("a topic without a group")?;
        let c = &self.clients[number];
        let link = c.link.ok_or("a client without a connection")?;
        let leaving = c.session.subs.get(&group_text(group)).is_some_and(|sub| sub.leaving);
        // What still comes from before the member was lost may have gone to another meanwhile.
        let broken = leaving || self.links[link].detached;
        let visits = self.oracle.visits.entry(message).or_default();
        let first = visits.is_empty();
        if d.qos == 2 && visits.iter().any(|v| v.client != number && v.qos == 2) {
            return Err(format!("a second member at QoS 2: {visits:?}"));
        }
        if !redelivered && !d.dup {
            let still = visits
                .iter()
                .filter(|v| self.clients[v.client].truth.breaks == v.breaks && !self.links[v.link].detached)
                .filter(|v| {
                    let sub = self.clients[v.client].session.subs.get(&group_text(group));
                    !sub.is_some_and(|sub| sub.leaving)
                })
                .count();
            if !broken && still >= sent.sends as usize {
                return Err(format!("a second member, and the first was never lost: {visits:?}"));
            }
            if !first {
                self.oracle.stats.redispatched += 1;
            }
            visits.push(Visit { client: number, breaks: c.truth.breaks, link, qos: d.qos });
        }
        let orderly = group == 0 && self.plan.settings.session.queue_messages >= 1000;
        // A member that unsubscribes keeps what it was sent, until its connection ends: that is given again, late.
        let given_back = self.oracle.left >= sent.at;
        if first && orderly && !broken && !given_back && d.qos == 1 && sent.qos == 1 {
            let last = self.oracle.sticky.insert((sent.publisher, sent.topic.clone()), message);
            if last.is_some_and(|last| last > message) && sent.sends == 1 {
                return Err(format!("comes after message {} of the same key", last.unwrap_or(0)));
            }
        }
        Ok(())
    }

    /// Never an older retained value after a newer one.
    fn judge_retained(&mut self, number: usize, d: &Delivered, message: usize) -> Result<(), String> {
        let sends = self.oracle.messages[message].sends;
        let session = &mut self.clients[number].session;
        let newest = session.newest.get(&d.topic).copied().unwrap_or(0);
        // A publisher that is not sure publishes again, also what is older by then.
        if message < newest && !d.dup && sends == 1 && !session.vague {
            return Err(format!("an older value than message {newest}"));
        }
        session.newest.insert(d.topic.clone(), newest.max(message));
        if d.retain {
            self.oracle.stats.retained_shown += 1;
            for id in d.ids.iter().copied().map(Some).chain([None]) {
                session.shown.insert((d.topic.clone(), message, id));
            }
        }
        Ok(())
    }

    fn judge_will(&mut self, message: usize) -> Result<(), String> {
        let sent = &self.oracle.messages[message];
        if !sent.will {
            return Ok(());
        }
        let pending = self.clients[sent.publisher].truth.will;
        // A will that came due a moment ago is published at the next tick.
        let due = pending.is_some_and(|(will, due)| will == message && due <= self.now);
        if !due && !matches!(self.oracle.wills.get(&message), Some(Fate::Must | Fate::May)) {
            return Err(format!("a will that is not due: {pending:?}"));
        }
        Ok(())
    }
}
