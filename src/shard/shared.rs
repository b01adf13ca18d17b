//! Shared subscription groups that live on this shard: who gets the next message.
//!
//! A group lives on the shard that its text hashes to, wherever its members are. It counts what each member has not
//! settled, hands nothing to a member that is gone, and takes back what a lost member left. Order is kept for each
//! sticky key: while deliveries to a lost member are still on their way back, newer messages wait behind them.

use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;

pub use super::group::{Assigned, Caps, Chosen, Group, Lost, Member, Waiting, split};
use super::group::{Dice, Numbers, Over};
use super::mailbox::{Gone, Join};
use crate::config::settings::{SharingSettings, Strategy};
use crate::message::{Message, Millis, Via};

/// All groups whose home this shard is.
#[derive(Debug)]
pub struct Groups {
    all: Slab<Group>,
    by_text: HashMap<Arc<str>, u32, ahash::RandomState>,
    settings: Arc<SharingSettings>,
    caps: Caps,
    hasher: ahash::RandomState,
    random: fastrand::Rng,
    home: u16,
    /// Number of the next message: one series for all groups, so that none is used twice under one slab key.
    next: u64,
}

impl Groups {
    /// No group yet. `hasher` decides sticky members: the same one gives the same choice.
    pub fn new(
        home: u16,
        settings: Arc<SharingSettings>,
        caps: Caps,
        hasher: ahash::RandomState,
        seed: u64,
    ) -> Self {
        Self {
            all: Slab::new(),
            by_text: HashMap::default(),
            settings,
            caps,
            hasher,
            random: fastrand::Rng::with_seed(seed),
            home,
            next: 1,
        }
    }

    /// The group under a slab key.
    pub fn get(&self, key: u32) -> Option<&Group> {
        self.all.get(key as usize)
    }

    /// All groups.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.all.iter().map(|(_, group)| group)
    }

    /// Makes sure that the group exists; the key, and whether it is new and its filter has to be subscribed.
    fn open(&mut self, text: &Arc<str>) -> (u32, bool) {
        if let Some(&key) = self.by_text.get(text) {
            return (key, false);
        }
        let key = self.all.insert(Group::new(text.clone(), &self.settings)) as u32;
        self.by_text.insert(text.clone(), key);
        (key, true)
    }

    /// A desk group: it keeps a backlog from now on, members or not. `shown` tells its size to all shards.
    pub fn open_desk(
        &mut self,
        text: &Arc<str>,
        strategy: Strategy,
        key_level: Option<usize>,
        shown: Arc<Waiting>,
    ) -> u32 {
        let (key, _) = self.open(text);
        if let Some(group) = self.all.get_mut(key as usize) {
            group.strategy = strategy;
            group.key_level = key_level;
            group.desk = Some(shown);
            group.kept = true;
        }
        key
    }

    /// The text of a group whose messages are to be written down.
    pub fn kept(&self, key: u32) -> Option<&str> {
        self.all.get(key as usize).filter(|group| group.kept).map(|group| &*group.text)
    }

    /// A message is to be written down if its group's are; the group's text.
    pub fn write_down(&mut self, key: u32, number: u64) -> Option<&str> {
        let group = self.all.get_mut(key as usize).filter(|group| group.kept)?;
        group.written.insert(number);
        Some(&group.text)
    }

    /// A message is done with; its group's text if it was written down.
    pub fn erase(&mut self, key: u32, number: u64) -> Option<&str> {
        let group = self.all.get_mut(key as usize)?;
        group.written.remove(&number).then_some(&*group.text)
    }

    /// Puts back a message that a group had when the process ended, behind those that were put back before. `false`:
    /// there is no such group any more.
    pub fn restore(&mut self, text: &str, number: u64, message: &Message) -> bool {
        self.next = self.next.max(number + 1);
        let key = self.by_text.get(text).copied();
        let Some(group) = key.and_then(|key| self.all.get_mut(key as usize)) else { return false };
        group.written.insert(number);
        group.soonest = group.soonest.min(message.expires_at());
        group.backlog.restore(number, message);
        group.show();
        true
    }

    /// A member comes or comes back. Returns the group's key and whether the group is new.
    pub fn join(&mut self, join: &Join) -> (u32, bool) {
        let (key, new) = self.open(&join.text);
        let Some(group) = self.all.get_mut(key as usize) else { return (key, new) };
        group.kept |= join.kept;
        let known = group
            .members
            .iter()
            .find(|(_, m)| m.shard == join.shard && m.session == join.session)
            .map(|(slot, _)| slot as u32);
        let slot = known.unwrap_or_else(|| {
            group.members.insert(Member {
                shard: join.shard,
                session: join.session,
                stay: join.stay,
                options: join.options,
                present: false,
                sent: 0,
                unsettled: 0,
                unsettled_bytes: 0,
            }) as u32
        });
        if let Some(member) = group.members.get_mut(slot as usize) {
            member.options = join.options;
            if member.stay != join.stay || !member.present {
                member.stay = join.stay;
                member.sent = 0;
                member.unsettled = 0;
                member.unsettled_bytes = 0;
            }
            if !std::mem::replace(&mut member.present, true) {
                group.present.push(slot);
            }
        }
        (key, new)
    }

    /// A member goes. Returns the group's key, and what is left of the group if nobody is left to wait for.
    pub fn gone(&mut self, gone: Gone) -> Option<(u32, Over)> {
        let key = self.by_text.get(&gone.text).copied()?;
        let group = self.all.get_mut(key as usize)?;
        let member = group
            .members
            .iter_mut()
            .find(|(_, m)| m.shard == gone.shard && m.session == gone.session && m.stay == gone.stay);
        if let Some((slot, member)) = member {
            if member.present {
                // What was sent and had not arrived when the member left comes back as bounces.
                group.settling += member.sent.saturating_sub(gone.arrived);
            }
            member.present = false;
            member.unsettled = 0;
            member.unsettled_bytes = 0;
            if !gone.away {
                group.members.remove(slot);
            }
            group.present.retain(|&s| s as usize != slot);
        }
        group.take_back(gone.returned);
        Some((key, self.forget_if_unused(key)))
    }

    /// Without members, and not the desk's, a group is over; what waits in it is lost.
    fn forget_if_unused(&mut self, key: u32) -> Over {
        let Some(group) = self.all.get(key as usize) else { return Over::default() };
        if group.desk.is_some() || !group.members.is_empty() || group.settling > 0 {
            return Over::default();
        }
        self.by_text.remove(&group.text);
        let group = self.all.remove(key as usize);
        Over { lost: group.waiting().0, written: group.written.into_iter().collect() }
    }

    /// A delivery came back because its member was no longer there. Returns what was lost.
    pub fn bounced(&mut self, key: u32, number: u64, message: Arc<Message>) -> Over {
        let Some(group) = self.all.get_mut(key as usize) else { return Over { lost: 1, ..Over::default() } };
        group.settling = group.settling.saturating_sub(1);
        group.take_back([(number, message)]);
        self.forget_if_unused(key)
    }

    /// A member is done with a message.
    pub fn settled(&mut self, via: Via, weight: u32) -> bool {
        let Some(group) = self.all.get_mut(via.group as usize) else { return false };
        if let Some(member) = group.members.get_mut(via.member as usize).filter(|m| m.stay == via.stay) {
            member.unsettled = member.unsettled.saturating_sub(1);
            member.unsettled_bytes = member.unsettled_bytes.saturating_sub(weight as usize);
        }
        group.settling == 0 && !(group.returned.is_empty() && group.backlog.is_empty())
    }

    /// Chooses who gets a new message. `counted`: it is sent at QoS > 0 and will be settled.
    pub fn dispatch(&mut self, key: u32, topic: &str, weight: usize, qos: u8) -> Chosen {
        let home = self.home;
        let mut dice = Dice { hasher: &self.hasher, random: &mut self.random };
        let number = self.next;
        self.next += 1;
        let Some(group) = self.all.get_mut(key as usize) else { return Chosen::Wait(number) };
        if !group.idle() {
            return Chosen::Wait(number);
        }
        let slot = group.choose(topic, self.caps, &mut dice);
        let assigned = slot.and_then(|slot| {
            let counted = qos > 0 && group.members.get(slot as usize)?.options.qos() > 0;
            group.assign(slot, (weight, counted), (home, key), number)
        });
        assigned.map_or(Chosen::Wait(number), Chosen::Member)
    }

    /// A message that was assigned is not sent after all.
    pub fn unsent(&mut self, via: &Via) {
        let member =
            self.all.get_mut(via.group as usize).and_then(|g| g.members.get_mut(via.member as usize));
        if let Some(member) = member.filter(|m| m.stay == via.stay) {
            member.sent -= 1;
        }
    }

    /// Groups in which something that waits has expired.
    pub fn outdated(&self, now: Millis) -> Vec<u32> {
        self.all.iter().filter(|(_, group)| group.soonest <= now).map(|(key, _)| key as u32).collect()
    }

    /// Lets go of what has expired.
    pub fn drop_expired(&mut self, key: u32, now: Millis) -> Numbers {
        let group = self.all.get_mut(key as usize).filter(|group| group.soonest <= now);
        group.map_or_else(Numbers::new, |group| group.drop_expired(now))
    }

    /// Keeps a message until a member has room. `durable`: it is written down if its group's messages are.
    pub fn wait(&mut self, key: u32, number: u64, message: Arc<Message>, durable: bool) -> Result<(), Lost> {
        self.all.get_mut(key as usize).map_or(Err(1), |group| group.wait(number, message, durable))
    }

    /// What has to be fetched so that there is something to give to those members that are there: the group's text, and
    /// the messages' numbers.
    pub fn wanted(&mut self, key: u32) -> Option<(Arc<str>, Vec<u64>)> {
        let group = self.all.get_mut(key as usize).filter(|group| !group.present.is_empty())?;
        let wanted = group.backlog.wanted();
        (!wanted.is_empty()).then(|| (group.text.clone(), wanted))
    }

    /// What was asked for has come: the group's key, if it is still there.
    pub fn answered(&mut self, text: &str) -> Option<u32> {
        let key = self.by_text.get(text).copied()?;
        self.all.get_mut(key as usize)?.backlog.answered();
        Some(key)
    }

    /// A message has come from the store. `false`: there is none, and it is given up.
    pub fn arrived(&mut self, key: u32, number: u64, message: Option<Arc<Message>>) -> bool {
        let Some(group) = self.all.get_mut(key as usize) else { return true };
        let came = group.backlog.arrived(number, message);
        group.show();
        came
    }

    /// The next message that waits, with the member that takes it now.
    pub fn next(&mut self, key: u32) -> Option<(Arc<Message>, Assigned)> {
        let home = self.home;
        let mut dice = Dice { hasher: &self.hasher, random: &mut self.random };
        let group = self.all.get_mut(key as usize)?;
        if group.settling > 0 || group.present.is_empty() {
            return None;
        }
        // Taken out only when there is a member with room: what a lost member returns meanwhile is older.
        let first = group.first_waiting()?.clone();
        let slot = group.choose(first.view().topic, self.caps, &mut dice)?;
        let (number, message) = group.take_waiting()?;
        let counted = message.view().qos as u8 > 0
            && group.members.get(slot as usize).is_some_and(|m| m.options.qos() > 0);
        let assigned = group.assign(slot, (message.weight(), counted), (home, key), number)?;
        Some((message, assigned))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::message::{ELSEWHERE, MessageRef, NEVER};
    use crate::protocol::QoS;
    use crate::topic::SubscriptionOptions;

    fn message(payload: &[u8]) -> Arc<Message> {
        MessageRef {
            topic: "q/1",
            payload,
            properties: b"",
            expires_at: NEVER,
            from: ELSEWHERE,
            qos: QoS::AtLeastOnce,
            retain: false,
            snappy: false,
        }
        .to_message()
    }

    fn join(stay: u32) -> Join {
        let options = SubscriptionOptions::new(1, false, false, 0);
        Join { text: "$share/g/q/#".into(), shard: 0, session: stay, stay, options, kept: false }
    }

    #[test]
    fn what_a_lost_member_returns_goes_out_before_what_waited_behind_it() {
        let caps = Caps { messages: 1, bytes: 1000 };
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let mut groups = Groups::new(0, Arc::new(SharingSettings::default()), caps, hasher, 1);
        let (key, _) = groups.join(&join(1));
        assert!(matches!(groups.dispatch(key, "q/1", 4, 1), Chosen::Member(_)));
        // The member is full: the second waits, and is still looked at whenever something settles.
        let Chosen::Wait(number) = groups.dispatch(key, "q/1", 4, 1) else { unreachable!("it is full") };
        groups.wait(key, number, message(b"2"), false).unwrap();
        assert!(groups.next(key).is_none());
        let (text, returned) = ("$share/g/q/#".into(), vec![(1, message(b"1"))]);
        groups.gone(Gone { text, shard: 0, session: 1, stay: 1, arrived: u64::MAX, returned, away: true });
        groups.join(&join(2));
        assert_eq!(groups.next(key).unwrap().0.payload(), b"1");
    }
}
