//! What a session is owed at QoS > 0: packets in flight, and deliveries that wait for room.
//!
//! Owns the outgoing packet ids and their order. Writes nothing: the caller encodes what [`Outbox::admit`] and the
//! replay hand out.
//!
//! Deliveries are numbered as they come, and a delivery's packet id follows from its number alone: a session that is
//! restored after a crash sends again with the ids that it used before, though nobody wrote down which it used.
//!
//! Of what the store has, long backlogs and what an offline client is owed, only the numbers stay in memory; messages
//! are [fetched](Outbox::wanted) a few at a time when their turn comes.

mod waiting;

use std::collections::VecDeque;

use crate::message::{Away, Delivery, Millis, Settled};
use crate::protocol::{PacketId, QoS};
use waiting::{Place, Waiting};

/// The first packet id of a session.
const FIRST: PacketId = match PacketId::new(1) {
    Some(id) => id,
    None => unreachable!(),
};

/// Deliveries of one session that are fetched at once, and that wait in memory at most while more are in the store.
const SOME: usize = 64;

/// The same in bytes.
const SOME_BYTES: usize = 256 * 1024;

/// Where an outgoing packet id stands.
#[derive(Debug)]
pub enum Stage {
    /// PUBLISH sent, waiting for PUBACK (QoS 1) or PUBREC (QoS 2).
    Published(Delivery),
    /// The same, with the message in the store: it was sent on an earlier connection, and this one waits for it.
    Away(Away),
    /// PUBREL sent, waiting for PUBCOMP; the message itself is no longer needed [MQTT-4.3.3-4].
    Released,
    /// Finished, but an older one before it is not.
    Done,
}

/// Number of a delivery in its session, from 1.
pub type Number = u64;

#[derive(Debug)]
struct Sent {
    number: Number,
    stage: Stage,
}

/// A delivery whose turn it is.
#[derive(Debug)]
pub struct Next {
    /// Its number.
    pub number: Number,
    /// The delivery.
    pub delivery: Delivery,
    /// It has waited long enough after this.
    pub expires_at: Millis,
    /// It may have been sent before: on an earlier connection, or before the restart that has brought it back.
    pub again: bool,
}

/// Packets in flight and deliveries that wait, in order.
///
/// Numbers mostly follow each other, so the entry of a packet id is mostly found by its distance from the front; one
/// that is acknowledged out of turn stays as done until the front reaches it.
#[derive(Debug, Default)]
pub struct Outbox {
    in_flight: VecDeque<Sent>,
    waiting: Waiting,
    /// Entries sent on this connection that count against the peer's Receive Maximum.
    live: u16,
    /// Messages were asked of the store and have not come.
    asked: bool,
    /// Entries of `in_flight` from here on were sent on an earlier connection and have to be sent again on this one.
    resend: usize,
    /// The number that the next delivery gets.
    next: Number,
    /// At QoS 2 only deliveries up to this one may be sent: it must be certain that their number is not used again.
    certain: Number,
}

/// What an acknowledgement did.
#[derive(Debug)]
pub enum Acknowledged {
    /// The delivery is complete.
    Complete(Settled),
    /// PUBREC taken: PUBREL has to be sent now. The message is done with, unless it was so before.
    Release(Option<Settled>),
    /// PUBCOMP taken.
    Finished(Number),
    /// No such packet id is in flight, or not at this stage.
    Unknown,
}

/// Packet ids, which run 1..=65535 and skip 0.
const IDS: Number = u16::MAX as Number;

/// The packet id of a delivery.
fn id_of(number: Number) -> u16 {
    (number.wrapping_sub(1) % IDS) as u16 + 1
}

/// Numbers in flight, gaps included: past this the ids would run into themselves.
const MAX_SPAN: Number = IDS - 1;

impl Sent {
    /// What strikes it off, while its message is not done with.
    #[inline]
    fn settled(&self) -> Option<Settled> {
        match &self.stage {
            Stage::Published(delivery) => Some(delivery.settled(self.number)),
            Stage::Away(away) => Some(away.settled(self.number)),
            Stage::Released | Stage::Done => None,
        }
    }
}

impl Outbox {
    /// Nothing in flight and nothing waiting.
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty()
    }

    /// Packets in flight that count against Receive Maximum [MQTT-3.3.4-9].
    pub fn in_flight(&self) -> u16 {
        self.live
    }

    /// Deliveries that wait for room.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of the deliveries that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
    }

    /// Whether one more delivery may go out at once: no older one waits, and there is room.
    #[inline]
    pub fn open(&self, receive_maximum: u16) -> bool {
        self.waiting.is_empty() && self.room(receive_maximum, self.next)
    }

    #[inline]
    fn room(&self, receive_maximum: u16, number: Number) -> bool {
        let first = self.in_flight.front().map_or(number, |sent| sent.number);
        self.resend == self.in_flight.len() && self.live < receive_maximum && number - first < MAX_SPAN
    }

    /// The number of a new delivery.
    #[inline]
    pub fn number(&mut self) -> Number {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Puts a delivery in flight and returns its packet id. The caller has checked [`Self::open`], or took the delivery
    /// from [`Self::next_waiting`].
    #[inline]
    pub fn admit(&mut self, number: Number, delivery: Delivery) -> PacketId {
        self.in_flight.push_back(Sent { number, stage: Stage::Published(delivery) });
        self.resend += 1;
        self.live += 1;
        PacketId::new(id_of(number)).unwrap_or(FIRST)
    }

    /// Puts a delivery behind those that wait. `stored`: the store has it too, and if many wait, or the client is not
    /// `connected`, it need not be in memory.
    pub fn push(
        &mut self,
        number: Number,
        delivery: Delivery,
        expires_at: Millis,
        (stored, connected): (bool, bool),
    ) {
        let stays = !stored || (connected && self.waiting.has_room_here());
        let place = if stays { Place::Here(Box::new(delivery)) } else { Place::Away(delivery.away()) };
        self.waiting.push(number, place, expires_at, false);
    }

    /// Takes the oldest delivery that waits, if it is in memory, may be sent, and there is room in flight for it.
    pub fn next_waiting(&mut self, receive_maximum: u16) -> Option<Next> {
        let (number, qos) = self.waiting.first_here()?;
        let may = qos != QoS::ExactlyOnce || number <= self.certain;
        if may && self.room(receive_maximum, number) { self.waiting.pop_here() } else { None }
    }

    /// From now on deliveries at QoS 2 up to this number may be sent.
    pub fn assure(&mut self, number: Number) {
        self.certain = self.certain.max(number);
    }

    /// Takes the oldest delivery that waits, whether there is room or not: for dropping it.
    pub fn pop_waiting(&mut self) -> Option<Settled> {
        self.waiting.pop()
    }

    /// The messages that have to be fetched from the store next, by the deliveries' numbers and what the store knows
    /// them by; none while others are on their way.
    pub fn wanted(&mut self) -> Vec<(Number, u64)> {
        let resends = |sent: &Sent| matches!(sent.stage, Stage::Away(_));
        let first = self.in_flight.iter().skip(self.resend).find(|sent| !matches!(sent.stage, Stage::Done));
        if self.asked || !(self.waiting.runs_low() || first.is_some_and(resends)) {
            return Vec::new();
        }
        let mut room = SOME_BYTES;
        let in_flight = self.in_flight.iter().skip(self.resend).filter_map(|sent| match &sent.stage {
            Stage::Away(away) => Some((sent.number, *away)),
            _ => None,
        });
        let all = in_flight.chain(self.waiting.away());
        let wanted: Vec<(Number, u64)> = all
            .take(SOME)
            .take_while(|(_, away)| {
                // The first one whatever its size.
                let fits = room == SOME_BYTES || away.weight as usize <= room;
                room = room.saturating_sub((away.weight as usize).max(1));
                fits
            })
            .map(|(number, away)| (number, away.body))
            .collect();
        self.asked = !wanted.is_empty();
        wanted
    }

    /// What was asked of the store has come.
    pub fn answered(&mut self) {
        self.asked = false;
    }

    /// A message has come from the store; if there is none, its delivery is given up and returned.
    pub fn arrived(&mut self, number: Number, delivery: Option<Delivery>) -> Option<Settled> {
        let Ok(at) = self.in_flight.binary_search_by_key(&number, |sent| sent.number) else {
            return self.waiting.arrived(number, delivery);
        };
        let sent = self.in_flight.get_mut(at)?;
        let Stage::Away(away) = sent.stage else { return None };
        if let Some(delivery) = delivery {
            sent.stage = Stage::Published(delivery);
            return None;
        }
        self.finish(at);
        Some(away.settled(number))
    }

    /// The client is gone: what `stored` says that the store has need not be in memory.
    pub fn set_aside(&mut self, stored: impl Fn(&Delivery) -> bool) {
        for sent in &mut self.in_flight {
            if let Stage::Published(delivery) = &sent.stage
                && stored(delivery)
            {
                sent.stage = Stage::Away(delivery.away());
            }
        }
        self.waiting.set_aside(stored);
    }

    /// Where the packet with this id stands among those in flight.
    #[inline]
    fn place(&self, id: PacketId) -> Option<usize> {
        let first = self.in_flight.front()?.number;
        let (id, front) = (id.get(), id_of(first));
        let steps = if id >= front { id - front } else { u16::MAX - front + id };
        let number = first + Number::from(steps);
        match self.in_flight.get(usize::from(steps)) {
            Some(sent) if sent.number == number => Some(usize::from(steps)),
            _ => self.in_flight.binary_search_by_key(&number, |sent| sent.number).ok(),
        }
    }

    /// Lets finished entries at the front go.
    fn trim(&mut self) {
        while let Some(Sent { stage: Stage::Done, .. }) = self.in_flight.front() {
            self.in_flight.pop_front();
            self.resend = self.resend.saturating_sub(1);
        }
    }

    /// Takes out the entry that stands there.
    #[inline]
    fn finish(&mut self, at: usize) {
        if at < self.resend {
            self.live -= 1;
        }
        if at > 0 {
            if let Some(sent) = self.in_flight.get_mut(at) {
                sent.stage = Stage::Done;
            }
            return;
        }
        self.in_flight.pop_front();
        self.resend = self.resend.saturating_sub(1);
        self.trim();
    }

    /// The stage of a packet id, and where it stands.
    #[inline]
    fn stage_of(&self, id: PacketId) -> Option<(usize, &Stage)> {
        let at = self.place(id)?;
        Some((at, &self.in_flight.get(at)?.stage))
    }

    /// PUBACK: the end of a QoS 1 delivery.
    #[inline]
    pub fn puback(&mut self, id: PacketId) -> Acknowledged {
        match self.stage_of(id) {
            Some((at, Stage::Published(delivery))) if delivery.qos == QoS::AtLeastOnce => self.complete(at),
            Some((at, Stage::Away(away))) if away.qos == QoS::AtLeastOnce => self.complete(at),
            _ => Acknowledged::Unknown,
        }
    }

    #[inline]
    fn complete(&mut self, at: usize) -> Acknowledged {
        let settled = self.in_flight.get(at).and_then(Sent::settled);
        self.finish(at);
        settled.map_or(Acknowledged::Unknown, Acknowledged::Complete)
    }

    /// PUBREC: half of a QoS 2 delivery. With an error it is the end of it [MQTT-4.3.3-4].
    pub fn pubrec(&mut self, id: PacketId, refused: bool) -> Acknowledged {
        let at = match self.stage_of(id) {
            Some((at, Stage::Published(delivery))) if delivery.qos == QoS::ExactlyOnce => at,
            Some((at, Stage::Away(away))) if away.qos == QoS::ExactlyOnce => at,
            // A PUBREC that comes again is answered again [MQTT-4.3.3-4].
            Some((_, Stage::Released)) if !refused => return Acknowledged::Release(None),
            _ => return Acknowledged::Unknown,
        };
        if refused {
            return self.complete(at);
        }
        let Some(sent) = self.in_flight.get_mut(at) else { return Acknowledged::Unknown };
        let settled = sent.settled();
        sent.stage = Stage::Released;
        Acknowledged::Release(settled)
    }

    /// PUBCOMP: the end of a QoS 2 delivery.
    pub fn pubcomp(&mut self, id: PacketId) -> Acknowledged {
        match self.stage_of(id) {
            Some((at, Stage::Released)) => {
                let number = self.in_flight.get(at).map_or(0, |sent| sent.number);
                self.finish(at);
                Acknowledged::Finished(number)
            }
            _ => Acknowledged::Unknown,
        }
    }

    /// Ends a delivery that cannot be sent again.
    pub fn abandon(&mut self, id: PacketId) -> Option<Settled> {
        let at = self.place(id)?;
        let settled = self.in_flight.get(at)?.settled();
        self.finish(at);
        settled
    }

    /// Puts back what a store has kept: in the order of their numbers, before anything else. `None`: PUBREL was sent,
    /// and so had been everything before it.
    pub fn restore(&mut self, number: Number, owed: Option<(Away, Millis)>) {
        if let Some((away, expires_at)) = owed {
            self.waiting.push(number, Place::Away(away), expires_at, true);
        } else {
            let stages = self.waiting.take_all();
            self.in_flight.extend(stages.map(|(number, stage)| Sent { number, stage }));
            self.in_flight.push_back(Sent { number, stage: Stage::Released });
        }
        self.next = self.next.max(number + 1);
        self.certain = number;
    }

    /// Everything that is owed: numbers, with what strikes it off while its message is not done with.
    pub fn iter(&self) -> impl Iterator<Item = (Number, Option<Settled>)> {
        let open = self.in_flight.iter().filter(|sent| !matches!(sent.stage, Stage::Done));
        let sent = open.map(|sent| (sent.number, sent.settled()));
        sent.chain(self.waiting.iter().map(|settled| (settled.number, Some(settled))))
    }

    /// A new connection resumes the session: everything unacknowledged has to be sent again, in order
    /// [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    pub fn resume(&mut self) {
        self.live = 0;
        self.resend = 0;
    }

    /// The next packet that has to be sent again, if there is room for it.
    pub fn next_resend(&mut self, receive_maximum: u16) -> Option<(PacketId, &Stage)> {
        while let Some(Sent { stage: Stage::Done, .. }) = self.in_flight.get(self.resend) {
            self.resend += 1;
        }
        if self.live >= receive_maximum {
            return None;
        }
        let sent = self.in_flight.get(self.resend).filter(|sent| !matches!(sent.stage, Stage::Away(_)))?;
        let id = PacketId::new(id_of(sent.number))?;
        self.resend += 1;
        self.live += 1;
        Some((id, &sent.stage))
    }

    /// Whether packets of an earlier connection are still to be sent again.
    #[inline]
    pub fn resending(&self) -> bool {
        self.resend < self.in_flight.len()
    }

    /// Takes out what came through a shared group and may go to another member, with its numbers: all that waits and, from a client that
    /// is gone, what is in flight at QoS 1. A client that is there still gets its delivery completed [MQTT-3.10.4-3].
    /// What is in flight at QoS 2 stays: it must not reach a second client [MQTT-4.8.2-4] [MQTT-4.8.2-5].
    pub fn take_shared(
        &mut self,
        connected: bool,
        group: impl Fn(&Delivery) -> bool,
    ) -> Vec<(Number, Delivery)> {
        let mut taken = Vec::new();
        for (step, sent) in self.in_flight.iter_mut().enumerate().filter(|_| !connected) {
            if matches!(&sent.stage, Stage::Published(d) if d.qos == QoS::AtLeastOnce && group(d))
                && let Stage::Published(delivery) = std::mem::replace(&mut sent.stage, Stage::Done)
            {
                self.live -= u16::from(step < self.resend);
                taken.push((sent.number, delivery));
            }
        }
        self.trim();
        self.waiting.take(group, &mut taken);
        taken
    }

    /// Counts deliveries in flight from an ended stay in a group to the stay that follows it. The group has forgotten
    /// the slot that they were given through.
    pub fn move_stay(&mut self, ended: u32, stay: u32) {
        for sent in &mut self.in_flight {
            if let Stage::Published(Delivery { via: Some(via), .. }) = &mut sent.stage
                && via.stay == ended
            {
                via.stay = stay;
                via.member = u32::MAX;
            }
        }
    }

    /// Whether a delivery like this is in flight and may go to another member of its group.
    pub fn holds(&self, like: impl Fn(&Delivery) -> bool) -> bool {
        self.in_flight
            .iter()
            .any(|s| matches!(&s.stage, Stage::Published(d) if d.qos == QoS::AtLeastOnce && like(d)))
    }

    /// Drops deliveries that have waited too long [MQTT-3.3.2-5]; says how many and shows each.
    pub fn drop_expired(&mut self, now: Millis, dropped: impl FnMut(Settled)) -> usize {
        self.waiting.drop_expired(now, dropped)
    }

    /// Gives back memory that a burst has left, so that a pooled outbox stays small.
    pub fn shrink(&mut self) {
        const KEEP: usize = 32;
        if self.in_flight.capacity() > KEEP {
            self.in_flight.shrink_to(KEEP);
        }
        self.waiting.shrink(KEEP);
        self.asked = false;
    }

    /// The next number, kept by the session while the outbox itself goes back to the pool.
    pub fn next(&self) -> Number {
        self.next
    }

    /// Goes on from where an earlier outbox of the session stopped; only while nothing is owed. `stored`: at QoS 2
    /// nothing is sent before it is [assured](Self::assure).
    pub fn start_at(&mut self, next: Number, stored: bool) {
        self.next = next;
        self.certain = if stored { 0 } else { Number::MAX };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;
