//! What one client may do and is owed.
//!
//! [`Session`] is what survives a lost connection, [`Connection`] what dies with it [MQTT-3.1.2-23]. Both are plain
//! state: no socket, clock or log; the shard composes them.

mod connection;
mod outbox;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use connection::{Aliases, Connection, NO_SESSION, Phase, Rare};
pub use outbox::{Acknowledged, Next, Number, Outbox, Stage};

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::message::{Message, Millis, NEVER};
use crate::protocol::PacketId;

/// No connection: the session is offline.
pub const OFFLINE: u32 = u32::MAX;

/// A Session Expiry Interval that never ends [MQTT-3.1.2.11.2].
pub const EXPIRES_NEVER: u32 = u32::MAX;

/// The state of one client that outlives its connections.
#[derive(Debug)]
pub struct Session {
    /// Client Identifier.
    pub client_id: Arc<str>,
    /// Topic Filters subscribed to, without the shared ones, in the order of their texts. Options stand in the index.
    pub filters: SmallVec<[Arc<str>; 1]>,
    /// When an offline session ends; [`NEVER`] while it is connected or if it never does.
    pub ends_at: Millis,
    /// What is owed at QoS > 0; present only while something is.
    pub outbox: Option<Box<Outbox>>,
    /// Packet ids received at QoS 2 and not yet released [MQTT-4.3.3-10].
    pub received: Option<Box<Received>>,
    /// The will, while one is set [MQTT-3.1.2-7].
    pub will: Option<Box<WillState>>,
    /// Memberships in shared groups, in the order of their texts.
    pub memberships: Option<Box<Vec<Membership>>>,
    /// Retained messages still to be shown to new subscriptions.
    pub replay: Option<Box<Replay>>,
    /// Slab key of the connection, or [`OFFLINE`].
    pub connection: u32,
    /// Session Expiry Interval in seconds.
    pub expiry: u32,
    /// Tells sessions apart that had the same slab key one after the other.
    pub generation: u32,
    /// The timer that counts for this session; older ones are ignored when they fire.
    pub timer: u32,
    /// Number of the next delivery while there is no outbox.
    pub next_number: outbox::Number,
    /// What the store knows the session by; 0 if it does not keep it.
    pub stored: u64,
    /// Whose it is: a number made of tenant and user name, 0 if it was begun without a login.
    pub owner: u64,
}

impl Session {
    /// A new session without subscriptions.
    pub fn new(client_id: Arc<str>, generation: u32) -> Self {
        Self {
            client_id,
            filters: SmallVec::new(),
            ends_at: NEVER,
            outbox: None,
            received: None,
            will: None,
            memberships: None,
            replay: None,
            connection: OFFLINE,
            expiry: 0,
            generation,
            timer: 0,
            next_number: 1,
            stored: 0,
            owner: 0,
        }
    }

    /// From now on the session ends after its Session Expiry Interval, and its will is due after its delay.
    pub fn lose_connection(&mut self, now: Millis) {
        self.connection = OFFLINE;
        self.ends_at = match self.expiry {
            0 => now,
            EXPIRES_NEVER => NEVER,
            seconds => now + Millis::from(seconds) * 1000,
        };
        if let Some(will) = &mut self.will {
            will.due = now + Millis::from(will.delay) * 1000;
        }
    }

    /// Number of the next delivery.
    pub fn next(&self) -> Number {
        self.outbox.as_ref().map_or(self.next_number, |outbox| outbox.next())
    }

    /// Deliveries in flight and waiting.
    pub fn owed(&self) -> (usize, usize) {
        self.outbox.as_ref().map_or((0, 0), |o| (usize::from(o.in_flight()), o.waiting()))
    }
}

/// A will and, once the connection is gone, when it is due.
#[derive(Debug)]
pub struct WillState {
    /// The message as it will be published. Its expiry counts from then on [MQTT-3.1.3.2.4].
    pub message: Arc<Message>,
    /// Will Delay Interval in seconds.
    pub delay: u32,
    /// Message Expiry Interval in seconds, if it has one.
    pub expiry: Option<u32>,
    /// When it is to be published, [`NEVER`] while the client is connected.
    pub due: Millis,
}

/// A stay in a shared subscription's group.
#[derive(Debug)]
pub struct Membership {
    /// The subscription's text, `$share/…`.
    pub filter: Arc<str>,
    /// Tells this stay apart from earlier ones, so that late deliveries are recognised.
    pub stay: u32,
    /// Deliveries that have arrived from the group during this stay.
    pub arrived: u64,
    /// Whether the group knows the member as being there.
    pub present: bool,
    /// Unsubscribed, and here only until the connection ends: what the client has not acknowledged then goes back.
    pub ended: bool,
    /// Options of the subscription, to join again with.
    pub options: crate::topic::SubscriptionOptions,
}

/// A walk over the retained messages for one new subscription after the other.
#[derive(Debug, Default)]
pub struct Replay {
    /// Filters still to be walked, by their rounds; the first is under way.
    pub filters: BTreeMap<u32, ReplayFilter>,
    /// The round of each of them.
    pub rounds: HashMap<Arc<str>, u32, ahash::RandomState>,
    /// Topics that came live meanwhile, and in which round last: what a page says of them is old for the filters that
    /// were there then, not for those that came later.
    pub seen: HashMap<Arc<str>, u32, ahash::RandomState>,
    /// More topics came live than are remembered. What was asked for before is too old to be shown.
    pub outdated: bool,
    /// Counts the filters.
    pub round: u32,
    /// Told to the shards that are asked and given back by them: an answer to an older question is dropped.
    pub number: u32,
    /// Whether a page was asked for and has not come.
    pub asked: bool,
    /// Whether it is on the shard's list of those that go on.
    pub listed: bool,
}

/// Topics that a replay remembers as having come live.
const SEEN: usize = 4096;

impl Replay {
    /// Adds a filter behind the others; one that is there already begins anew.
    pub fn add(&mut self, filter: Arc<str>, options: crate::topic::SubscriptionOptions, shard: u16) {
        self.round += 1;
        self.rounds.insert(filter.clone(), self.round);
        let walk =
            ReplayFilter { filter, options, shard, after: None, asked: (shard, None), page: VecDeque::new() };
        self.filters.insert(self.round, walk);
    }

    /// Ends the walk of one filter. A page of it that is on its way is not to be taken for one of the next: `number` is
    /// a new one for what is asked from now on.
    pub fn cancel(&mut self, filter: &str, number: u32) {
        let Some(round) = self.rounds.remove(filter) else { return };
        if self.filters.first_key_value().is_some_and(|(first, _)| *first == round) {
            self.asked = false;
            self.number = number;
        }
        self.filters.remove(&round);
    }

    /// A topic's message was sent live: what pages say of it from now on is old.
    pub fn see(&mut self, topic: &str) {
        if let Some(round) = self.seen.get_mut(topic) {
            *round = self.round;
        } else if self.seen.len() < SEEN && !self.outdated {
            self.seen.insert(Arc::from(topic), self.round);
        } else {
            self.outdated = true;
            self.seen.clear();
        }
    }

    /// Asks again for what is in hand or on its way, if that is too old by now.
    pub fn renew(&mut self, number: u32) {
        if !std::mem::take(&mut self.outdated) {
            return;
        }
        self.number = number;
        self.asked = false;
        if let Some(mut walk) = self.filters.first_entry() {
            let walk = walk.get_mut();
            walk.page.clear();
            (walk.shard, walk.after) = walk.asked.clone();
        }
    }
}

/// One subscription's replay.
#[derive(Debug)]
pub struct ReplayFilter {
    /// The filter, without `$share` (shared subscriptions get no retained messages).
    pub filter: Arc<str>,
    /// The subscription's options.
    pub options: crate::topic::SubscriptionOptions,
    /// The shard being asked.
    pub shard: u16,
    /// Where that shard goes on.
    pub after: Option<Arc<str>>,
    /// Shard and place that were asked for last.
    pub asked: (u16, Option<Arc<str>>),
    /// Messages that have come and wait for room.
    pub page: VecDeque<Arc<Message>>,
}

/// Packet ids of QoS 2 messages that were taken and are not yet released.
#[derive(Debug, Default)]
pub struct Received(Vec<u16>);

impl Received {
    /// Notes a PUBLISH; `false` if the id is already there and the message must not be taken again [MQTT-4.3.3-10].
    pub fn insert(&mut self, id: PacketId) -> bool {
        // Publishers number in sequence, so the new id nearly always belongs at the end.
        match self.0.binary_search(&id.get()) {
            Ok(_) => false,
            Err(at) => {
                self.0.insert(at, id.get());
                true
            }
        }
    }

    /// Whether the id was taken.
    pub fn contains(&self, id: PacketId) -> bool {
        self.0.binary_search(&id.get()).is_ok()
    }

    /// PUBREL: the id may be used again [MQTT-4.3.3-12]. `false` if it is unknown.
    pub fn remove(&mut self, id: PacketId) -> bool {
        self.0.binary_search(&id.get()).map(|at| self.0.remove(at)).is_ok()
    }

    /// The ids that are held.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().copied()
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_qos_2_id_is_taken_once_until_it_is_released() {
        let mut received = Received::default();
        let id = |n| PacketId::new(n).unwrap();
        assert!(received.insert(id(5)));
        assert!(received.insert(id(2)));
        assert!(!received.insert(id(5)));
        assert!(received.contains(id(2)));
        assert!(received.remove(id(5)));
        assert!(!received.remove(id(5)));
        assert!(received.insert(id(5)));
        assert_eq!(received.len(), 2);
    }

    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of::<Session>() <= 128, "{}", size_of::<Session>());
    }
}
