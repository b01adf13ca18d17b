//! What a session is owed at QoS > 0: packets in flight, and deliveries that wait for room.
//!
//! Owns the outgoing packet ids and their order. Writes nothing: the caller encodes what [`Outbox::admit`] and the
//! replay hand out.
//!
//! Deliveries are numbered as they come, and a delivery's packet id follows from its number alone: a session that is
//! restored after a crash sends again with the ids that it used before, though nobody wrote down which it used.

use std::collections::VecDeque;

use crate::message::{Delivery, Millis, NEVER};
use crate::protocol::{PacketId, QoS};

/// The first packet id of a session.
const FIRST: PacketId = match PacketId::new(1) {
    Some(id) => id,
    None => unreachable!(),
};

/// Where an outgoing packet id stands.
#[derive(Debug)]
pub enum Stage {
    /// PUBLISH sent, waiting for PUBACK (QoS 1) or PUBREC (QoS 2).
    Published(Delivery),
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

/// A delivery that waits.
#[derive(Debug)]
pub struct Numbered {
    /// Its number.
    pub number: Number,
    /// The delivery.
    pub delivery: Delivery,
    /// It may have been sent before the restart that has brought it back.
    pub again: bool,
}

/// Packets in flight and deliveries that wait, in order.
///
/// Numbers mostly follow each other, so the entry of a packet id is mostly found by its distance from the front; one
/// that is acknowledged out of turn stays as done until the front reaches it.
#[derive(Debug, Default)]
pub struct Outbox {
    in_flight: VecDeque<Sent>,
    waiting: VecDeque<Numbered>,
    waiting_bytes: usize,
    /// No delivery that waits expires before.
    soonest: Millis,
    /// Entries sent on this connection that count against the peer's Receive Maximum.
    live: u16,
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
    Complete(Numbered),
    /// PUBREC taken: PUBREL has to be sent now.
    Release(Option<Numbered>),
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
        self.waiting_bytes
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

    /// Puts a delivery behind those that wait.
    pub fn push(&mut self, number: Number, delivery: Delivery) {
        self.waiting_bytes += delivery.message.weight();
        if self.waiting.is_empty() {
            self.soonest = NEVER;
        }
        self.soonest = self.soonest.min(delivery.message.expires_at());
        self.waiting.push_back(Numbered { number, delivery, again: false });
    }

    /// Takes the oldest delivery that waits, if there is room in flight for it and it may be sent.
    pub fn next_waiting(&mut self, receive_maximum: u16) -> Option<Numbered> {
        let first = self.waiting.front()?;
        let may = first.delivery.qos != QoS::ExactlyOnce || first.number <= self.certain;
        (may && self.room(receive_maximum, first.number)).then(|| self.pop_waiting())?
    }

    /// From now on deliveries at QoS 2 up to this number may be sent.
    pub fn assure(&mut self, number: Number) {
        self.certain = self.certain.max(number);
    }

    /// Takes the oldest delivery that waits, whether there is room or not: for dropping it.
    pub fn pop_waiting(&mut self) -> Option<Numbered> {
        let first = self.waiting.pop_front()?;
        self.waiting_bytes -= first.delivery.message.weight();
        Some(first)
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
    fn finish(&mut self, at: usize) -> Option<Sent> {
        if at < self.resend {
            self.live -= 1;
        }
        if at > 0 {
            let sent = self.in_flight.get_mut(at)?;
            return Some(Sent {
                number: sent.number,
                stage: std::mem::replace(&mut sent.stage, Stage::Done),
            });
        }
        let first = self.in_flight.pop_front();
        self.resend = self.resend.saturating_sub(1);
        self.trim();
        first
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
            _ => Acknowledged::Unknown,
        }
    }

    #[inline]
    fn complete(&mut self, at: usize) -> Acknowledged {
        match self.finish(at) {
            Some(Sent { number, stage: Stage::Published(delivery) }) => {
                Acknowledged::Complete(Numbered { number, delivery, again: false })
            }
            _ => Acknowledged::Unknown,
        }
    }

    /// PUBREC: half of a QoS 2 delivery. With an error it is the end of it [MQTT-4.3.3-4].
    pub fn pubrec(&mut self, id: PacketId, refused: bool) -> Acknowledged {
        let at = match self.stage_of(id) {
            Some((at, Stage::Published(delivery))) if delivery.qos == QoS::ExactlyOnce => at,
            // A PUBREC that comes again is answered again [MQTT-4.3.3-4].
            Some((_, Stage::Released)) if !refused => return Acknowledged::Release(None),
            _ => return Acknowledged::Unknown,
        };
        if refused {
            return self.complete(at);
        }
        match self
            .in_flight
            .get_mut(at)
            .map(|sent| (sent.number, std::mem::replace(&mut sent.stage, Stage::Released)))
        {
            Some((number, Stage::Published(delivery))) => {
                Acknowledged::Release(Some(Numbered { number, delivery, again: false }))
            }
            _ => Acknowledged::Unknown,
        }
    }

    /// PUBCOMP: the end of a QoS 2 delivery.
    pub fn pubcomp(&mut self, id: PacketId) -> Acknowledged {
        match self.stage_of(id) {
            Some((at, Stage::Released)) => {
                self.finish(at).map_or(Acknowledged::Unknown, |sent| Acknowledged::Finished(sent.number))
            }
            _ => Acknowledged::Unknown,
        }
    }

    /// Ends a delivery that cannot be sent again.
    pub fn abandon(&mut self, id: PacketId) -> Option<Numbered> {
        match self.place(id).and_then(|at| self.finish(at))? {
            Sent { number, stage: Stage::Published(delivery) } => {
                Some(Numbered { number, delivery, again: false })
            }
            _ => None,
        }
    }

    /// Puts back what a store has kept: in the order of their numbers, before anything else. `None`: PUBREL was sent,
    /// and so had been everything before it.
    pub fn restore(&mut self, number: Number, delivery: Option<Delivery>) {
        if let Some(delivery) = delivery {
            self.push(number, delivery);
            self.waiting.back_mut().into_iter().for_each(|last| last.again = true);
        } else {
            for Numbered { number, delivery, .. } in self.waiting.drain(..) {
                self.in_flight.push_back(Sent { number, stage: Stage::Published(delivery) });
            }
            self.waiting_bytes = 0;
            self.in_flight.push_back(Sent { number, stage: Stage::Released });
        }
        self.next = self.next.max(number + 1);
        self.certain = number;
    }

    /// Everything that is owed: numbers, with the delivery where it is still needed.
    pub fn iter(&self) -> impl Iterator<Item = (Number, Option<&Delivery>)> {
        let sent = self.in_flight.iter().filter_map(|sent| match &sent.stage {
            Stage::Published(delivery) => Some((sent.number, Some(delivery))),
            Stage::Released => Some((sent.number, None)),
            Stage::Done => None,
        });
        sent.chain(self.waiting.iter().map(|waiting| (waiting.number, Some(&waiting.delivery))))
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
        let sent = self.in_flight.get(self.resend)?;
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
        for waiting in std::mem::take(&mut self.waiting) {
            if group(&waiting.delivery) {
                self.waiting_bytes -= waiting.delivery.message.weight();
                taken.push((waiting.number, waiting.delivery));
            } else {
                self.waiting.push_back(waiting);
            }
        }
        taken
    }

    /// Whether a delivery like this is in flight and may go to another member of its group.
    pub fn holds(&self, like: impl Fn(&Delivery) -> bool) -> bool {
        self.in_flight
            .iter()
            .any(|s| matches!(&s.stage, Stage::Published(d) if d.qos == QoS::AtLeastOnce && like(d)))
    }

    /// Drops deliveries that wait and have expired [MQTT-3.3.2-5]; says how many and shows each.
    pub fn drop_expired(&mut self, now: Millis, mut dropped: impl FnMut(&Numbered)) -> usize {
        if self.soonest > now {
            return 0;
        }
        let before = self.waiting.len();
        let (bytes, soonest) = (&mut self.waiting_bytes, &mut self.soonest);
        *soonest = NEVER;
        self.waiting.retain(|waiting| {
            let message = &waiting.delivery.message;
            let keep = !message.expired(now);
            if keep {
                *soonest = (*soonest).min(message.expires_at());
            } else {
                dropped(waiting);
                *bytes -= message.weight();
            }
            keep
        });
        before - self.waiting.len()
    }

    /// Gives back memory that a burst has left, so that a pooled outbox stays small.
    pub fn shrink(&mut self) {
        const KEEP: usize = 32;
        if self.in_flight.capacity() > KEEP {
            self.in_flight.shrink_to(KEEP);
        }
        if self.waiting.capacity() > KEEP {
            self.waiting.shrink_to(KEEP);
        }
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
mod tests {
    use super::*;
    use crate::message::{ELSEWHERE, MessageRef, SubscriptionIds, Via};

    fn delivery(qos: QoS, expires_at: Millis) -> Delivery {
        let message = MessageRef {
            topic: "t",
            payload: b"p",
            properties: b"",
            expires_at,
            from: ELSEWHERE,
            qos,
            retain: false,
            snappy: false,
        };
        Delivery {
            message: message.to_message(),
            ids: SubscriptionIds::None,
            via: None,
            qos,
            retain: false,
            body: 0,
        }
    }

    fn admitted(outbox: &mut Outbox, qos: QoS) -> PacketId {
        let number = outbox.number();
        outbox.admit(number, delivery(qos, NEVER))
    }

    fn outbox() -> Outbox {
        let mut outbox = Outbox::default();
        outbox.start_at(1, false);
        outbox
    }

    fn pushed(outbox: &mut Outbox, delivery: Delivery) {
        let number = outbox.number();
        outbox.push(number, delivery);
    }

    #[test]
    fn ids_run_in_sequence_and_skip_zero() {
        let mut outbox = Outbox::default();
        outbox.start_at(65_534, false);
        let ids: Vec<u16> = (0..4).map(|_| admitted(&mut outbox, QoS::AtLeastOnce).get()).collect();
        assert_eq!(ids, [65_534, 65_535, 1, 2]);
        for id in [1, 65_535, 2, 65_534] {
            assert!(matches!(outbox.puback(PacketId::new(id).unwrap()), Acknowledged::Complete(_)), "{id}");
            assert!(matches!(outbox.puback(PacketId::new(id).unwrap()), Acknowledged::Unknown), "{id} twice");
        }
        assert!(outbox.is_empty());
        assert_eq!(admitted(&mut outbox, QoS::AtLeastOnce).get(), 3);
    }

    #[test]
    fn qos_2_is_counted_until_pubcomp_and_answers_a_second_pubrec() {
        let mut outbox = outbox();
        let id = admitted(&mut outbox, QoS::ExactlyOnce);
        assert!(matches!(outbox.puback(id), Acknowledged::Unknown), "PUBACK does not end QoS 2");
        assert!(matches!(outbox.pubcomp(id), Acknowledged::Unknown), "PUBCOMP before PUBREC");
        assert!(matches!(outbox.pubrec(id, false), Acknowledged::Release(Some(_))));
        assert_eq!(outbox.in_flight(), 1);
        assert!(matches!(outbox.pubrec(id, false), Acknowledged::Release(None)));
        assert!(matches!(outbox.pubcomp(id), Acknowledged::Finished(_)));
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_refusing_pubrec_ends_the_delivery() {
        let mut outbox = outbox();
        let id = admitted(&mut outbox, QoS::ExactlyOnce);
        assert!(matches!(outbox.pubrec(id, true), Acknowledged::Complete(_)));
        assert!(outbox.is_empty());
    }

    fn resent(outbox: &mut Outbox, receive_maximum: u16) -> Vec<(u16, bool)> {
        let mut sent = Vec::new();
        while let Some((id, stage)) = outbox.next_resend(receive_maximum) {
            sent.push((id.get(), matches!(stage, Stage::Released)));
        }
        sent
    }

    #[test]
    fn a_resumed_session_sends_again_in_order_with_the_same_ids() {
        let mut outbox = outbox();
        let ids: Vec<PacketId> = (0..5).map(|_| admitted(&mut outbox, QoS::ExactlyOnce)).collect();
        let _ = outbox.pubrec(ids[1], false);
        let _ = outbox.pubrec(ids[2], false);
        let _ = outbox.pubcomp(ids[2]);
        outbox.resume();
        assert_eq!(resent(&mut outbox, 10), [(1, false), (2, true), (4, false), (5, false)]);
        assert!(outbox.open(10));
    }

    #[test]
    fn sending_again_keeps_to_the_new_receive_maximum() {
        let mut outbox = outbox();
        let ids: Vec<PacketId> = (0..4).map(|_| admitted(&mut outbox, QoS::AtLeastOnce)).collect();
        pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER));
        outbox.resume();
        assert_eq!(resent(&mut outbox, 2), [(1, false), (2, false)]);
        assert!(outbox.next_waiting(2).is_none(), "older packets have to go first");
        let _ = outbox.puback(ids[3]);
        assert_eq!(
            outbox.in_flight(),
            2,
            "an acknowledgement for an earlier connection's packet frees nothing"
        );
        let _ = outbox.puback(ids[0]);
        assert_eq!(resent(&mut outbox, 2), [(3, false)]);
        let _ = outbox.puback(ids[1]);
        assert!(outbox.next_resend(2).is_none());
        assert!(outbox.next_waiting(2).is_some());
    }

    #[test]
    fn receive_maximum_holds_deliveries_back() {
        let mut outbox = outbox();
        assert!(outbox.open(1));
        let id = admitted(&mut outbox, QoS::AtLeastOnce);
        assert!(!outbox.open(1));
        pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER));
        assert!(outbox.next_waiting(1).is_none());
        let _ = outbox.puback(id);
        assert!(!outbox.open(1), "an older delivery waits");
        assert!(outbox.next_waiting(1).is_some());
        assert_eq!(outbox.waiting_bytes(), 0);
    }

    #[test]
    fn shared_deliveries_go_back_but_not_qos_2_in_flight() {
        let via = Some(Via { home: 0, group: 1, member: 0, stay: 1, number: std::num::NonZeroU64::MIN });
        let mut outbox = outbox();
        for (qos, via) in [
            (QoS::AtLeastOnce, via),
            (QoS::ExactlyOnce, via),
            (QoS::AtLeastOnce, None),
            (QoS::AtLeastOnce, via),
        ] {
            let number = outbox.number();
            outbox.admit(number, Delivery { via, ..delivery(qos, NEVER) });
        }
        pushed(&mut outbox, Delivery { via, ..delivery(QoS::ExactlyOnce, NEVER) });
        pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER));
        let taken = outbox.take_shared(false, |d| d.via == via);
        assert_eq!(taken.len(), 3);
        assert_eq!(outbox.in_flight(), 2);
        assert_eq!(outbox.waiting(), 1);
        outbox.resume();
        assert_eq!(resent(&mut outbox, 9), [(2, false), (3, false)]);
    }

    #[test]
    fn what_a_connected_client_was_sent_stays_its_own() {
        let mut outbox = outbox();
        let ids = [admitted(&mut outbox, QoS::AtLeastOnce), admitted(&mut outbox, QoS::AtLeastOnce)];
        pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER));
        assert_eq!(outbox.take_shared(true, |_| true).len(), 1, "what waits");
        assert_eq!(outbox.in_flight(), 2);
        assert!(matches!(outbox.puback(ids[0]), Acknowledged::Complete(_)));
        outbox.resume();
        assert_eq!(resent(&mut outbox, 9), [(2, false)]);
    }

    #[test]
    fn a_delivery_that_cannot_be_sent_again_frees_its_room() {
        let mut outbox = outbox();
        admitted(&mut outbox, QoS::ExactlyOnce);
        admitted(&mut outbox, QoS::AtLeastOnce);
        outbox.resume();
        let id = outbox.next_resend(1).map(|(id, _)| id).unwrap();
        assert!(outbox.abandon(id).is_some());
        assert_eq!(resent(&mut outbox, 1), [(2, false)]);
    }

    #[test]
    fn expired_deliveries_leave_the_queue() {
        let mut outbox = outbox();
        for at in [5, NEVER, 7] {
            pushed(&mut outbox, delivery(QoS::AtLeastOnce, at));
        }
        let mut shown = 0;
        assert_eq!(outbox.drop_expired(6, |_| shown += 1), 1);
        assert_eq!(shown, 1);
        assert_eq!(outbox.waiting(), 2);
        assert_eq!(outbox.waiting_bytes(), 4);
    }

    #[test]
    fn ids_follow_from_numbers_over_gaps_and_a_restart() {
        let mut outbox = outbox();
        let first = admitted(&mut outbox, QoS::AtLeastOnce);
        (0..3).for_each(|_| pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER)));
        assert_eq!(outbox.pop_waiting().unwrap().number, 2);
        assert_eq!(outbox.pop_waiting().unwrap().number, 3);
        let Numbered { number, delivery: fourth, .. } = outbox.next_waiting(9).unwrap();
        assert_eq!(outbox.admit(number, fourth).get(), 4);
        assert!(matches!(outbox.puback(PacketId::new(3).unwrap()), Acknowledged::Unknown));
        assert!(matches!(outbox.puback(PacketId::new(4).unwrap()), Acknowledged::Complete(_)));
        assert!(matches!(outbox.puback(first), Acknowledged::Complete(_)));
        assert!(outbox.is_empty());

        let mut restored = Outbox::default();
        restored.start_at(1, true);
        restored.restore(70_000, Some(delivery(QoS::ExactlyOnce, NEVER)));
        restored.restore(70_002, None);
        restored.restore(70_003, Some(delivery(QoS::ExactlyOnce, NEVER)));
        restored.resume();
        let id = |number: u64| ((number - 1) % 65_535) as u16 + 1;
        assert_eq!(resent(&mut restored, 9), [(id(70_000), false), (id(70_002), true)]);
        let last = restored.next_waiting(9).unwrap();
        assert_eq!((last.number, last.again), (70_003, true));
        assert_eq!(restored.admit(last.number, last.delivery).get(), id(70_003));
        assert_eq!(restored.number(), 70_004);
    }

    #[test]
    fn qos_2_waits_until_its_number_is_certain() {
        let mut outbox = Outbox::default();
        outbox.start_at(1, true);
        pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER));
        pushed(&mut outbox, delivery(QoS::ExactlyOnce, NEVER));
        assert!(outbox.next_waiting(9).is_some());
        assert!(outbox.next_waiting(9).is_none());
        outbox.assure(2);
        assert!(outbox.next_waiting(9).is_some());
    }

    #[test]
    fn a_full_turn_of_ids_never_meets_itself() {
        let mut outbox = outbox();
        let first = admitted(&mut outbox, QoS::AtLeastOnce);
        let mut seen = 0;
        while outbox.open(u16::MAX) {
            let id = admitted(&mut outbox, QoS::AtLeastOnce);
            assert_ne!(id, first);
            let _ = outbox.puback(id);
            seen += 1;
        }
        assert_eq!(seen, MAX_SPAN - 1);
        let _ = outbox.puback(first);
        assert!(outbox.open(1));
    }
}
