//! Crashes: everything but what the store has committed is lost, and what a restart may legally bring back.

use std::sync::Arc;

use switchboard::config::settings::Settings;
use switchboard::message::Millis;
use switchboard::metrics::DropReason;
use switchboard::session::Session;
use switchboard::shard::restore::restore;
use switchboard::shard::{Core, Exchange};
use switchboard::store::{Memory, Store, Table};

use super::client::{Held, SessionModel, WITNESS};
use super::oracle::Fate;
use super::plan::pick;
use super::world::{TICK, World};

/// Reasons to drop a message that excuse that it never came.
const EXCUSES: [DropReason; 4] =
    [DropReason::QueueFull, DropReason::SharedBacklogFull, DropReason::TooLarge, DropReason::Expired];

/// A session as the restart has brought it back.
#[derive(Clone, Copy, Debug)]
struct Back {
    stored: u64,
    expiry: u32,
    ends_at: Millis,
    will: Option<(usize, Millis)>,
}

impl SessionModel {
    /// What a client knows of a session that it had given up: nothing that is under way. What it subscribed to explains
    /// what comes, and promises nothing.
    pub fn half_forgotten(mut self) -> Self {
        self.out.clear();
        self.taken.clear();
        self.asked.clear();
        self.subs.values_mut().for_each(|sub| sub.certain = None);
        self.vague = true;
        self
    }
}

impl World {
    /// An answer has come that waits for the store if the session is kept, and with it all that the session was when
    /// the connection was let in.
    pub fn firm(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else { return };
        let (c, connection) = (&mut self.clients[client], &mut self.links[link]);
        let greeting = &connection.greeting;
        if if c.v5 { greeting.expiry > 0 } else { !greeting.clean } {
            connection.solid = true;
            c.truth.solid = Some((connection.instance, link));
        }
    }

    fn session_of(&self, client: usize) -> Option<&Session> {
        let id = &self.clients[client].id;
        let clients = &self.cores[usize::from(self.exchange.home(id))].clients;
        clients.sessions.get(clients.find(id)? as usize)
    }

    /// Notes under which number the store knows a session.
    pub fn learn_number(&mut self, client: usize, instance: u64) {
        if let Some(stored) = self.session_of(client).map(|s| s.stored).filter(|&stored| stored != 0) {
            self.oracle.stored.insert(stored, instance);
        }
    }

    /// Every connection breaks, and every shard forgets. A new process begins with what is durable.
    pub fn crash(&mut self) {
        let Some(store) = self.store.take() else { return };
        for reason in EXCUSES {
            let dropped = self.drops(reason);
            let all = &mut self.oracle.dropped;
            all.resize(all.len().max(reason as usize + 1), 0);
            all[reason as usize] = dropped;
        }
        self.oracle.crashed_at = self.now;
        self.cut_all();
        let shards = if self.chance(3) { self.rng.usize(1..=4) } else { self.cores.len() };
        self.note(|| format!("CRASH, back with {shards} shards"));
        self.begin(Arc::new(store.crash(shards)), shards);
        self.relearn();
        self.forgive();
    }

    fn cut_all(&mut self) {
        for link in std::mem::take(&mut self.live) {
            let link = &mut self.links[link];
            link.up.clear();
            link.down.clear();
            (link.place, link.down_closed, link.up_closed, link.detached) =
                (None, true, Some(self.now), true);
        }
        for client in 0..self.clients.len() {
            self.let_go(client);
            self.clients[client].truth.breaks += 1;
        }
    }

    fn begin(&mut self, store: Arc<Memory>, shards: usize) {
        self.oracle.stats.crashes += 1;
        let crashes = self.oracle.stats.crashes;
        let settings = Arc::new(Settings { shards, ..(*self.plan.settings).clone() });
        let seed = self.plan.seed ^ crashes << 40;
        self.exchange = Arc::new(Exchange::new(settings, None, Some(store.clone()), seed));
        self.born = self.now - *pick(&mut self.rng, &[0, 1, 77, 1_000]);
        let clock = self.clock();
        self.cores = (0..shards)
            .map(|id| Core::new(id as u16, self.exchange.clone(), clock, seed ^ (id as u64) << 32))
            .collect();
        self.sockets = vec![Vec::new(); shards];
        self.moving = vec![Vec::new(); shards];
        self.woken = vec![false; shards];
        self.next_tick = vec![self.now + TICK; shards];
        match restore(&mut self.cores, &*store, &mut |_, _, _| {}) {
            Ok(report) => {
                self.note(|| format!("{report:?}"));
                let stats = &mut self.oracle.stats;
                stats.restored_sessions += report.sessions as u64;
                stats.restored_deliveries += report.owed as u64;
                stats.restored_in_groups += report.given as u64;
                stats.restored_retained += report.retained as u64;
                if report.unreadable > 0 {
                    self.fail(format!("documents cannot be read: {:?}", report.named));
                }
            }
            Err(error) => self.fail(format!("the store cannot be read: {error}")),
        }
        self.store = Some(store);
    }

    fn back(&self, client: usize) -> Option<Back> {
        let session = self.session_of(client)?;
        let will = session.will.as_ref().map(|will| {
            let payload = will.message.payload();
            let number = payload.split(|b| *b == b':').next().and_then(|n| str::from_utf8(n).ok());
            let due = will.due.min(session.ends_at) + self.born;
            (number.and_then(|n| n.parse().ok()).unwrap_or(usize::MAX), due)
        });
        let Session { stored, expiry, ends_at, .. } = *session;
        Some(Back { stored, expiry, ends_at: ends_at.saturating_add(self.born), will })
    }

    /// Takes over what the broker holds now, as far as the crash left it a choice.
    fn relearn(&mut self) {
        let known = std::mem::take(&mut self.oracle.stored);
        let seen = self.clients[WITNESS].session.seen.clone();
        let mut pending = Vec::new();
        for client in 0..self.clients.len() {
            let back = self.back(client);
            let instance = back.map(|back| known.get(&back.stored).copied());
            if instance == Some(None) {
                return self.fail(format!("c{client} never had the session {back:?}"));
            }
            let back = back.zip(instance.flatten());
            self.judge_back(client, back);
            let truth = &mut self.clients[client].truth;
            let again = back.and_then(|(back, _)| back.will).map(|(will, _)| will);
            if let Some((will, _)) = truth.will.take().filter(|(will, _)| Some(*will) != again) {
                // If it was durable and is gone, it was published for good.
                self.oracle.wills.entry(will).or_insert(Fate::Must);
            }
            let truth = &mut self.clients[client].truth;
            truth.session = back.map(|(back, instance)| Held {
                instance,
                attached: None,
                expiry: back.expiry,
                lapses: back.ends_at,
            });
            if let Some((back, instance)) = back {
                self.oracle.stored.insert(back.stored, instance);
                truth.will = back.will;
                pending.extend(back.will.map(|(will, _)| will));
            }
        }
        let sessions: usize = self.cores.iter().map(|core| core.clients.sessions.len()).sum();
        let mine = self.clients.iter().filter(|c| c.truth.session.is_some()).count();
        if sessions != mine {
            return self.fail(format!("{sessions} sessions are back, of {mine} clients"));
        }
        for will in pending {
            // If it was published, that was not durable.
            let published = self.oracle.wills.remove(&will) == Some(Fate::Must) || seen.contains_key(&will);
            self.oracle.messages[will].crashed += u32::from(published);
        }
        let links = &self.links;
        let solid = |will: usize| {
            links.iter().any(|l| l.solid && l.greeting.will.as_ref().is_some_and(|w| w.message == will))
        };
        for (will, fate) in &mut self.oracle.wills {
            if *fate == Fate::Must && !seen.contains_key(will) && !solid(*will) {
                *fate = Fate::May;
            }
        }
    }

    /// A session of which the client has seen anything durable must be back, and be what it was.
    fn judge_back(&mut self, client: usize, back: Option<(Back, u64)>) {
        let now = self.now;
        let Some((instance, link)) = self.clients[client].truth.solid else { return };
        if back.is_some_and(|(_, back)| back < instance) {
            return self.fail(format!("c{client} gets back a session that a durable one has replaced"));
        }
        let held = self.clients[client].truth.session;
        let held = held.filter(|held| held.expiry > 0 && (held.attached.is_some() || held.lapses > now));
        let Some(held) = held.filter(|held| held.instance == instance) else { return };
        let Some((back, _)) = back.filter(|(_, back)| *back == instance) else {
            return self.fail(format!("c{client} has lost its session: {back:?} instead of {held:?}"));
        };
        let lapses = now + u64::from(held.expiry) * 1000;
        if held.attached != Some(link) {
            return;
        }
        if (back.expiry, back.ends_at) != (held.expiry, lapses) {
            return self.fail(format!("c{client} was connected, {held:?} came back as {back:?}"));
        }
        let will = self.links[link].greeting.will.as_ref();
        let will = will.map(|will| (will.message, now + u64::from(will.delay.min(held.expiry)) * 1000));
        if back.will != will {
            self.fail(format!("c{client} had the will {will:?} and came back with {:?}", back.will));
        }
    }

    /// What may be otherwise than it would be without a crash.
    fn forgive(&mut self) {
        let messages = &mut self.oracle.messages;
        for sent in messages.iter_mut().filter(|sent| sent.acked.is_none() && sent.sends > 0) {
            sent.crashed += 1;
        }
        // A retained value whose publisher was not sure of it may be gone again.
        for client in &mut self.clients {
            let sessions = client.former.values_mut().chain([&mut client.session]);
            for (topic, newest) in sessions.flat_map(|session| &mut session.newest) {
                let sure =
                    (0..=*newest).rev().find(|&m| messages[m].acked.is_some() && messages[m].topic == *topic);
                *newest = sure.unwrap_or(0);
            }
        }
        // Which retained messages a new subscription was still to be shown is not written down.
        self.oracle.shown.clear();
        // What a member of a group had done with and that was not durable goes out again, to any member, at QoS 2 too.
        self.oracle.visits.values_mut().flatten().for_each(|visit| visit.qos = 0);
    }

    /// Everybody with a session is there and has acknowledged all: nothing of that is left in the store.
    pub fn judge_settled(&mut self) {
        let Some(store) = self.store.clone() else { return };
        let sessions: usize = self.cores.iter().map(|core| core.clients.sessions.len()).sum();
        if sessions > self.clients.iter().filter(|client| client.open).count() {
            // One has lapsed that no tick has seen.
            return;
        }
        for table in [Table::Received, Table::Owed, Table::Bodies, Table::Groups] {
            // A client that has forgotten what it was about to release never does.
            if table == Table::Received && self.clients.iter().any(|client| client.session.vague) {
                continue;
            }
            let left = store.count(table);
            if left > 0 {
                let mut keys = Vec::new();
                let _ = store.load(table, &mut |key, _| keys.push(key.escape_ascii().to_string()));
                let name = table.name();
                return self
                    .fail(format!("{left} documents are left in {name} though all is done: {keys:?}"));
            }
        }
    }

    /// Nobody is left, and nothing of them in the store.
    pub fn judge_store(&mut self) {
        let Some(store) = self.store.clone() else { return };
        store.commit();
        let retained: u64 = self.cores.iter().map(|core| core.gauges().retained_messages).sum();
        for table in Table::ALL {
            let expected = if table == Table::Retained { retained as usize } else { 0 };
            let mut keys = Vec::new();
            let _ = store.load(table, &mut |key, _| keys.push(key.escape_ascii().to_string()));
            if keys.len() != expected {
                let name = table.name();
                return self.fail(format!("{expected} documents should be left in {name}: {keys:?}"));
            }
        }
        let waiting: usize = (0..self.cores.len()).map(|lane| store.waiting(lane as u16)).sum();
        if waiting > 0 {
            self.fail(format!("{waiting} bytes never become durable"));
        }
    }
}
