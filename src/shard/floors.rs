//! The floors of the tenants that live on this shard: what is told to them, and what is stored and said of them.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Core;
use super::announcing::Saying;
use super::desk::json_properties;
use super::errands::{Errand, What};
use super::publish::Refused;
use super::threads::quota;
use crate::desk::{
    Changes, Control, Done, Event, Floor, OfferNote, OfferWhy, PREFIX, Phase, Reason, RecordError, Wrong,
    announce,
};
use crate::message::{Millis, NEVER};
use crate::metrics::{DeskOffer, DeskPhase};
use crate::protocol::put_str;
use crate::store::Table;

/// Customers whose place is looked at in a second, and how often all are at most.
const PLACES: usize = 1_000;
const PLACES_EVERY: Millis = 5_000;

/// Agents that `control/explain` tells of.
const CANDIDATES: usize = 5;

/// How often the states of queues are said at most.
const STATES_EVERY: Millis = 1_000;

/// All that is stored of a group that takes no new conversations; the form of that.
const DRAINED: u8 = 1;

/// The Response Topic's identifier among properties.
const RESPONSE_TOPIC_ID: u8 = 0x08;

/// A floor, and what was said of it last.
#[derive(Debug)]
struct Host {
    floor: Floor,
    /// Groups whose state has changed since it was said, and how often each was.
    stale: Vec<u16>,
    versions: Vec<u64>,
    /// What customers who wait were told last: position and seconds.
    told: HashMap<u32, (Option<usize>, Option<u64>), ahash::RandomState>,
    /// Where the next look at places begins, and when.
    next_place: u32,
    places_at: Millis,
    states_at: Millis,
}

/// All floors of a shard, by tenant.
#[derive(Debug, Default)]
pub(super) struct Floors(HashMap<Arc<str>, Host, ahash::RandomState>);

impl Floors {
    fn names(&self) -> Vec<Arc<str>> {
        self.0.keys().cloned().collect()
    }
}

impl Core {
    /// Opens the floors that live on this shard.
    pub(super) fn open_floors(&mut self) {
        let exchange = self.exchange.clone();
        let Some(desk) = &exchange.desk else { return };
        for tenant in desk.routing.tenants().filter(|tenant| tenant.has_assigned()) {
            if self.floor_home(tenant.name()) != self.id {
                continue;
            }
            let assigned = tenant.groups().filter_map(|g| Some((g.name.clone(), g.assigned.clone()?)));
            let floor = Floor::new(assigned, self.random.u64(..) >> 16);
            // No process says a queue's state more than once a second, so the next one's versions are higher.
            let versions = floor.groups().map(|_| self.desk_now()).collect();
            let stale = floor.groups().collect();
            let host = Host {
                floor,
                stale,
                versions,
                told: HashMap::default(),
                next_place: 0,
                places_at: 0,
                states_at: 0,
            };
            self.floors.0.insert(tenant.name().into(), host);
        }
    }

    /// Whether any tenant of this shard has a floor.
    pub(super) fn has_floors(&self) -> bool {
        !self.floors.0.is_empty()
    }

    /// The desk's time: milliseconds since the epoch that never go back.
    pub(super) fn desk_now(&self) -> u64 {
        self.epoch + self.clients.now.mono
    }

    /// Something for a floor.
    pub(super) fn on_floor(&mut self, tenant: &Arc<str>, what: What) -> Result<(), Refused> {
        let (now, wall) = (self.desk_now(), self.clients.now);
        let exchange = self.exchange.clone();
        let desk = exchange.desk.as_ref();
        let Some(host) = self.floors.0.get_mut(tenant) else { return Ok(()) };
        let floor = &mut host.floor;
        let answer = match what {
            What::Open(opening) => {
                // Its group has taken it: it is in the rules, which do not change while the process lasts.
                let known = floor.open(now, *opening);
                debug_assert!(known.is_ok(), "a group of the rules is on the floor");
                None
            }
            What::Leave { conversation, back, .. } => {
                let left = floor.leave(now, conversation).map(|()| conversation);
                Some((back, announce::wish("leave", left)))
            }
            What::Presence { agent, presence, link } => {
                if let Err(wrong) = floor.presence(now, &agent, &presence, link) {
                    debug_assert_eq!(wrong, Wrong::TooMany, "its groups were looked up");
                    return Err(quota());
                }
                None
            }
            What::Lost { agent, link } => {
                floor.lost(now, &agent, link);
                None
            }
            What::Answer(answer, back) => {
                let done = floor.answer(now, &answer).map(|done| done.0);
                Some((back, announce::result(&answer, done)))
            }
            What::Control(control, back) => {
                let done = match &*control {
                    Control::Requeue(conversation) => floor.put_back(now, *conversation).map(Some),
                    Control::Close(conversation) => floor.end(now, *conversation).map(Some),
                    Control::Assign(conversation, agent, override_) => {
                        floor.take_over(now, *conversation, agent, *override_).map(Some)
                    }
                    Control::DrainAgent(agent) => floor.drain_agent(now, agent).map(|()| None),
                    Control::DrainGroup(group, drain) => floor.drain_group(now, group, *drain).map(|()| None),
                };
                let done = done.map(|done| done.map(|Done(conversation)| conversation));
                Some((back, announce::done(control.name(), done)))
            }
            What::Prospect(opening, answer, back) => {
                floor.tick(now);
                let status = desk.map_or("closed", |desk| desk.status(tenant, &opening.group, wall));
                let prospect = floor.prospect(&opening, CANDIDATES);
                prospect.map(|prospect| (back, announce::explanation(answer, &prospect, status)))
            }
            What::Write { .. }
            | What::Reply { .. }
            | What::Put { .. }
            | What::Wish { .. }
            | What::Order(_)
            | What::Explain(..) => None,
        };
        self.flush_floor(tenant);
        if let Some((back, answer)) = answer {
            self.respond(&back, &answer);
        }
        Ok(())
    }

    /// Stores what has changed on a floor, and has it said.
    fn flush_floor(&mut self, tenant: &Arc<str>) {
        let Some(mut host) = self.floors.0.remove(tenant) else { return };
        let changes = host.floor.take_changes();
        if !changes.is_empty() {
            self.store_changes(tenant, &host.floor, &changes);
            self.say_changes(tenant, &mut host, &changes);
        }
        self.floors.0.insert(tenant.clone(), host);
        // Where the customer lives here as well they are obeyed at once, and may bring something for the floor.
        for order in changes.orders {
            let errand = Errand { tenant: tenant.clone(), what: What::Order(order) };
            // The floor decides; nobody can refuse it.
            let _ = self.send(errand, false);
        }
    }

    fn store_changes(&mut self, tenant: &Arc<str>, floor: &Floor, changes: &Changes) {
        let ledger = &mut self.clients.ledger;
        for key in &changes.conversations {
            if let Some(conversation) = floor.conversation(*key) {
                ledger.put(
                    Table::Conversations,
                    |out| put_key(out, tenant, &conversation.id.to_be_bytes()),
                    |out| floor.conversation_record(*key, out),
                );
            }
        }
        for ended in &changes.ended {
            let id = ended.conversation.to_be_bytes();
            ledger.delete(Table::Conversations, |out| put_key(out, tenant, &id));
        }
        for key in &changes.agents {
            if let Some(agent) = floor.agent(*key) {
                ledger.put(
                    Table::Agents,
                    |out| put_key(out, tenant, agent.name.as_bytes()),
                    |out| floor.agent_record(*key, out),
                );
            }
        }
        for name in &changes.forgotten {
            ledger.delete(Table::Agents, |out| put_key(out, tenant, name.as_bytes()));
        }
        for (group, drained) in &changes.drained {
            let key = |out: &mut Vec<u8>| put_key(out, tenant, group.as_bytes());
            if *drained {
                ledger.put(Table::Drained, key, |out| out.push(DRAINED));
            } else {
                ledger.delete(Table::Drained, key);
            }
        }
    }

    fn say_changes(&mut self, tenant: &Arc<str>, host: &mut Host, changes: &Changes) {
        for event in &changes.events {
            self.say_event(tenant, event);
            self.count_event(event);
        }
        for (conversation, left) in &changes.moved {
            let topic = format!("{PREFIX}{tenant}/queue/{left}/waiting/{}", ulid::Ulid(*conversation));
            self.announce(Saying::state(&topic, &[], &[]));
        }
        let json = json_properties("application/json", None);
        for key in &changes.conversations {
            self.say_conversation(tenant, host, *key);
        }
        for note in &changes.offers {
            self.say_offer(tenant, note);
            self.clients.counters.desk_offers.bump(outcome_of(note.why));
        }
        for key in &changes.agents {
            if let Some(agent) = host.floor.agent(*key) {
                let topic = format!("{PREFIX}{tenant}/agent/{}/state", agent.name);
                self.announce(Saying::state(&topic, &announce::agent_state(&host.floor, *key, agent), &json));
            }
        }
        for name in &changes.forgotten {
            let topic = format!("{PREFIX}{tenant}/agent/{name}/state");
            self.announce(Saying::state(&topic, &[], &[]));
        }
        for group in &changes.groups {
            if !host.stale.contains(group) {
                host.stale.push(*group);
            }
        }
        for (group, drained) in &changes.drained {
            self.show_drained(tenant, group, *drained);
        }
        self.show_depths(tenant, host);
    }

    fn count_event(&mut self, event: &Event) {
        let counters = &mut self.clients.counters;
        if event.reason == Reason::Accepted {
            counters.desk_offers.bump(DeskOffer::Accepted);
        }
        counters.desk_transitions.bump(match event.to {
            Phase::New | Phase::Queued => DeskPhase::Queued,
            Phase::Offered => DeskPhase::Offered,
            Phase::Assigned => DeskPhase::Assigned,
            Phase::Held => DeskPhase::Held,
            Phase::Transferring => DeskPhase::Transferring,
            Phase::Wrapup => DeskPhase::Wrapup,
            Phase::Closed => DeskPhase::Closed,
            Phase::Abandoned => DeskPhase::Abandoned,
            Phase::Expired => DeskPhase::Expired,
        });
    }

    /// Conversations, those of them that wait, and agents with a connection.
    pub(super) fn count_floors(&self) -> (u64, u64, u64) {
        let floors = self.floors.0.values().map(|host| &host.floor);
        floors.fold((0, 0, 0), |(conversations, waiting, agents), floor| {
            let depth: u64 = floor.groups().map(|group| u64::from(floor.depth(group))).sum();
            let connected = floor.agents().filter(|(_, agent)| agent.connected()).count() as u64;
            (conversations + floor.len() as u64, waiting + depth, agents + connected)
        })
    }

    /// What the shards that fill the queues see of them.
    fn show_depths(&self, tenant: &str, host: &Host) {
        if let Some(desk) = &self.exchange.desk {
            for group in &host.stale {
                desk.show_depth(tenant, &host.floor.name_of(*group), host.floor.depth(*group));
            }
        }
    }

    /// What the shards that bring conversations see of it.
    fn show_drained(&self, tenant: &str, group: &str, drained: bool) {
        if let Some(desk) = &self.exchange.desk {
            desk.show_drained(tenant, group, drained);
        }
    }

    fn say_event(&mut self, tenant: &str, event: &Event) {
        let json = json_properties("application/json", None);
        let v = ulid::Ulid(event.conversation);
        let topic = format!("{PREFIX}{tenant}/conversation/{v}/events");
        self.announce(Saying::once(&topic, &announce::event(event), &json));
        let waiting = format!("{PREFIX}{tenant}/queue/{}/waiting/{v}", event.group);
        if event.from.waits() && !event.to.waits() {
            self.announce(Saying::state(&waiting, &[], &[]));
        }
        // What its agent still writes is no business of the customer, who may have begun another one meanwhile.
        if event.to.over() && event.from != Phase::Wrapup {
            let state = format!("{PREFIX}{tenant}/customer/{}/state", event.customer);
            self.announce(Saying::once(&state, &announce::customer_over(event), &json));
            self.announce(Saying::state(&state, &[], &[]));
        }
    }

    /// Says where a conversation stands, to its customer and to those who watch the queue.
    fn say_conversation(&mut self, tenant: &str, host: &mut Host, key: u32) {
        let json = json_properties("application/json", None);
        let Some(conversation) = host.floor.conversation(key) else { return };
        let (v, customer) = (ulid::Ulid(conversation.id), conversation.customer.clone());
        let group = host.floor.name_of(conversation.group);
        if let Some(waiting) = announce::waiting(&host.floor, key) {
            let topic = format!("{PREFIX}{tenant}/queue/{group}/waiting/{v}");
            self.announce(Saying::state(&topic, &waiting, &json));
        }
        if let Some(standing) = host.floor.standing(key) {
            host.told.insert(key, (standing.position, standing.eta_ms.map(|ms| ms / 1000)));
            if standing.position.is_none() {
                host.told.remove(&key);
            }
        }
        if let Some(state) = announce::customer_state(&host.floor, key) {
            let topic = format!("{PREFIX}{tenant}/customer/{customer}/state");
            self.announce(Saying::state(&topic, &state, &json));
        }
    }

    fn say_offer(&mut self, tenant: &str, note: &OfferNote) {
        let topic = format!("{PREFIX}{tenant}/agent/{}/offer", note.agent);
        let offer = ulid::Ulid(note.offer).to_string();
        let mut properties = json_properties("application/json", Some(offer.as_bytes()));
        let mut expires_at = NEVER;
        if !matches!(note.why, OfferWhy::Over(_)) {
            properties.push(RESPONSE_TOPIC_ID);
            put_str(&mut properties, &format!("{PREFIX}{tenant}/agent/{}/answer", note.agent));
            expires_at = note.deadline.saturating_sub(self.epoch);
        }
        let text = announce::offer(note);
        self.announce(Saying { expires_at, ..Saying::once(&topic, &text, &properties) });
    }

    /// Does what is due on the floors, and says what has changed with time alone.
    pub(super) fn tick_floors(&mut self) {
        let (now, mono) = (self.desk_now(), self.clients.now.mono);
        for tenant in self.floors.names() {
            if let Some(host) = self.floors.0.get_mut(&tenant)
                && host.floor.next_due().is_some_and(|due| due <= now)
            {
                host.floor.tick(now);
                self.flush_floor(&tenant);
            }
            let Some(mut host) = self.floors.0.remove(&tenant) else { continue };
            if host.states_at <= mono {
                host.states_at = mono + STATES_EVERY;
                self.say_queues(&tenant, &mut host);
                self.say_places(&tenant, &mut host);
            }
            self.floors.0.insert(tenant, host);
        }
    }

    fn say_queues(&mut self, tenant: &str, host: &mut Host) {
        let json = json_properties("application/json", None);
        let exchange = self.exchange.clone();
        let Some(desk) = &exchange.desk else { return };
        for group in std::mem::take(&mut host.stale) {
            let Some(queue) = host.floor.queue(group) else { continue };
            let ver = host.versions.get_mut(usize::from(group)).map_or(0, |ver| {
                *ver += 1;
                *ver
            });
            let status = desk.status(tenant, &queue.name, self.clients.now);
            let topic = format!("{PREFIX}{tenant}/queue/{}/state", queue.name);
            self.announce(Saying::state(&topic, &announce::queue_state(&queue, status, ver), &json));
        }
    }

    /// Tells customers who wait where they stand now, some at a time.
    fn say_places(&mut self, tenant: &str, host: &mut Host) {
        let mono = self.clients.now.mono;
        if host.next_place == 0 {
            if host.places_at > mono {
                return;
            }
            host.places_at = mono + PLACES_EVERY;
            // Those who wait get older.
            let waiting = host.floor.groups().filter(|group| host.floor.depth(*group) > 0);
            let aged: Vec<u16> = waiting.filter(|group| !host.stale.contains(group)).collect();
            host.stale.extend(aged);
        }
        let json = json_properties("application/json", None);
        let end = host.floor.end_of_keys();
        let last = host.next_place.saturating_add(PLACES as u32).min(end);
        for key in host.next_place..last {
            let Some(place) =
                host.floor.conversation(key).filter(|c| c.phase == Phase::Queued).and_then(|_| {
                    let standing = host.floor.standing(key)?;
                    Some((standing.position, standing.eta_ms.map(|ms| ms / 1000)))
                })
            else {
                continue;
            };
            if host.told.insert(key, place) == Some(place) {
                continue;
            }
            if let (Some(state), Some(c)) =
                (announce::customer_state(&host.floor, key), host.floor.conversation(key))
            {
                let topic = format!("{PREFIX}{tenant}/customer/{}/state", c.customer);
                self.announce(Saying::state(&topic, &state, &json));
            }
        }
        host.next_place = if last == end { 0 } else { last };
    }

    /// Puts back an agent.
    pub(super) fn restore_agent(&mut self, tenant: &str, record: &[u8]) -> Result<bool, RecordError> {
        let now = self.desk_now();
        let Some(host) = self.floors.0.get_mut(tenant) else { return Ok(false) };
        host.floor.restore_agent(now, record).map(|()| true)
    }

    /// Puts back a conversation.
    pub(super) fn restore_conversation(&mut self, tenant: &str, record: &[u8]) -> Result<bool, RecordError> {
        let now = self.desk_now();
        let Some(host) = self.floors.0.get_mut(tenant) else { return Ok(false) };
        host.floor.restore_conversation(now, record).map(|_| true)
    }

    /// A group takes no new conversations, as before. `None`: nobody can read that; `false`: there is no such group.
    pub(super) fn restore_drained(&mut self, tenant: &str, group: &[u8], record: &[u8]) -> Option<bool> {
        let group = std::str::from_utf8(group).ok().filter(|_| *record == [DRAINED])?;
        let host = self.floors.0.get_mut(tenant);
        let known = host.is_some_and(|host| host.floor.restore_drained(group));
        self.show_drained(tenant, group, known);
        Some(known)
    }

    /// Everything is back: goes on where the process before ended.
    pub(super) fn resume_floors(&mut self) {
        let now = self.desk_now();
        for tenant in self.floors.names() {
            if let Some(host) = self.floors.0.get_mut(&tenant) {
                host.floor.tick(now);
            }
            self.flush_floor(&tenant);
        }
    }

    /// The floor of a tenant that lives here.
    pub fn floor(&self, tenant: &str) -> Option<&Floor> {
        self.floors.0.get(tenant).map(|host| &host.floor)
    }
}

fn outcome_of(why: OfferWhy) -> DeskOffer {
    match why {
        OfferWhy::Over(Reason::Rejected) => DeskOffer::Rejected,
        OfferWhy::Over(Reason::Lapsed) => DeskOffer::Lapsed,
        OfferWhy::Over(_) => DeskOffer::Withdrawn,
        OfferWhy::Queue | OfferWhy::Sticky | OfferWhy::Transfer => DeskOffer::Made,
    }
}

/// The key of a document of a tenant.
fn put_key(out: &mut Vec<u8>, tenant: &str, rest: &[u8]) {
    out.extend_from_slice(tenant.as_bytes());
    out.push(0);
    out.extend_from_slice(rest);
}

/// The tenant of a key, and the rest of it.
pub(super) fn read_key(key: &[u8]) -> Option<(&str, &[u8])> {
    let at = key.iter().position(|byte| *byte == 0)?;
    let (tenant, rest) = key.split_at_checked(at)?;
    Some((std::str::from_utf8(tenant).ok()?, rest.get(1..)?))
}
