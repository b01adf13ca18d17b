//! One shared subscription group: its members, what waits, and who is next.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashSet;
use slab::Slab;

use super::sticky::Sticky;
use crate::config::settings::{SharingSettings, Strategy};
use crate::message::{Message, Millis, NEVER, Via};
use crate::topic::SubscriptionOptions;

/// One member's stay in a group.
#[derive(Debug)]
pub struct Member {
    /// Shard of its session.
    pub shard: u16,
    /// Slab key of its session there.
    pub session: u32,
    /// Which stay; set anew whenever it comes back.
    pub stay: u32,
    /// Options of its subscription.
    pub options: SubscriptionOptions,
    /// Connected. An absent member keeps its place while its session lasts.
    pub(super) present: bool,
    pub(super) sent: u64,
    pub(super) unsettled: usize,
    pub(super) unsettled_bytes: usize,
}

/// A group.
#[derive(Debug)]
pub struct Group {
    /// `$share/{name}/{filter}`.
    pub text: Arc<str>,
    pub(super) strategy: Strategy,
    pub(super) key_level: Option<usize>,
    pub(super) members: Slab<Member>,
    /// Slots of the members that are present, in the order they came.
    pub(super) present: Vec<u32>,
    pub(super) turn: usize,
    pub(super) sticky: Sticky,
    /// Came back from lost members: goes out before the backlog.
    pub(super) returned: VecDeque<Waits>,
    pub(super) backlog: VecDeque<Waits>,
    pub(super) backlog_bytes: usize,
    pub(super) backlog_max: usize,
    pub(super) backlog_max_bytes: usize,
    /// Nothing that waits expires before.
    pub(super) soonest: Millis,
    /// Deliveries to lost members that will still bounce; nothing goes out before they have.
    pub(super) settling: u64,
    /// What it is given outlives a restart: it is the desk's, or has a member whose session does.
    pub(super) kept: bool,
    /// Numbers of messages that are written down and not settled. Some are at members that have left.
    pub(super) written: HashSet<u64, ahash::RandomState>,
    /// A desk group: it stays when it has no members, and its length is shown to the shards that fill it.
    pub(super) desk: Option<Arc<Waiting>>,
}

/// A message that waits, with its number in the group.
pub(super) type Waits = (u64, Arc<Message>);

/// How much waits in a desk group's backlog, for the shards that fill it.
#[derive(Debug, Default)]
pub struct Waiting {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    /// Whether a bound of the backlog is reached.
    pub fn reached(&self, bound: Caps) -> bool {
        self.messages.load(Ordering::Acquire) >= bound.messages
            || self.bytes.load(Ordering::Acquire) >= bound.bytes
    }
}

/// A message with the member it goes to.
#[derive(Debug)]
pub struct Assigned {
    /// Shard of the member.
    pub shard: u16,
    /// Slab key of its session there.
    pub session: u32,
    /// Options of its subscription.
    pub options: SubscriptionOptions,
    /// The way back.
    pub via: Via,
    /// It is sent at QoS > 0 and will be settled.
    pub counted: bool,
}

/// What became of a message given to a group.
#[derive(Debug)]
pub enum Chosen {
    /// It goes to this member.
    Member(Assigned),
    /// It has to wait in the backlog under this number: give it to `Groups::wait`.
    Wait(u64),
}

/// How many messages a group could not keep.
pub type Lost = usize;

/// The numbers of messages that a group is done with.
pub(super) type Numbers = Vec<u64>;

/// What a group leaves behind when it is over.
#[derive(Debug, Default)]
pub struct Over {
    /// Messages that nobody has had.
    pub lost: Lost,
    /// What it had written down.
    pub written: Numbers,
}

impl Group {
    pub(super) fn new(text: Arc<str>, settings: &SharingSettings) -> Self {
        let (name, filter) = split(&text);
        let rule = settings.groups.iter().find(|r| r.filter_or_name == name || r.filter_or_name == filter);
        Self {
            strategy: rule.map_or(settings.default, |r| r.strategy),
            key_level: rule.and_then(|r| r.key_level),
            text,
            members: Slab::new(),
            present: Vec::new(),
            turn: 0,
            sticky: Sticky::default(),
            returned: VecDeque::new(),
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            backlog_max: settings.backlog_messages,
            backlog_max_bytes: settings.backlog_bytes,
            soonest: NEVER,
            settling: 0,
            kept: false,
            written: HashSet::default(),
            desk: None,
        }
    }

    /// The filter behind the name.
    pub fn filter(&self) -> &str {
        split(&self.text).1
    }

    /// Messages that wait, and their bytes.
    pub fn waiting(&self) -> (usize, usize) {
        (self.returned.len() + self.backlog.len(), self.backlog_bytes)
    }

    /// Members, present or not.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Whether anything waits that has to go out before a new message.
    pub(super) fn idle(&self) -> bool {
        self.settling == 0 && self.returned.is_empty() && self.backlog.is_empty()
    }

    /// The sticky key of a topic: one of its levels, counted from 1, or the whole of it.
    pub(super) fn key_of(&self, topic: &str, hasher: &ahash::RandomState) -> u64 {
        let level = self.key_level.and_then(|n| topic.split('/').nth(n.saturating_sub(1)));
        hasher.hash_one(level.unwrap_or(topic))
    }

    pub(super) fn has_room(&self, slot: u32, caps: Caps) -> bool {
        self.members
            .get(slot as usize)
            .is_some_and(|m| m.present && m.unsettled < caps.messages && m.unsettled_bytes < caps.bytes)
    }

    pub(super) fn stay(&self, slot: u32) -> Option<u32> {
        self.members.get(slot as usize).map(|member| member.stay)
    }

    pub(super) fn choose(&mut self, topic: &str, caps: Caps, dice: &mut Dice<'_>) -> Option<u32> {
        match self.strategy {
            Strategy::Sticky => {
                let key = self.key_of(topic, dice.hasher);
                if let Some((slot, stay)) = self.sticky.get(key)
                    && self.stay(slot) == Some(stay)
                    && self.has_room(slot, caps)
                {
                    return Some(slot);
                }
                // Rendezvous hashing: a key whose memory was lost finds the same member again.
                let open = self.present.iter().copied().filter(|&slot| self.has_room(slot, caps));
                let slot = open.max_by_key(|slot| dice.hasher.hash_one((key, slot)))?;
                if let Some(stay) = self.stay(slot) {
                    self.sticky.set(key, (slot, stay));
                }
                Some(slot)
            }
            Strategy::RoundRobin => self.next_in_turn(caps),
            Strategy::Random => {
                if self.present.is_empty() {
                    return None;
                }
                self.turn = dice.random.usize(..self.present.len());
                self.next_in_turn(caps)
            }
            Strategy::LeastInflight => {
                self.turn = self.turn.wrapping_add(1);
                let (count, turn) = (self.present.len(), self.turn);
                let open = (0..count)
                    .filter_map(|i| self.present.get(turn.wrapping_add(i) % count).copied())
                    .filter(|&slot| self.has_room(slot, caps));
                open.min_by_key(|&slot| self.members.get(slot as usize).map_or(0, |m| m.unsettled))
            }
        }
    }

    pub(super) fn next_in_turn(&mut self, caps: Caps) -> Option<u32> {
        for _ in 0..self.present.len() {
            let slot = self.present.get(self.turn % self.present.len()).copied();
            self.turn = self.turn.wrapping_add(1);
            if let Some(slot) = slot.filter(|&slot| self.has_room(slot, caps)) {
                return Some(slot);
            }
        }
        None
    }

    pub(super) fn assign(
        &mut self,
        slot: u32,
        (weight, counted): (usize, bool),
        place: (u16, u32),
        number: u64,
    ) -> Option<Assigned> {
        let number = NonZeroU64::new(number)?;
        let member = self.members.get_mut(slot as usize)?;
        member.sent += 1;
        if counted {
            member.unsettled += 1;
            member.unsettled_bytes += weight;
        }
        Some(Assigned {
            shard: member.shard,
            session: member.session,
            options: member.options,
            via: Via { home: place.0, group: place.1, member: slot, stay: member.stay, number },
            counted,
        })
    }

    /// Puts a message behind the backlog. `Err`: there is no room, or nobody will ever come for it.
    ///
    /// A desk group takes all: its publishers are refused as soon as they see it full. What was on its way through
    /// the mailboxes meanwhile is acknowledged already.
    pub(super) fn wait(&mut self, number: u64, message: Arc<Message>) -> Result<(), Lost> {
        let room = !self.members.is_empty()
            && self.backlog.len() < self.backlog_max
            && self.backlog_bytes + message.weight() <= self.backlog_max_bytes;
        if self.desk.is_none() && !room {
            return Err(1);
        }
        self.backlog_bytes += message.weight();
        self.soonest = self.soonest.min(message.expires_at());
        self.backlog.push_back((number, message));
        self.show();
        Ok(())
    }

    pub(super) fn take_waiting(&mut self) -> Option<Waits> {
        if let Some(waits) = self.returned.pop_front() {
            return Some(waits);
        }
        let waits = self.backlog.pop_front()?;
        self.backlog_bytes -= waits.1.weight();
        self.show();
        Some(waits)
    }

    pub(super) fn first_waiting(&self) -> Option<&Waits> {
        self.returned.front().or_else(|| self.backlog.front())
    }

    pub(super) fn show(&self) {
        if let Some(shown) = &self.desk {
            shown.messages.store(self.backlog.len(), Ordering::Release);
            shown.bytes.store(self.backlog_bytes, Ordering::Release);
        }
    }

    /// What comes back from a lost member.
    pub(super) fn take_back(&mut self, messages: impl IntoIterator<Item = Waits>) {
        for waits in messages {
            self.soonest = self.soonest.min(waits.1.expires_at());
            self.returned.push_back(waits);
        }
    }

    pub(super) fn drop_expired(&mut self, now: Millis) -> Numbers {
        let mut dropped = Numbers::new();
        let mut soonest = NEVER;
        let mut stays = |(number, message): &Waits| {
            let stays = !message.expired(now);
            if stays {
                soonest = soonest.min(message.expires_at());
            } else {
                dropped.push(*number);
            }
            stays
        };
        self.returned.retain(&mut stays);
        self.backlog.retain(&mut stays);
        self.backlog_bytes = self.backlog.iter().map(|(_, message)| message.weight()).sum();
        self.soonest = soonest;
        self.show();
        dropped
    }
}

/// What one member may have unsettled before it counts as full.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Messages.
    pub messages: usize,
    /// Bytes.
    pub bytes: usize,
}

pub(super) struct Dice<'a> {
    pub(super) hasher: &'a ahash::RandomState,
    pub(super) random: &'a mut fastrand::Rng,
}

/// `$share/{name}/{filter}` into name and filter.
pub fn split(text: &str) -> (&str, &str) {
    text.strip_prefix("$share/").and_then(|rest| rest.split_once('/')).unwrap_or(("", text))
}
