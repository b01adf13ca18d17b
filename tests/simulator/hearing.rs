//! How the model's clients read what the broker sends, and what they make of it.

use switchboard::protocol::AckKind;

use super::client::{SessionModel, Stage, WITNESS};
use super::wire::{self, Delivered, Heard, Options};
use super::world::World;

impl World {
    /// All clients read what has come.
    pub fn clients_read(&mut self) {
        for at in 0..self.live.len() {
            let link = self.live[at];
            let client = self.links[link].client;
            if self.clients[client].link != Some(link) {
                self.links[link].down.clear();
                continue;
            }
            if !self.calm && self.links[link].stalled_until > self.now {
                continue;
            }
            let waiting = self.links[link].down.len();
            if waiting > 0 {
                let most =
                    if self.calm || self.chance(2) { waiting } else { waiting.min(self.rng.usize(1..90)) };
                let bytes: Vec<u8> = self.links[link].down.drain(..most).collect();
                self.clients[client].inbuf.extend(bytes);
                self.hear_all(client);
            }
            if self.links[link].down_closed
                && self.links[link].down.is_empty()
                && self.clients[client].link == Some(link)
            {
                self.note(|| format!("c{client} sees its connection closed"));
                self.let_go(client);
                self.links[link].up_closed = Some(self.now);
            }
        }
    }

    fn hear_all(&mut self, client: usize) {
        while let Some(length) = wire::split(&self.clients[client].inbuf) {
            let packet: Vec<u8> = self.clients[client].inbuf.drain(..length).collect();
            let c = &self.clients[client];
            if c.told_to_go {
                return self.fail(format!("c{client} got {packet:02x?} after DISCONNECT"));
            }
            let limit = c.greeting.max_packet.filter(|_| c.v5).unwrap_or(u32::MAX);
            if packet.len() > limit as usize {
                let length = packet.len();
                return self.fail(format!("c{client} takes {limit} bytes and got {length}: {packet:02x?}"));
            }
            match wire::hear(&packet, c.v5) {
                Ok(heard) => self.hear(client, heard),
                Err(error) => return self.fail(format!("c{client} cannot read {packet:02x?}: {error}")),
            }
            if self.failure.is_some() || self.clients[client].link.is_none() {
                return;
            }
        }
    }

    fn hear(&mut self, client: usize, heard: Heard) {
        if !matches!(heard, Heard::Publish(_)) {
            self.note(|| format!("c{client} hears {heard:?}"));
        }
        if !self.clients[client].open && !matches!(heard, Heard::ConnAck { .. }) {
            return self.fail(format!("c{client} got {heard:?} before CONNACK"));
        }
        match heard {
            Heard::ConnAck { present, accepted } => self.let_in(client, present, accepted),
            Heard::Publish(delivered) => self.take(client, delivered),
            Heard::PubAck { id, reason } => match self.clients[client].session.out.remove(&id) {
                Some((message, Stage::Published)) if self.oracle.messages[message].qos == 1 => {
                    self.confirmed(message, reason);
                }
                other => self.fail(format!("c{client}: PUBACK {id} answers {other:?}")),
            },
            Heard::PubRec { id, reason } => match self.clients[client].session.out.get(&id).copied() {
                Some((message, _)) if self.oracle.messages[message].qos == 2 => {
                    self.confirmed(message, reason);
                    if reason < 0x80 {
                        self.firm(client);
                        self.clients[client].session.out.insert(id, (message, Stage::Released));
                        self.clients[client].replies.push((AckKind::PubRel, id));
                    } else {
                        self.clients[client].session.out.remove(&id);
                    }
                }
                other => self.fail(format!("c{client}: PUBREC {id} answers {other:?}")),
            },
            Heard::PubRel { id } => {
                self.clients[client].session.taken.remove(&id);
                self.clients[client].replies.push((AckKind::PubComp, id));
            }
            Heard::PubComp { id } => match self.clients[client].session.out.remove(&id) {
                Some((_, Stage::Released)) => {}
                other => self.fail(format!("c{client}: PUBCOMP {id} answers {other:?}")),
            },
            Heard::SubAck { id, granted } => match self.clients[client].session.asked.remove(&id) {
                Some((filter, Some(options))) => {
                    self.firm(client);
                    self.subscribed(client, &filter, options, &granted);
                }
                other => self.fail(format!("c{client}: SUBACK {id} answers {other:?}")),
            },
            Heard::UnsubAck { id } => match self.clients[client].session.asked.remove(&id) {
                Some((filter, None)) => self.unsubscribed(client, &filter),
                other => self.fail(format!("c{client}: UNSUBACK {id} answers {other:?}")),
            },
            Heard::PingResp => {}
            Heard::Disconnect { reason } => {
                self.clients[client].told_to_go = true;
                self.told_to_go(client, reason);
            }
        }
    }

    fn let_in(&mut self, client: usize, present: bool, accepted: bool) {
        let Some(link) = self.clients[client].link else { return };
        if !accepted || self.clients[client].open {
            return self.fail(format!("c{client}: CONNACK accepted {accepted}"));
        }
        let (expected, instance) = (self.links[link].expect_present, self.links[link].instance);
        if present != expected {
            return self.fail(format!("c{client}: session present {present}, it should be {expected}"));
        }
        let c = &mut self.clients[client];
        (c.open, c.present) = (true, present);
        if c.session.instance != instance && self.plan.stored {
            let former = std::mem::take(&mut c.session);
            c.former.insert(former.instance, former);
        }
        if !present {
            c.session = SessionModel { instance, ..SessionModel::default() };
            if client == WITNESS {
                let options =
                    Options { qos: 2, no_local: false, retain_as_published: false, handling: 2, id: None };
                self.subscribe(WITNESS, "w/+", options);
            }
            return;
        }
        if c.session.instance != instance {
            // The CONNACK of the session's first connection never came: nothing of it is known.
            c.session = SessionModel { instance, ..SessionModel::default() };
            if let Some(former) = c.former.remove(&instance) {
                c.session = former.half_forgotten();
            }
            return;
        }
        // What was asked is not answered any more.
        c.session.asked.clear();
        let mut again: Vec<(usize, u16, Stage)> =
            c.session.out.iter().map(|(&id, &(message, stage))| (message, id, stage)).collect();
        again.sort_unstable_by_key(|(message, ..)| *message);
        for (message, id, stage) in again {
            match stage {
                Stage::Published => self.write_publish(client, message, id, true, None),
                Stage::Released => {
                    let v5 = self.clients[client].v5;
                    self.links[link].send(&wire::ack(AckKind::PubRel, id, v5));
                }
            }
        }
    }

    fn subscribed(&mut self, client: usize, filter: &str, options: Options, granted: &[Option<u8>]) {
        if granted != [Some(options.qos)] {
            return self.fail(format!("c{client}: {filter} granted {granted:?}"));
        }
        let (now, session) = (self.now, &mut self.clients[client].session);
        let later = session.asked.values().any(|(other, _)| other == filter);
        if let Some(sub) = session.subs.get_mut(filter).filter(|_| !later) {
            sub.certain = Some((options, now));
            sub.gone_at = None;
            sub.leaving = false;
        }
    }

    fn unsubscribed(&mut self, client: usize, filter: &str) {
        let (now, session) = (self.now, &mut self.clients[client].session);
        let later = session.asked.values().any(|(other, _)| other == filter);
        if let Some(sub) = session.subs.get_mut(filter).filter(|_| !later) {
            sub.gone_at = Some(now);
            sub.leaving = false;
        }
        if filter.starts_with("$share") {
            self.clients[client].truth.breaks += 1;
        }
    }

    /// A PUBLISH has come: judge it, then answer it.
    fn take(&mut self, client: usize, mut delivered: Delivered) {
        if let Some(alias) = delivered.alias {
            let c = &mut self.clients[client];
            if alias > c.greeting.alias_maximum {
                return self.fail(format!("c{client}: alias {alias} above its maximum"));
            }
            if delivered.topic.is_empty() {
                match c.aliases_in.get(&alias) {
                    Some(topic) => delivered.topic.clone_from(topic),
                    None => return self.fail(format!("c{client}: alias {alias} was never set")),
                }
            } else {
                c.aliases_in.insert(alias, delivered.topic.clone());
            }
        }
        self.note(|| {
            let d = &delivered;
            let message = d.payload.split(|b| *b == b':').next().map(String::from_utf8_lossy);
            format!(
                "c{client} gets {message:?} on {} qos {} id {} dup {} retain {} ids {:?}",
                d.topic, d.qos, d.id, d.dup, d.retain, d.ids
            )
        });
        self.judge(client, &delivered);
        let c = &mut self.clients[client];
        match delivered.qos {
            1 => c.replies.push((AckKind::PubAck, delivered.id)),
            2 => c.replies.push((AckKind::PubRec, delivered.id)),
            _ => {}
        }
    }
}
