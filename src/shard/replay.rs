//! Showing retained messages to new subscriptions: page by page, as the client takes them.
//!
//! Pages come from the shards where topics live. A session has at most one page in hand and one question under way,
//! and one page is worked off a turn for each of a few sessions, so a subscriber of everything costs the others nothing
//! they would notice.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::Core;
use super::door::granted;
use super::mailbox::{Mail, Page, Question};
use super::wire::Outgoing;
use crate::message::{Message, SubscriptionIds};
use crate::protocol::QoS;
use crate::session::Replay;
use crate::topic::SubscriptionOptions;

/// Unsent bytes of a connection at which a replay waits.
const ROOM: usize = 64 * 1024;

/// Sessions whose replays go on in one turn.
const REPLAYS: usize = 1024;

/// Pages of wildcard filters that are filled in one turn.
const WALKS: usize = 32;

/// How much less of both is done in a turn of a shard that is overloaded.
const SLOWER: usize = 16;

fn is_exact(filter: &str) -> bool {
    !filter.bytes().any(|b| b == b'+' || b == b'#')
}

/// What a replay does next.
enum Next {
    Show(Arc<Message>, SubscriptionOptions),
    Ask(Question, u16),
    Wait,
    Over,
}

impl Core {
    /// Notes that a new subscription is to be shown what is retained [MQTT-3.3.1-9].
    pub(super) fn queue_replay(&mut self, session: u32, filter: Arc<str>, options: SubscriptionOptions) {
        let retained = self.exchange.retained.load(Ordering::Acquire);
        // What the broker says of itself is not counted.
        let own = self.own(&filter) || self.has_floors();
        let nothing = retained == 0 && self.exchange.shards() == 1 && !own;
        if !self.exchange.settings.retained.enabled || nothing {
            return;
        }
        let shard = if is_exact(&filter) { self.exchange.home(&filter) } else { 0 };
        let number = self.next_number();
        let Some(target) = self.clients.sessions.get_mut(session as usize) else { return };
        let replay = target.replay.get_or_insert_with(|| Box::new(Replay { number, ..Replay::default() }));
        replay.cancel(&filter, number);
        replay.add(filter, options, shard);
        self.replay_later(session);
    }

    /// Ends the replay of one filter.
    pub(super) fn cancel_replay(&mut self, session: u32, filter: &str) {
        let number = self.next_number();
        if let Some(replay) = self.replay_of(session) {
            replay.cancel(filter, number);
        }
    }

    /// Has a session's replay, if there is one, go on at the end of the turn.
    #[inline]
    pub(super) fn replay_later(&mut self, session: u32) {
        if let Some(replay) = self.replay_of(session)
            && !std::mem::replace(&mut replay.listed, true)
        {
            self.replaying.push_back(session);
        }
    }

    /// Goes on with the replays whose turn it is.
    pub(super) fn replay_all(&mut self) {
        if self.replaying.is_empty() {
            return;
        }
        // A publisher that has not seen a new subscription's interest has posted what is to be retained before that,
        // see `tell_new_subscribers`.
        fence(Ordering::SeqCst);
        self.catch_up();
        let slower = if self.is_overloaded() { SLOWER } else { 1 };
        let mut walks = 0;
        for _ in 0..self.replaying.len().min(REPLAYS / slower) {
            let Some(session) = self.replaying.pop_front() else { return };
            if let Some(replay) = self.replay_of(session) {
                replay.listed = false;
                walks += usize::from(self.replay(session));
            }
            if walks >= WALKS / slower {
                return;
            }
        }
    }

    /// Shows what has come and asks for more, as far as the client takes it. `true`: a wildcard's page was filled here.
    fn replay(&mut self, session: u32) -> bool {
        let (mut asked_here, mut walked) = (false, false);
        loop {
            match self.next_of_replay(session) {
                Next::Show(message, options) => self.show(session, &message, options),
                Next::Ask(question, shard) if shard == self.id => {
                    if asked_here {
                        // One page a turn.
                        self.replay_later(session);
                        return walked;
                    }
                    asked_here = true;
                    walked = !is_exact(&question.filter);
                    if let Some(page) = self.answer(&question) {
                        self.page(page);
                    } else {
                        if let Some(replay) = self.replay_of(session) {
                            replay.asked = true;
                        }
                        return walked;
                    }
                }
                Next::Ask(question, shard) => {
                    if let Some(replay) = self.replay_of(session) {
                        replay.asked = true;
                    }
                    self.post(shard, Mail::Ask(Box::new(question)));
                    return walked;
                }
                Next::Wait => return walked,
                Next::Over => {
                    if let Some(target) = self.clients.sessions.get_mut(session as usize) {
                        target.replay = None;
                    }
                    return walked;
                }
            }
        }
    }

    fn replay_of(&mut self, session: u32) -> Option<&mut Replay> {
        self.clients.sessions.get_mut(session as usize)?.replay.as_deref_mut()
    }

    fn next_of_replay(&mut self, session: u32) -> Next {
        let number = self.next_number();
        let (now, shards) = (self.clients.now.mono, self.exchange.shards());
        let Some(target) = self.clients.sessions.get_mut(session as usize) else { return Next::Over };
        let (generation, outbox) = (target.generation, target.outbox.as_deref());
        let Some(client) = self.clients.connections.get(target.connection as usize) else {
            return Next::Wait;
        };
        let Some(replay) = target.replay.as_deref_mut() else { return Next::Over };
        replay.renew(number);
        loop {
            let Some(mut first) = replay.filters.first_entry() else { return Next::Over };
            let (round, filter) = (*first.key(), first.get_mut());
            if let Some(message) = filter.page.front() {
                let view = message.view();
                let acknowledged = view.qos.min(granted(filter.options)) != QoS::AtMostOnce;
                let open = outbox.is_none_or(|o| o.open(client.link.receive_maximum));
                if client.out.len() >= ROOM || (acknowledged && !open) {
                    return Next::Wait;
                }
                let old =
                    message.expired(now) || replay.seen.get(view.topic).is_some_and(|seen| *seen >= round);
                let options = filter.options;
                match filter.page.pop_front() {
                    Some(message) if !old => return Next::Show(message, options),
                    _ => continue,
                }
            }
            if replay.asked {
                return Next::Wait;
            }
            if filter.shard >= shards {
                replay.rounds.remove(&first.remove().filter);
                continue;
            }
            filter.asked = (filter.shard, filter.after.clone());
            let question = Question {
                shard: self.id,
                session: (session, generation),
                number: replay.number,
                filter: filter.filter.clone(),
                after: filter.after.clone(),
            };
            return Next::Ask(question, filter.shard);
        }
    }

    /// A page has come from another shard, or in a later turn.
    pub(super) fn page_came(&mut self, page: Page) {
        let (session, _) = page.session;
        self.page(page);
        self.replay_later(session);
    }

    /// A page is there.
    pub(super) fn page(&mut self, page: Page) {
        let (key, generation) = page.session;
        let shards = self.exchange.shards();
        let Some(target) = self.clients.sessions.get_mut(key as usize) else { return };
        if target.generation != generation {
            return;
        }
        let Some(replay) = target.replay.as_deref_mut().filter(|r| r.number == page.number) else { return };
        replay.asked = false;
        let Some(mut first) = replay.filters.first_entry() else { return };
        let filter = first.get_mut();
        filter.page.extend(page.messages);
        filter.after = page.after;
        if filter.after.is_none() {
            filter.shard = if is_exact(&filter.filter) { shards } else { filter.shard + 1 };
        }
    }

    /// Sends one retained message; RETAIN says that it is one [MQTT-3.3.1-8].
    fn show(&mut self, session: u32, message: &Arc<Message>, options: SubscriptionOptions) {
        let view = message.view();
        let ids = options.id().map_or(SubscriptionIds::None, SubscriptionIds::One);
        let mut outgoing: Outgoing<'_> = self.clients.outgoing(view, false);
        outgoing.owned = Some(message.clone());
        outgoing.recall(&self.clients.expanded);
        self.clients.deliver(session, view.qos.min(granted(options)), true, &ids, &mut outgoing, None);
        self.clients.delivered(outgoing);
        self.clients.counters.retained_replayed += 1;
    }
}
