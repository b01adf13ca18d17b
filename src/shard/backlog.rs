//! What waits in a shared group, oldest first.
//!
//! Of a long backlog that the store has, the numbers alone stay in memory; messages are fetched some at a time when
//! there is a member to take them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::{Message, Millis, NEVER};

/// Messages that are fetched at once, and that wait in memory at most while more are in the store.
const SOME: usize = 256;

/// The same in bytes.
const SOME_BYTES: usize = 1 << 20;

#[derive(Debug)]
enum Place {
    Here(Arc<Message>),
    Away { expires_at: Millis, weight: u32 },
}

impl Place {
    fn weight(&self) -> usize {
        match self {
            Self::Here(message) => message.weight(),
            Self::Away { weight, .. } => *weight as usize,
        }
    }

    fn expires_at(&self) -> Millis {
        match self {
            Self::Here(message) => message.expires_at(),
            Self::Away { expires_at, .. } => *expires_at,
        }
    }

    fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }
}

/// A message that waits, with its number in the group.
pub(super) type Waits = (u64, Arc<Message>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// In the order of their numbers.
    slots: VecDeque<(u64, Place)>,
    bytes: usize,
    /// Of all these, what is in memory.
    here: usize,
    here_bytes: usize,
    /// Messages were asked of the store and have not come.
    asked: bool,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of all messages, wherever they are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// `stored`: the store has it, and if many wait it need not be in memory.
    pub(super) fn push(&mut self, number: u64, message: Arc<Message>, stored: bool) {
        let room = self.here == self.slots.len() && self.here < SOME && self.here_bytes < SOME_BYTES;
        let place = if room || !stored { Place::Here(message) } else { away(&message) };
        self.count(&place, 1);
        self.slots.push_back((number, place));
    }

    /// Puts back what the store has.
    pub(super) fn restore(&mut self, number: u64, message: &Message) {
        let place = away(message);
        self.count(&place, 1);
        self.slots.push_back((number, place));
    }

    fn count(&mut self, place: &Place, times: isize) {
        let weight = times * place.weight().cast_signed();
        self.bytes = self.bytes.wrapping_add_signed(weight);
        if place.is_here() {
            self.here = self.here.wrapping_add_signed(times);
            self.here_bytes = self.here_bytes.wrapping_add_signed(weight);
        }
    }

    /// The oldest, if it is in memory.
    pub(super) fn first(&self) -> Option<&Arc<Message>> {
        match self.slots.front()? {
            (_, Place::Here(message)) => Some(message),
            (_, Place::Away { .. }) => None,
        }
    }

    /// Takes the oldest, if it is in memory.
    pub(super) fn pop(&mut self) -> Option<Waits> {
        let (number, place) = self.slots.pop_front_if(|(_, place)| place.is_here())?;
        self.count(&place, -1);
        let Place::Here(message) = place else { return None };
        Some((number, message))
    }

    /// The numbers of the messages that have to be fetched next; none while others are on their way.
    pub(super) fn wanted(&mut self) -> Vec<u64> {
        let low = self.here < SOME / 2 || self.slots.front().is_some_and(|(_, place)| !place.is_here());
        if self.asked || self.here == self.slots.len() || !low {
            return Vec::new();
        }
        let mut bytes = 0;
        let away = self.slots.iter().filter(|(_, place)| !place.is_here()).take(SOME);
        let wanted = away.take_while(|(_, place)| {
            // The first one whatever its size.
            let fits = bytes == 0 || bytes + place.weight() <= SOME_BYTES;
            bytes += place.weight().max(1);
            fits
        });
        let wanted: Vec<u64> = wanted.map(|(number, _)| *number).collect();
        self.asked = true;
        wanted
    }

    /// What was asked of the store has come.
    pub(super) fn answered(&mut self) {
        self.asked = false;
    }

    /// A message has come from the store. `false`: there is none, and it is given up.
    pub(super) fn arrived(&mut self, number: u64, message: Option<Arc<Message>>) -> bool {
        let Ok(at) = self.slots.binary_search_by_key(&number, |(number, _)| *number) else { return true };
        let Some((_, place)) = self.slots.get_mut(at).filter(|(_, place)| !place.is_here()) else {
            return true;
        };
        let old = match &message {
            Some(message) => std::mem::replace(place, Place::Here(message.clone())),
            None => match self.slots.remove(at) {
                Some((_, place)) => place,
                None => return true,
            },
        };
        self.count(&old, -1);
        if let Some(message) = message {
            self.count(&Place::Here(message), 1);
            return true;
        }
        false
    }

    /// Drops what has expired; the numbers of it, and when the next does.
    pub(super) fn drop_expired(&mut self, now: Millis) -> (Vec<u64>, Millis) {
        let (mut dropped, mut soonest) = (Vec::new(), NEVER);
        for (number, place) in std::mem::take(&mut self.slots) {
            if place.expires_at() > now {
                soonest = soonest.min(place.expires_at());
                self.slots.push_back((number, place));
            } else {
                self.count(&place, -1);
                dropped.push(number);
            }
        }
        (dropped, soonest)
    }
}

fn away(message: &Message) -> Place {
    Place::Away { expires_at: message.expires_at(), weight: message.weight() as u32 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::message::{ELSEWHERE, MessageRef};
    use crate::protocol::QoS;

    fn message(payload: &[u8], expires_at: Millis) -> Arc<Message> {
        let (topic, properties) = ("t", &b""[..]);
        let (from, qos, retain, snappy) = (ELSEWHERE, QoS::AtLeastOnce, false, false);
        MessageRef { topic, payload, properties, expires_at, from, qos, retain, snappy }.to_message()
    }

    #[test]
    fn a_long_backlog_is_fetched_some_at_a_time_and_in_order() {
        let mut backlog = Backlog::default();
        let total = 3 * SOME as u64;
        for number in 0..total {
            backlog.push(number, message(&number.to_be_bytes(), NEVER), true);
        }
        assert_eq!((backlog.len(), backlog.bytes(), backlog.here), (3 * SOME, 9 * 3 * SOME, SOME));
        let mut next = 0;
        while next < total {
            while let Some((number, message)) = backlog.pop() {
                assert_eq!((number, message.payload()), (next, &next.to_be_bytes()[..]));
                next += 1;
            }
            let wanted = backlog.wanted();
            assert!(wanted.len() <= SOME && backlog.wanted().is_empty());
            backlog.answered();
            for number in wanted {
                assert!(backlog.arrived(number, Some(message(&number.to_be_bytes(), NEVER))));
            }
        }
        assert_eq!((backlog.bytes(), backlog.here, backlog.here_bytes), (0, 0, 0));
    }

    #[test]
    fn what_is_missing_is_given_up_and_what_expires_goes_wherever_it_is() {
        let mut backlog = Backlog::default();
        backlog.restore(1, &message(b"lost", NEVER));
        backlog.restore(2, &message(b"old", 5));
        backlog.push(3, message(b"large", NEVER), true);
        backlog.push(4, message(b"new", 7), false);
        assert_eq!(backlog.wanted(), [1, 2, 3]);
        backlog.answered();
        assert!(!backlog.arrived(1, None));
        assert!(backlog.arrived(1, None), "it is gone already");
        assert_eq!(backlog.drop_expired(6), (vec![2], 7));
        assert!(backlog.first().is_none());
        assert!(backlog.arrived(3, Some(message(b"large", NEVER))));
        assert_eq!(backlog.drop_expired(7), (vec![4], NEVER));
        assert_eq!(backlog.pop().unwrap().0, 3);
        assert!(backlog.is_empty() && backlog.bytes() == 0);
    }
}
