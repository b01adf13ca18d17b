//! What a session is owed at QoS > 0: packets in flight, and deliveries that wait for room.
//!
//! Owns the outgoing packet ids and their order. Writes nothing: the caller encodes what [`Outbox::admit`] and the
//! replay hand out.

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

/// Packets in flight and deliveries that wait, in order.
///
/// Packet ids are handed out in sequence, so the entry of an id is found by its distance from the front and not by
/// searching; an id that is acknowledged out of turn leaves a gap until the front reaches it.
#[derive(Debug, Default)]
pub struct Outbox {
    in_flight: VecDeque<Stage>,
    waiting: VecDeque<Delivery>,
    waiting_bytes: usize,
    /// No delivery that waits expires before.
    soonest: Millis,
    /// Packet id of the front of `in_flight`, 0 while none was ever used.
    front: u16,
    /// Entries sent on this connection that count against the peer's Receive Maximum.
    live: u16,
    /// Entries of `in_flight` from here on were sent on an earlier connection and have to be sent again on this one.
    resend: usize,
    /// Id that the next admitted delivery gets when `in_flight` is empty.
    next: u16,
}

/// What an acknowledgement did.
#[derive(Debug)]
pub enum Acknowledged {
    /// The delivery is complete.
    Complete(Delivery),
    /// PUBREC taken: PUBREL has to be sent now.
    Release(Option<Delivery>),
    /// PUBCOMP taken.
    Finished,
    /// No such packet id is in flight, or not at this stage.
    Unknown,
}

/// Distance between two packet ids, which run 1..=65535 and skip 0.
fn distance(from: u16, to: u16) -> usize {
    usize::from(if to >= from { to - from } else { u16::MAX - from + to })
}

/// The packet id `steps` after `id`.
fn advance(id: u16, steps: usize) -> u16 {
    let zero_based = (usize::from(id) - 1 + steps) % usize::from(u16::MAX);
    zero_based as u16 + 1
}

/// In-flight entries, gaps included: past this the ids would run into themselves.
const MAX_SPAN: usize = u16::MAX as usize - 1;

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
        self.waiting.is_empty() && self.room(receive_maximum)
    }

    #[inline]
    fn room(&self, receive_maximum: u16) -> bool {
        self.resend == self.in_flight.len() && self.live < receive_maximum && self.resend < MAX_SPAN
    }

    /// Puts a delivery in flight and returns its packet id. The caller has checked [`Self::open`], or took the delivery
    /// from [`Self::next_waiting`].
    #[inline]
    pub fn admit(&mut self, delivery: Delivery) -> PacketId {
        if self.in_flight.is_empty() {
            self.front = self.next.max(1);
        }
        let id = advance(self.front, self.in_flight.len());
        self.next = advance(id, 1);
        self.in_flight.push_back(Stage::Published(delivery));
        self.resend += 1;
        self.live += 1;
        PacketId::new(id).unwrap_or(FIRST)
    }

    /// Puts a delivery behind those that wait.
    pub fn push(&mut self, delivery: Delivery) {
        self.waiting_bytes += delivery.message.weight();
        if self.waiting.is_empty() {
            self.soonest = NEVER;
        }
        self.soonest = self.soonest.min(delivery.message.expires_at());
        self.waiting.push_back(delivery);
    }

    /// Takes the oldest delivery that waits, if there is room in flight for it.
    pub fn next_waiting(&mut self, receive_maximum: u16) -> Option<Delivery> {
        self.room(receive_maximum).then(|| self.pop_waiting())?
    }

    /// Takes the oldest delivery that waits, whether there is room or not: for dropping it.
    pub fn pop_waiting(&mut self) -> Option<Delivery> {
        let delivery = self.waiting.pop_front()?;
        self.waiting_bytes -= delivery.message.weight();
        Some(delivery)
    }

    fn stage_mut(&mut self, id: PacketId) -> Option<&mut Stage> {
        self.in_flight.get_mut(distance(self.front, id.get()))
    }

    /// Lets finished entries at the front go.
    fn trim(&mut self) {
        while let Some(Stage::Done) = self.in_flight.front() {
            self.in_flight.pop_front();
            self.front = advance(self.front, 1);
            self.resend = self.resend.saturating_sub(1);
        }
    }

    fn finish(&mut self, id: PacketId) -> Option<Stage> {
        let stage = std::mem::replace(self.stage_mut(id)?, Stage::Done);
        if distance(self.front, id.get()) < self.resend {
            self.live -= 1;
        }
        self.trim();
        Some(stage)
    }

    /// PUBACK: the end of a QoS 1 delivery.
    #[inline]
    pub fn puback(&mut self, id: PacketId) -> Acknowledged {
        match self.stage_mut(id) {
            Some(Stage::Published(delivery)) if delivery.qos == QoS::AtLeastOnce => {}
            _ => return Acknowledged::Unknown,
        }
        match self.finish(id) {
            Some(Stage::Published(delivery)) => Acknowledged::Complete(delivery),
            _ => Acknowledged::Unknown,
        }
    }

    /// PUBREC: half of a QoS 2 delivery. With an error it is the end of it [MQTT-4.3.3-4].
    pub fn pubrec(&mut self, id: PacketId, refused: bool) -> Acknowledged {
        match self.stage_mut(id) {
            Some(Stage::Published(delivery)) if delivery.qos == QoS::ExactlyOnce => {}
            // A PUBREC that comes again is answered again [MQTT-4.3.3-4].
            Some(Stage::Released) if !refused => return Acknowledged::Release(None),
            _ => return Acknowledged::Unknown,
        }
        if refused {
            return match self.finish(id) {
                Some(Stage::Published(delivery)) => Acknowledged::Complete(delivery),
                _ => Acknowledged::Unknown,
            };
        }
        match self.stage_mut(id).map(|stage| std::mem::replace(stage, Stage::Released)) {
            Some(Stage::Published(delivery)) => Acknowledged::Release(Some(delivery)),
            _ => Acknowledged::Unknown,
        }
    }

    /// PUBCOMP: the end of a QoS 2 delivery.
    pub fn pubcomp(&mut self, id: PacketId) -> Acknowledged {
        match self.stage_mut(id) {
            Some(Stage::Released) => {}
            _ => return Acknowledged::Unknown,
        }
        self.finish(id);
        Acknowledged::Finished
    }

    /// Ends a delivery that cannot be sent again.
    pub fn abandon(&mut self, id: PacketId) -> Option<Delivery> {
        match self.finish(id)? {
            Stage::Published(delivery) => Some(delivery),
            _ => None,
        }
    }

    /// A new connection resumes the session: everything unacknowledged has to be sent again, in order
    /// [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    pub fn resume(&mut self) {
        self.live = 0;
        self.resend = 0;
    }

    /// The next packet that has to be sent again, if there is room for it.
    pub fn next_resend(&mut self, receive_maximum: u16) -> Option<(PacketId, &Stage)> {
        while let Some(Stage::Done) = self.in_flight.get(self.resend) {
            self.resend += 1;
        }
        if self.live >= receive_maximum {
            return None;
        }
        let stage = self.in_flight.get(self.resend)?;
        let id = PacketId::new(advance(self.front, self.resend))?;
        self.resend += 1;
        self.live += 1;
        Some((id, stage))
    }

    /// Whether packets of an earlier connection are still to be sent again.
    #[inline]
    pub fn resending(&self) -> bool {
        self.resend < self.in_flight.len()
    }

    /// Takes out what came through a shared group and may go to another member: all that waits and, from a client that
    /// is gone, what is in flight at QoS 1. A client that is there still gets its delivery completed [MQTT-3.10.4-3].
    /// What is in flight at QoS 2 stays: it must not reach a second client [MQTT-4.8.2-4] [MQTT-4.8.2-5].
    pub fn take_shared(&mut self, connected: bool, group: impl Fn(&Delivery) -> bool) -> Vec<Delivery> {
        let mut taken = Vec::new();
        for (step, stage) in self.in_flight.iter_mut().enumerate().filter(|_| !connected) {
            if matches!(stage, Stage::Published(d) if d.qos == QoS::AtLeastOnce && group(d))
                && let Stage::Published(delivery) = std::mem::replace(stage, Stage::Done)
            {
                self.live -= u16::from(step < self.resend);
                taken.push(delivery);
            }
        }
        self.trim();
        for delivery in std::mem::take(&mut self.waiting) {
            if group(&delivery) {
                self.waiting_bytes -= delivery.message.weight();
                taken.push(delivery);
            } else {
                self.waiting.push_back(delivery);
            }
        }
        taken
    }

    /// Whether a delivery like this is in flight and may go to another member of its group.
    pub fn holds(&self, like: impl Fn(&Delivery) -> bool) -> bool {
        self.in_flight
            .iter()
            .any(|s| matches!(s, Stage::Published(d) if d.qos == QoS::AtLeastOnce && like(d)))
    }

    /// Drops deliveries that wait and have expired [MQTT-3.3.2-5]; says how many and shows each.
    pub fn drop_expired(&mut self, now: Millis, mut dropped: impl FnMut(&Delivery)) -> usize {
        if self.soonest > now {
            return 0;
        }
        let before = self.waiting.len();
        let (bytes, soonest) = (&mut self.waiting_bytes, &mut self.soonest);
        *soonest = NEVER;
        self.waiting.retain(|delivery| {
            let keep = !delivery.message.expired(now);
            if keep {
                *soonest = (*soonest).min(delivery.message.expires_at());
            } else {
                dropped(delivery);
                *bytes -= delivery.message.weight();
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

    /// The next packet id, kept by the session while the outbox itself goes back to the pool.
    pub fn next_id(&self) -> u16 {
        self.next
    }

    /// Goes on from where an earlier outbox of the session stopped; only while nothing is in flight.
    pub fn start_at(&mut self, next: u16) {
        self.next = next;
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
        };
        Delivery { message: message.to_message(), ids: SubscriptionIds::None, via: None, qos, retain: false }
    }

    fn admitted(outbox: &mut Outbox, qos: QoS) -> PacketId {
        outbox.admit(delivery(qos, NEVER))
    }

    #[test]
    fn ids_run_in_sequence_and_skip_zero() {
        let mut outbox = Outbox::default();
        outbox.start_at(65_534);
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
        let mut outbox = Outbox::default();
        let id = admitted(&mut outbox, QoS::ExactlyOnce);
        assert!(matches!(outbox.puback(id), Acknowledged::Unknown), "PUBACK does not end QoS 2");
        assert!(matches!(outbox.pubcomp(id), Acknowledged::Unknown), "PUBCOMP before PUBREC");
        assert!(matches!(outbox.pubrec(id, false), Acknowledged::Release(Some(_))));
        assert_eq!(outbox.in_flight(), 1);
        assert!(matches!(outbox.pubrec(id, false), Acknowledged::Release(None)));
        assert!(matches!(outbox.pubcomp(id), Acknowledged::Finished));
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_refusing_pubrec_ends_the_delivery() {
        let mut outbox = Outbox::default();
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
        let mut outbox = Outbox::default();
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
        let mut outbox = Outbox::default();
        let ids: Vec<PacketId> = (0..4).map(|_| admitted(&mut outbox, QoS::AtLeastOnce)).collect();
        outbox.push(delivery(QoS::AtLeastOnce, NEVER));
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
        let mut outbox = Outbox::default();
        assert!(outbox.open(1));
        let id = admitted(&mut outbox, QoS::AtLeastOnce);
        assert!(!outbox.open(1));
        outbox.push(delivery(QoS::AtLeastOnce, NEVER));
        assert!(outbox.next_waiting(1).is_none());
        let _ = outbox.puback(id);
        assert!(!outbox.open(1), "an older delivery waits");
        assert!(outbox.next_waiting(1).is_some());
        assert_eq!(outbox.waiting_bytes(), 0);
    }

    #[test]
    fn shared_deliveries_go_back_but_not_qos_2_in_flight() {
        let via = Some(Via { home: 0, group: 1, member: 0, stay: 1 });
        let mut outbox = Outbox::default();
        for (qos, via) in [
            (QoS::AtLeastOnce, via),
            (QoS::ExactlyOnce, via),
            (QoS::AtLeastOnce, None),
            (QoS::AtLeastOnce, via),
        ] {
            outbox.admit(Delivery { via, ..delivery(qos, NEVER) });
        }
        outbox.push(Delivery { via, ..delivery(QoS::ExactlyOnce, NEVER) });
        outbox.push(delivery(QoS::AtLeastOnce, NEVER));
        let taken = outbox.take_shared(false, |d| d.via == via);
        assert_eq!(taken.len(), 3);
        assert_eq!(outbox.in_flight(), 2);
        assert_eq!(outbox.waiting(), 1);
        outbox.resume();
        assert_eq!(resent(&mut outbox, 9), [(2, false), (3, false)]);
    }

    #[test]
    fn what_a_connected_client_was_sent_stays_its_own() {
        let mut outbox = Outbox::default();
        let ids = [admitted(&mut outbox, QoS::AtLeastOnce), admitted(&mut outbox, QoS::AtLeastOnce)];
        outbox.push(delivery(QoS::AtLeastOnce, NEVER));
        assert_eq!(outbox.take_shared(true, |_| true).len(), 1, "what waits");
        assert_eq!(outbox.in_flight(), 2);
        assert!(matches!(outbox.puback(ids[0]), Acknowledged::Complete(_)));
        outbox.resume();
        assert_eq!(resent(&mut outbox, 9), [(2, false)]);
    }

    #[test]
    fn a_delivery_that_cannot_be_sent_again_frees_its_room() {
        let mut outbox = Outbox::default();
        admitted(&mut outbox, QoS::ExactlyOnce);
        admitted(&mut outbox, QoS::AtLeastOnce);
        outbox.resume();
        let id = outbox.next_resend(1).map(|(id, _)| id).unwrap();
        assert!(outbox.abandon(id).is_some());
        assert_eq!(resent(&mut outbox, 1), [(2, false)]);
    }

    #[test]
    fn expired_deliveries_leave_the_queue() {
        let mut outbox = Outbox::default();
        for at in [5, NEVER, 7] {
            outbox.push(delivery(QoS::AtLeastOnce, at));
        }
        let mut shown = 0;
        assert_eq!(outbox.drop_expired(6, |_| shown += 1), 1);
        assert_eq!(shown, 1);
        assert_eq!(outbox.waiting(), 2);
        assert_eq!(outbox.waiting_bytes(), 4);
    }

    #[test]
    fn a_full_turn_of_ids_never_meets_itself() {
        let mut outbox = Outbox::default();
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
