//! How shards talk: whatever one has for another leaves as one batch a turn.
//!
//! A receiving shard has one mailbox for all senders. Batches are taken in the order in which they were posted, and a
//! shard posts before it writes to its sockets and opens its mail before it looks at what it has read from one: so what
//! a client learned from an acknowledgement is never overtaken by what anybody does next on another shard. Each sender may have [`FULL`] bytes waiting; past that it stops reading from
//! the publishers that cause them. Nothing is dropped here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::errands::Errand;
use super::publish::Refused;
use crate::message::{ELSEWHERE, Message, MessageRef, Millis, Via};
use crate::protocol::QoS;
use crate::store::Sequence;
use crate::topic::SubscriptionOptions;

/// Bytes from one sender at which its publishers are held back.
pub const FULL: usize = 4 * 1024 * 1024;

/// From this weight on a message changes shards by reference instead of being copied into the batch.
pub const SHARE_FROM: usize = 2048;

/// What a change of a document weighs more than itself: the smallest one may move a large document.
const DOCUMENT: usize = 32 * 1024;

/// What stands before a small message in a batch's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    expires_at: Millis,
    properties_len: u32,
    payload_len: u32,
    /// What its publisher's shard knows it by, if an answer waits for it; 0 if not.
    serial: Serial,
    topic_len: u16,
    qos: QoS,
    retain: bool,
    snappy: bool,
}

/// What a shard knows a message by that it has sent to others and for which an answer waits; 0 for all others.
pub type Serial = u32;

/// One thing that a shard tells another.
#[derive(Debug)]
pub enum Mail {
    /// Match and deliver a message whose bytes lie in the batch.
    Small(Header),
    /// Match and deliver a message.
    Large(Arc<Message>, Serial),
    /// Keep, replace or (empty payload) forget a retained message [MQTT-3.3.1-6].
    Retain(Arc<Message>, Serial),
    /// Change a customer's context document, which lives there: a whole one, or a patch.
    Change(Arc<Message>, Serial),
    /// The change with this serial has been made there.
    Changed(Serial),
    /// A message with this serial could be taken for nobody there.
    Refused(Serial),
    /// Something for the desk to do there.
    Errand(Box<Errand>, Serial),
    /// What was asked for under this serial is refused there.
    Denied(Serial, Refused),
    /// Show retained messages to a subscriber there.
    Ask(Box<Question>),
    /// An answer to [`Mail::Ask`].
    Page(Box<Page>),
    /// A session there takes part in a shared group here.
    Join(Box<Join>),
    /// It no longer does.
    Gone(Box<Gone>),
    /// A group's message for a session there.
    Share(Box<Share>),
    /// The session was no longer there: back to the group.
    Bounce(Box<Share>),
    /// The session is done with one of the group's messages.
    Settled(Via, u32),
}

/// A page of retained messages is wanted.
#[derive(Debug)]
pub struct Question {
    /// Shard of the session that asks.
    pub shard: u16,
    /// Its slab key and generation.
    pub session: (u32, u32),
    /// [`crate::session::Replay::number`].
    pub number: u32,
    /// The filter.
    pub filter: Arc<str>,
    /// Go on after this topic.
    pub after: Option<Arc<str>>,
}

/// A page of retained messages.
#[derive(Debug)]
pub struct Page {
    /// Slab key and generation of the session that asked.
    pub session: (u32, u32),
    /// [`crate::session::Replay::number`].
    pub number: u32,
    /// The messages, in the index's order.
    pub messages: Vec<Arc<Message>>,
    /// Where to go on, `None` when all was shown.
    pub after: Option<Arc<str>>,
}

/// A member comes, or comes back.
#[derive(Debug)]
pub struct Join {
    /// The subscription's text, `$share/{name}/{filter}`.
    pub text: Arc<str>,
    /// Shard of the member.
    pub shard: u16,
    /// Slab key of the member's session there.
    pub session: u32,
    /// Which stay this is.
    pub stay: u32,
    /// Options of its subscription.
    pub options: SubscriptionOptions,
    /// The member's session outlives a restart, and so must what waits for it.
    pub kept: bool,
}

/// A member goes, or goes offline.
#[derive(Debug)]
pub struct Gone {
    /// The subscription's text.
    pub text: Arc<str>,
    /// Shard of the member.
    pub shard: u16,
    /// Slab key of the member's session there.
    pub session: u32,
    /// Which stay ends.
    pub stay: u32,
    /// Deliveries that had arrived during the stay: the rest will bounce. `u64::MAX` for a member on the group's own
    /// shard, where nothing is ever on its way.
    pub arrived: u64,
    /// What it had not acknowledged, in order, with its numbers in the group.
    pub returned: Vec<(u64, Arc<Message>)>,
    /// Whether it may come back: a persistent session that is offline.
    pub away: bool,
}

/// A group's message on its way to, or back from, a member.
#[derive(Debug)]
pub struct Share {
    /// The message.
    pub message: Arc<Message>,
    /// Slab key of the member's session.
    pub session: u32,
    /// Options of its subscription.
    pub options: SubscriptionOptions,
    /// The group and the stay it is meant for.
    pub via: Via,
}

/// What one shard has for another at the end of a turn.
#[derive(Debug, Default)]
pub struct Batch {
    mail: Vec<Mail>,
    bytes: Vec<u8>,
    weight: usize,
    from: u16,
    /// The sender's submission that is durable only with what this does here.
    stamp: Option<Sequence>,
}

impl Batch {
    /// Whether there is nothing to post.
    pub fn is_empty(&self) -> bool {
        self.mail.is_empty()
    }

    /// Pieces of mail in it.
    pub fn len(&self) -> usize {
        self.mail.len()
    }

    /// Bytes it holds, roughly.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Adds mail other than a message to be matched.
    pub fn push(&mut self, mail: Mail) {
        self.weight += size_of::<Mail>()
            + match &mail {
                Mail::Large(m, _) | Mail::Retain(m, _) => m.weight(),
                Mail::Change(m, _) => m.weight() + DOCUMENT,
                Mail::Share(s) | Mail::Bounce(s) => s.message.weight(),
                Mail::Errand(errand, _) => errand.weight(),
                _ => 0,
            };
        self.mail.push(mail);
    }

    /// Adds a message to be matched and delivered. `owned` is kept if the message changes shards by reference.
    pub fn publish(&mut self, m: &MessageRef<'_>, owned: &mut Option<Arc<Message>>, serial: Serial) {
        if m.weight() >= SHARE_FROM {
            self.push(Mail::Large(owned.get_or_insert_with(|| m.to_message()).clone(), serial));
            return;
        }
        self.bytes.extend_from_slice(m.topic.as_bytes());
        self.bytes.extend_from_slice(m.properties);
        self.bytes.extend_from_slice(m.payload);
        self.weight += size_of::<Mail>() + m.weight();
        self.mail.push(Mail::Small(Header {
            expires_at: m.expires_at,
            properties_len: m.properties.len() as u32,
            payload_len: m.payload.len() as u32,
            serial,
            topic_len: m.topic.len() as u16,
            qos: m.qos,
            retain: m.retain,
            snappy: m.snappy,
        }));
    }

    /// Takes the batch apart in order: `small` sees messages whose bytes lie in the batch, `other` all the rest.
    pub fn open<T>(
        &mut self,
        target: &mut T,
        mut small: impl FnMut(&mut T, MessageRef<'_>, Serial),
        mut other: impl FnMut(&mut T, Mail),
    ) {
        let mut rest = self.bytes.as_slice();
        for mail in self.mail.drain(..) {
            let Mail::Small(h) = mail else {
                other(target, mail);
                continue;
            };
            let (topic, after) = rest.split_at(usize::from(h.topic_len));
            let (properties, after) = after.split_at(h.properties_len as usize);
            let (payload, after) = after.split_at(h.payload_len as usize);
            rest = after;
            small(
                target,
                MessageRef {
                    topic: std::str::from_utf8(topic).unwrap_or_default(),
                    payload,
                    properties,
                    expires_at: h.expires_at,
                    from: ELSEWHERE,
                    qos: h.qos,
                    retain: h.retain,
                    snappy: h.snappy,
                },
                h.serial,
            );
        }
        self.bytes.clear();
        self.weight = 0;
        self.stamp = None;
    }
}

/// Batches that are not larger than this are used again.
const KEEP_BATCH: usize = 256 * 1024;

/// The door of one shard for all others.
#[derive(Debug)]
pub struct Mailbox {
    queue: Mutex<Vec<Batch>>,
    /// Whether there is anything in it.
    posted: AtomicBool,
    /// Bytes waiting, by sender.
    waiting: Box<[AtomicUsize]>,
    /// Senders that hold publishers back and want to know when there is room.
    held: Box<[AtomicBool]>,
}

impl Mailbox {
    /// A mailbox for messages from `shards` senders.
    pub fn new(shards: usize) -> Self {
        Self {
            queue: Mutex::default(),
            posted: AtomicBool::new(false),
            waiting: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            held: (0..shards).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Puts a batch in and leaves an empty one. `true`: the mailbox was empty, so its owner has to be woken.
    pub fn post(&self, batch: &mut Batch, from: u16, spare: Option<Batch>) -> bool {
        let mut full = std::mem::replace(batch, spare.unwrap_or_default());
        full.from = from;
        if let Some(waiting) = self.waiting.get(usize::from(from)) {
            waiting.fetch_add(full.weight, Ordering::SeqCst);
        }
        let mut queue = self.queue.lock();
        queue.push(full);
        self.posted.store(true, Ordering::Release);
        queue.len() == 1
    }

    /// Takes all that was posted.
    pub fn take(&self, into: &mut Vec<Batch>) {
        debug_assert!(into.is_empty(), "an opened batch is not taken twice");
        let mut queue = self.queue.lock();
        std::mem::swap(&mut *queue, into);
        self.posted.store(false, Ordering::Release);
    }

    /// Whether anything waits. Exact for what was posted before something that the asker has already seen.
    #[inline]
    pub fn posted(&self) -> bool {
        self.posted.load(Ordering::Acquire)
    }

    /// Notes that a batch was worked off. `Some(sender)`: that shard holds publishers back and is to be woken.
    pub fn opened(&self, weight: usize, from: u16) -> Option<u16> {
        let waiting = self.waiting.get(usize::from(from))?.fetch_sub(weight, Ordering::SeqCst) - weight;
        let held = self.held.get(usize::from(from))?;
        (waiting < FULL / 2 && held.swap(false, Ordering::SeqCst)).then_some(from)
    }

    /// Whether `from` has to hold its publishers back. If so, it will be woken.
    pub fn full(&self, from: u16) -> bool {
        let (Some(waiting), Some(held)) =
            (self.waiting.get(usize::from(from)), self.held.get(usize::from(from)))
        else {
            return false;
        };
        if waiting.load(Ordering::Acquire) < FULL {
            return false;
        }
        // Sequentially consistent here and in `opened`: the owner may have emptied the mailbox between the two looks,
        // and then it either sees the mark or its work is seen here.
        held.store(true, Ordering::SeqCst);
        waiting.load(Ordering::SeqCst) >= FULL / 2
    }

    /// Bytes waiting from all senders.
    pub fn depth(&self) -> usize {
        self.waiting.iter().map(|w| w.load(Ordering::Relaxed)).sum()
    }
}

impl Batch {
    /// Who posted it, and how much it weighs.
    pub fn origin(&self) -> (u16, usize) {
        (self.from, self.weight)
    }

    /// Joins what it does to a submission of its sender.
    pub fn stamp(&mut self, sequence: Option<Sequence>) {
        self.stamp = sequence;
    }

    /// The sender's submission that it belongs to.
    pub fn stamped(&self) -> Option<Sequence> {
        self.stamp
    }

    /// The emptied batch, if it is worth keeping.
    pub fn spare(self) -> Option<Self> {
        (self.bytes.capacity() <= KEEP_BATCH && self.mail.capacity() * size_of::<Mail>() <= KEEP_BATCH)
            .then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::NEVER;

    fn message<'a>(topic: &'a str, payload: &'a [u8]) -> MessageRef<'a> {
        MessageRef {
            topic,
            payload,
            properties: b"\x01\x01",
            expires_at: NEVER,
            from: 3,
            qos: QoS::AtLeastOnce,
            retain: false,
            snappy: false,
        }
    }

    #[test]
    fn a_batch_keeps_order_between_small_and_large() {
        let large = vec![7; SHARE_FROM];
        let mut batch = Batch::default();
        batch.publish(&message("a", b"1"), &mut None, 0);
        batch.publish(&message("b", &large), &mut None, 7);
        batch.publish(&message("c", b"3"), &mut None, 0);
        let mut seen: Vec<(String, usize)> = Vec::new();
        batch.open(
            &mut seen,
            |seen, m, _| {
                assert_eq!((m.properties, m.from), (&b"\x01\x01"[..], ELSEWHERE));
                seen.push((m.topic.into(), m.payload.len()));
            },
            |seen, mail| {
                if let Mail::Large(m, 7) = mail {
                    seen.push((m.view().topic.into(), m.payload().len()));
                }
            },
        );
        assert_eq!(seen, [("a".into(), 1), ("b".into(), SHARE_FROM), ("c".into(), 1)]);
        assert!(batch.is_empty());
    }

    #[test]
    fn a_sender_is_held_back_by_its_own_bytes_and_woken_when_they_are_gone() {
        let mailbox = Mailbox::new(2);
        let payload = vec![0; 1024 * 1024];
        let mut batch = Batch::default();
        for _ in 0..5 {
            batch.publish(&message("t", &payload), &mut None, 0);
        }
        assert!(mailbox.post(&mut batch, 1, None), "first batch wakes");
        batch.publish(&message("t", b"x"), &mut None, 0);
        assert!(!mailbox.post(&mut batch, 0, None), "second does not");
        assert!(mailbox.full(1));
        assert!(!mailbox.full(0));
        let mut taken = Vec::new();
        mailbox.take(&mut taken);
        let woken: Vec<Option<u16>> =
            taken.iter().map(Batch::origin).map(|(f, w)| mailbox.opened(w, f)).collect();
        assert_eq!(woken, [Some(1), None]);
        assert!(!mailbox.full(1));
        assert_eq!(mailbox.depth(), 0);
    }
}
