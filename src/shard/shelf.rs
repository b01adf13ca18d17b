//! The retained messages of one shard: all topics in memory, and as many messages as there is room for.
//!
//! What the store has may leave memory, longest there first; it is read again when it is asked for.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use hashbrown::HashSet;

use crate::message::{Message, Millis, NEVER};
use crate::topic::RetainedIndex;

/// What a message takes in memory besides its bytes, roughly.
const OVERHEAD: usize = 128;

/// Entries of the cache's order that may be out of date before they are looked through.
const STALE: usize = 1024;

/// A topic's message.
#[derive(Debug)]
pub(super) enum Slot {
    /// In memory.
    Here(Arc<Message>),
    /// In the store.
    Away(Away),
}

/// What stays in memory of a message that is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Away {
    expires_at: Millis,
    weight: u32,
    /// Tells it from the topic's other messages.
    stamp: u32,
}

const _: () = assert!(size_of::<Slot>() <= 24);

impl Slot {
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Here(message) => message.weight(),
            Self::Away(away) => away.weight as usize,
        }
    }

    pub(super) fn expires_at(&self) -> Millis {
        match self {
            Self::Here(message) => message.expires_at(),
            Self::Away(away) => away.expires_at,
        }
    }

    /// Whether its Message Expiry Interval has passed.
    pub(super) fn expired(&self, now: Millis) -> bool {
        self.expires_at() <= now
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retained {
    index: RetainedIndex<Slot>,
    bytes: usize,
    /// How many of them expire.
    expiring: usize,
    /// Topics whose messages may leave memory, longest there first; some may have left or be gone.
    order: VecDeque<Arc<str>>,
    /// Messages in memory that may leave it, and their bytes.
    here: usize,
    here_bytes: usize,
    /// How many bytes of those stay.
    cache: usize,
    stamp: u32,
    /// Where the sweep for what has expired goes on.
    pub(super) sweep: Option<Arc<str>>,
}

impl Retained {
    /// Keeps `cache` bytes of what it may leave to the store.
    pub(super) fn new(cache: usize) -> Self {
        Self { cache, ..Self::default() }
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes of topics, properties and payloads.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none of them expires.
    pub(super) fn lasts(&self) -> bool {
        self.expiring == 0
    }

    pub(super) fn get(&self, topic: &str) -> Option<&Slot> {
        self.index.get(topic)
    }

    /// A topic's message, if it is in memory.
    pub(super) fn here(&self, topic: &str) -> Option<&Arc<Message>> {
        match self.index.get(topic)? {
            Slot::Here(message) => Some(message),
            Slot::Away(_) => None,
        }
    }

    /// See [`RetainedIndex::scan`].
    pub(super) fn scan(
        &self,
        filter: &str,
        after: Option<&str>,
        visits: usize,
        f: impl FnMut(&Arc<str>, &Slot) -> ControlFlow<()>,
    ) -> Option<Arc<str>> {
        self.index.scan(filter, after, visits, f)
    }

    /// Keeps a message. `true`: instead of another. `stored`: the store has it, and it may leave memory.
    pub(super) fn set(&mut self, message: Arc<Message>, stored: bool) -> bool {
        let topic: Arc<str> = Arc::from(message.view().topic);
        self.bytes += message.weight();
        self.expiring += usize::from(message.expires_at() != NEVER);
        let weight = message.weight();
        let old = self.index.insert(topic.clone(), Slot::Here(message));
        let was_here = self.let_go(old.as_ref(), stored);
        if stored {
            self.here += 1;
            self.here_bytes += weight + OVERHEAD;
            if !was_here {
                self.order.push_back(topic);
            }
            self.make_room();
        }
        old.is_some()
    }

    /// Takes a topic's message out. `false`: there is none.
    pub(super) fn clear(&mut self, topic: &str, stored: bool) -> bool {
        let old = self.index.remove(topic);
        self.let_go(old.as_ref(), stored);
        old.is_some()
    }

    /// Counts a message no longer. Whether it was one of those in memory that may leave it.
    fn let_go(&mut self, old: Option<&Slot>, stored: bool) -> bool {
        let Some(old) = old else { return false };
        self.bytes -= old.weight();
        self.expiring -= usize::from(old.expires_at() != NEVER);
        let counted = stored && matches!(old, Slot::Here(_));
        if counted {
            self.here -= 1;
            self.here_bytes -= old.weight() + OVERHEAD;
        }
        counted
    }

    /// A message has come from the store and may stay, unless it is another topic's or another one by now.
    pub(super) fn keep(&mut self, topic: &Arc<str>, away: Away, message: &Arc<Message>) {
        let Some(slot @ Slot::Away(_)) = self.index.get_mut(topic) else { return };
        if matches!(slot, Slot::Away(now) if *now == away) && message.weight() == away.weight as usize {
            self.here += 1;
            self.here_bytes += message.weight() + OVERHEAD;
            *slot = Slot::Here(message.clone());
            self.order.push_back(topic.clone());
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        while self.here_bytes > self.cache {
            let Some(topic) = self.order.pop_front() else { return };
            let Some(slot) = self.index.get_mut(&topic) else { continue };
            let Slot::Here(message) = slot else { continue };
            self.stamp = self.stamp.wrapping_add(1);
            let (weight, expires_at) = (message.weight(), message.expires_at());
            *slot = Slot::Away(Away { expires_at, weight: weight as u32, stamp: self.stamp });
            self.here -= 1;
            self.here_bytes -= weight + OVERHEAD;
        }
        if self.order.len() > 2 * self.here + STALE {
            self.sort_out();
        }
    }

    /// Forgets what is out of date in the order.
    fn sort_out(&mut self) {
        let mut seen = HashSet::with_hasher(ahash::RandomState::new());
        let index = &self.index;
        self.order
            .retain(|topic| matches!(index.get(topic), Some(Slot::Here(_))) && seen.insert(topic.clone()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::message::{ELSEWHERE, MessageRef};
    use crate::protocol::QoS;

    fn message(topic: &str, payload: &[u8]) -> Arc<Message> {
        MessageRef {
            topic,
            payload,
            properties: b"",
            expires_at: NEVER,
            from: ELSEWHERE,
            qos: QoS::AtLeastOnce,
            retain: true,
            snappy: false,
        }
        .to_message()
    }

    fn here(retained: &Retained) -> Vec<String> {
        let mut found = Vec::new();
        retained.scan("#", None, usize::MAX, |topic, slot| {
            if matches!(slot, Slot::Here(_)) {
                found.push(topic.to_string());
            }
            ControlFlow::Continue(())
        });
        found
    }

    fn away(retained: &Retained, topic: &str) -> Away {
        let Some(Slot::Away(away)) = retained.get(topic) else { panic!("{topic} is here") };
        *away
    }

    #[test]
    fn messages_leave_memory_longest_there_first_and_come_back_when_asked_for() {
        let mut retained = Retained::new(3 * (OVERHEAD + 10));
        for topic in ["a", "b", "c", "d"] {
            assert!(!retained.set(message(topic, b"payload"), true));
        }
        assert!(!retained.set(message("own", &[0; 10_000]), false), "what the store has not stays");
        assert_eq!(here(&retained), ["b", "c", "d", "own"]);
        let old = away(&retained, "a");
        retained.keep(&"a".into(), old, &message("a", b"payload"));
        assert_eq!(here(&retained), ["a", "c", "d", "own"]);
        // Written again meanwhile, and away again: what was read is another message.
        let old = away(&retained, "b");
        assert!(retained.set(message("b", b"another"), true));
        for topic in ["x", "y", "z"] {
            retained.set(message(topic, b"payload"), true);
        }
        assert_ne!(away(&retained, "b"), old);
        retained.keep(&"b".into(), old, &message("b", b"payload"));
        retained.keep(&"none".into(), old, &message("none", b"payload"));
        assert_eq!(here(&retained), ["own", "x", "y", "z"]);
        assert_eq!((retained.len(), retained.bytes()), (8, 7 * 8 + 10_003));
        for topic in ["a", "b", "c", "d", "x", "y", "z"] {
            assert!(retained.clear(topic, true) && !retained.clear(topic, true));
        }
        assert_eq!((retained.here, retained.here_bytes, retained.bytes()), (0, 0, 10_003));
    }

    #[test]
    fn topics_that_come_and_go_leave_nothing_in_the_order() {
        let mut retained = Retained::new(1 << 20);
        for n in 0..100_000 {
            let topic = (n % 7).to_string();
            retained.set(message(&topic, b"payload"), true);
            retained.clear(&topic, true);
        }
        assert!(retained.order.len() <= STALE + 1, "{}", retained.order.len());
    }
}
