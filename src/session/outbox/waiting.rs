//! Deliveries that wait for room, oldest first.

use std::collections::VecDeque;

use super::{Next, Number, SOME, SOME_BYTES, Stage};
use crate::message::{Away, Delivery, Millis, NEVER, Settled};
use crate::protocol::QoS;

#[derive(Debug)]
struct Slot {
    number: Number,
    /// The delivery is dropped after this.
    expires_at: Millis,
    place: Place,
    /// It may have been sent before.
    again: bool,
}

/// A session may have many thousands of these: a delivery that is in memory stands apart.
#[derive(Debug)]
pub(super) enum Place {
    Here(Box<Delivery>),
    Away(Away),
}

const _: () = assert!(size_of::<Slot>() <= 40);

impl Place {
    fn weight(&self) -> usize {
        match self {
            Self::Here(delivery) => delivery.message.weight(),
            Self::Away(away) => away.weight as usize,
        }
    }

    fn settled(&self, number: Number) -> Settled {
        match self {
            Self::Here(delivery) => delivery.settled(number),
            Self::Away(away) => away.settled(number),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    slots: VecDeque<Slot>,
    bytes: usize,
    /// Of all these, what is in memory.
    here: usize,
    here_bytes: usize,
    /// None expires before.
    soonest: Millis,
}

impl Waiting {
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

    /// Whether one more may wait in memory: nothing before it is in the store, and it is not too much.
    pub(super) fn has_room_here(&self) -> bool {
        self.here == self.slots.len() && self.here < SOME && self.here_bytes < SOME_BYTES
    }

    /// Whether it is time to fetch: less waits in memory than is fetched at once, and more is in the store.
    pub(super) fn runs_low(&self) -> bool {
        let next_is_away = self.slots.front().is_some_and(|slot| matches!(slot.place, Place::Away(_)));
        next_is_away || (self.here < SOME / 2 && self.here < self.slots.len())
    }

    /// What is in the store.
    pub(super) fn away(&self) -> impl Iterator<Item = (Number, Away)> {
        self.slots.iter().filter_map(|slot| match &slot.place {
            Place::Away(away) => Some((slot.number, *away)),
            Place::Here(_) => None,
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Settled> {
        self.slots.iter().map(|slot| slot.place.settled(slot.number))
    }

    pub(super) fn push(&mut self, number: Number, place: Place, expires_at: Millis, again: bool) {
        if self.slots.is_empty() {
            self.soonest = NEVER;
        }
        self.soonest = self.soonest.min(expires_at);
        self.count(&place, 1);
        self.slots.push_back(Slot { number, expires_at, place, again });
    }

    /// Adds a delivery to what is counted, or takes it away.
    fn count(&mut self, place: &Place, times: isize) {
        let weight = times * place.weight().cast_signed();
        self.bytes = self.bytes.wrapping_add_signed(weight);
        if matches!(place, Place::Here(_)) {
            self.here = self.here.wrapping_add_signed(times);
            self.here_bytes = self.here_bytes.wrapping_add_signed(weight);
        }
    }

    /// Number and QoS of the oldest, if it is in memory.
    pub(super) fn first_here(&self) -> Option<(Number, QoS)> {
        match self.slots.front()? {
            Slot { number, place: Place::Here(delivery), .. } => Some((*number, delivery.qos)),
            _ => None,
        }
    }

    /// Takes the oldest, if it is in memory.
    pub(super) fn pop_here(&mut self) -> Option<Next> {
        let Slot { number, expires_at, place, again } =
            self.slots.pop_front_if(|slot| matches!(slot.place, Place::Here(_)))?;
        self.count(&place, -1);
        let Place::Here(delivery) = place else { return None };
        Some(Next { number, delivery: *delivery, expires_at, again })
    }

    /// Drops the oldest.
    pub(super) fn pop(&mut self) -> Option<Settled> {
        let slot = self.slots.pop_front()?;
        self.count(&slot.place, -1);
        Some(slot.place.settled(slot.number))
    }

    /// Takes all, as what was sent.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (Number, Stage)> + use<> {
        let slots = std::mem::take(&mut self.slots);
        (self.bytes, self.here, self.here_bytes) = (0, 0, 0);
        slots.into_iter().map(|slot| match slot.place {
            Place::Here(delivery) => (slot.number, Stage::Published(*delivery)),
            Place::Away(away) => (slot.number, Stage::Away(away)),
        })
    }

    /// See [`super::Outbox::arrived`].
    pub(super) fn arrived(&mut self, number: Number, delivery: Option<Delivery>) -> Option<Settled> {
        let at = self.slots.binary_search_by_key(&number, |slot| slot.number).ok()?;
        let slot = self.slots.get_mut(at).filter(|slot| matches!(slot.place, Place::Away(_)))?;
        if let Some(delivery) = delivery {
            let (before, weight) = (slot.place.weight(), delivery.message.weight());
            slot.place = Place::Here(Box::new(delivery));
            self.bytes = self.bytes - before + weight;
            self.here += 1;
            self.here_bytes += weight;
            return None;
        }
        let slot = self.slots.remove(at)?;
        self.count(&slot.place, -1);
        Some(slot.place.settled(number))
    }

    /// Leaves to the store what it has.
    pub(super) fn set_aside(&mut self, stored: impl Fn(&Delivery) -> bool) {
        for slot in &mut self.slots {
            if let Place::Here(delivery) = &slot.place
                && stored(delivery)
            {
                self.here -= 1;
                self.here_bytes -= delivery.message.weight();
                slot.place = Place::Away(delivery.away());
            }
        }
    }

    /// Takes out what came through a group.
    pub(super) fn take(&mut self, group: impl Fn(&Delivery) -> bool, taken: &mut Vec<(Number, Delivery)>) {
        for slot in std::mem::take(&mut self.slots) {
            match slot.place {
                Place::Here(delivery) if group(&delivery) => {
                    let weight = delivery.message.weight();
                    self.bytes -= weight;
                    self.here -= 1;
                    self.here_bytes -= weight;
                    taken.push((slot.number, *delivery));
                }
                place => self.slots.push_back(Slot { place, ..slot }),
            }
        }
    }

    /// See [`super::Outbox::drop_expired`].
    pub(super) fn drop_expired(&mut self, now: Millis, mut dropped: impl FnMut(Settled)) -> usize {
        if self.soonest > now {
            return 0;
        }
        let before = self.slots.len();
        self.soonest = NEVER;
        for slot in std::mem::take(&mut self.slots) {
            if slot.expires_at > now {
                self.soonest = self.soonest.min(slot.expires_at);
                self.slots.push_back(slot);
            } else {
                self.count(&slot.place, -1);
                dropped(slot.place.settled(slot.number));
            }
        }
        before - self.slots.len()
    }

    /// Gives back memory that a burst has left.
    pub(super) fn shrink(&mut self, keep: usize) {
        if self.slots.capacity() > keep {
            self.slots.shrink_to(keep);
        }
    }
}
