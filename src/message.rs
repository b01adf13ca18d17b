//! The Application Message: borrowed while it passes through, owned where it must wait.
//!
//! Owns nothing but bytes. A message is copied out of the read buffer at most once per shard, and only if a receiver
//! has to be able to get it again (QoS > 0), it is retained, or it changes threads in one piece.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::protocol::{CONTENT_ENCODING, QoS, without_user_property};
use crate::snappy;

/// A moment in milliseconds on the monotonic clock of this process, as handed in by the driver.
pub type Millis = u64;

/// The deadline of a message without a Message Expiry Interval.
pub const NEVER: Millis = Millis::MAX;

/// No session of this shard: the message came from elsewhere, so No Local cannot apply.
pub const ELSEWHERE: u32 = u32::MAX;

/// A message on its way through the shard, borrowed from the read buffer, a mailbox or a [`Message`].
#[derive(Clone, Copy, Debug)]
pub struct MessageRef<'a> {
    /// Topic Name, with any Topic Alias resolved.
    pub topic: &'a str,
    /// Application data.
    pub payload: &'a [u8],
    /// Encoded MQTT 5 properties to hand on unaltered [MQTT-3.3.2-17] and others; no alias, expiry, subscription id.
    pub properties: &'a [u8],
    /// When it expires, [`NEVER`] if it does not.
    pub expires_at: Millis,
    /// Slab key of the publishing session if it is on this shard, else [`ELSEWHERE`].
    pub from: u32,
    /// QoS it was published with.
    pub qos: QoS,
    /// RETAIN as published.
    pub retain: bool,
    /// The payload is a Snappy block, checked where it came in, and `properties` say so.
    pub snappy: bool,
}

impl<'a> MessageRef<'a> {
    /// Copies the message so that it can wait.
    pub fn to_message(&self) -> Arc<Message> {
        let mut bytes = Vec::with_capacity(self.topic.len() + self.properties.len() + self.payload.len());
        bytes.extend_from_slice(self.topic.as_bytes());
        bytes.extend_from_slice(self.properties);
        bytes.extend_from_slice(self.payload);
        Arc::new(Message {
            bytes: bytes.into_boxed_slice(),
            expires_at: self.expires_at,
            from: self.from,
            properties_len: self.properties.len() as u32,
            topic_len: self.topic.len() as u16,
            qos: self.qos,
            retain: self.retain,
            snappy: self.snappy,
        })
    }

    /// Application data for somebody who does not know Snappy.
    pub fn plain(&self) -> Cow<'a, [u8]> {
        let mut plain = Vec::new();
        match self.snappy.then(|| snappy::expand(self.payload, &mut plain)) {
            Some(Ok(())) => Cow::Owned(plain),
            // What does not expand was not let in.
            Some(Err(_)) | None => Cow::Borrowed(self.payload),
        }
    }

    /// The message for receivers that do not know Snappy: expanded, and without the property that said what it was.
    pub fn to_plain(&self) -> Arc<Message> {
        let mut bytes = Vec::with_capacity(self.topic.len() + self.properties.len());
        bytes.extend_from_slice(self.topic.as_bytes());
        without_user_property(self.properties, CONTENT_ENCODING, &mut bytes);
        let properties_len = bytes.len() - self.topic.len();
        if !self.snappy || snappy::expand(self.payload, &mut bytes).is_err() {
            bytes.extend_from_slice(self.payload);
        }
        Arc::new(Message {
            bytes: bytes.into_boxed_slice(),
            expires_at: self.expires_at,
            from: self.from,
            properties_len: properties_len as u32,
            topic_len: self.topic.len() as u16,
            qos: self.qos,
            retain: self.retain,
            snappy: false,
        })
    }

    /// Bytes that the message carries: topic, properties and payload.
    pub fn weight(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload.len()
    }

    /// Seconds left for a receiver, `None` if it does not expire [MQTT-3.3.2-6].
    pub fn remaining_expiry(&self, now: Millis) -> Option<u32> {
        (self.expires_at != NEVER)
            .then(|| u32::try_from(self.expires_at.saturating_sub(now).div_ceil(1000)).unwrap_or(u32::MAX))
    }
}

/// A message that waits: retained, queued or in flight. Shared by all who wait for it.
pub struct Message {
    /// Topic, properties, payload, one behind the other: one allocation.
    bytes: Box<[u8]>,
    expires_at: Millis,
    from: u32,
    properties_len: u32,
    topic_len: u16,
    qos: QoS,
    retain: bool,
    snappy: bool,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.view().fmt(f)
    }
}

impl Message {
    /// The message as a borrowed view.
    #[inline]
    pub fn view(&self) -> MessageRef<'_> {
        let (topic, rest) = self.bytes.split_at(self.topic_len as usize);
        let (properties, payload) = rest.split_at(self.properties_len as usize);
        MessageRef {
            topic: std::str::from_utf8(topic).unwrap_or_default(),
            payload,
            properties,
            expires_at: self.expires_at,
            from: self.from,
            qos: self.qos,
            retain: self.retain,
            snappy: self.snappy,
        }
    }

    /// Application data, without looking at the topic.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.topic_len as usize + self.properties_len as usize..).unwrap_or_default()
    }

    /// Bytes that the message carries: topic, properties and payload.
    #[inline]
    pub fn weight(&self) -> usize {
        self.bytes.len()
    }

    /// When it expires, [`NEVER`] if it does not.
    #[inline]
    pub fn expires_at(&self) -> Millis {
        self.expires_at
    }

    /// Whether its Message Expiry Interval has passed.
    #[inline]
    pub fn expired(&self, now: Millis) -> bool {
        self.expires_at <= now
    }
}

/// Subscription Identifiers to send with one delivery [MQTT-3.3.4-3] [MQTT-3.3.4-4].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SubscriptionIds {
    /// No matching subscription had one.
    #[default]
    None,
    /// One did: nearly always.
    One(u32),
    /// Several overlapping subscriptions did.
    Many(Box<[u32]>),
}

impl SubscriptionIds {
    /// Adds one identifier; `None` changes nothing.
    pub fn push(&mut self, id: Option<u32>) {
        let Some(id) = id else { return };
        *self = match std::mem::take(self) {
            Self::None => Self::One(id),
            Self::One(first) => Self::Many(Box::new([first, id])),
            Self::Many(ids) => {
                let mut ids = ids.into_vec();
                ids.push(id);
                Self::Many(ids.into_boxed_slice())
            }
        };
    }

    /// The identifiers in the order they were added.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

/// The shared subscription group through which a delivery came, so that it can go back there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Via {
    /// Shard where the group lives.
    pub home: u16,
    /// Its slab key there.
    pub group: u32,
    /// The member's slot in the group.
    pub member: u32,
    /// Which stay of the member this delivery was for.
    pub stay: u32,
    /// The message's number in the group.
    pub number: NonZeroU64,
}

/// A message owed to one session at QoS > 0.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message, shared with whoever else waits for it.
    pub message: Arc<Message>,
    /// Subscription Identifiers to send.
    pub ids: SubscriptionIds,
    /// The group it came through, if any.
    pub via: Option<Via>,
    /// QoS of the delivery, after the subscription's maximum.
    pub qos: QoS,
    /// RETAIN as this receiver shall see it.
    pub retain: bool,
    /// What the store knows the message by if several wait for it; 0 if not.
    pub body: u64,
}

/// A delivery whose message is in the store alone. It came through no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// What the store knows the message by if several wait for it; 0 if not.
    pub body: u64,
    /// Bytes of the message: topic, properties and payload.
    pub weight: u32,
    /// QoS of the delivery.
    pub qos: QoS,
}

/// What strikes a delivery off, wherever its message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its number in the session.
    pub number: u64,
    /// The group it came through, with the message's weight.
    pub via: Option<(Via, u32)>,
    /// What the store knows the message by if several wait for it; 0 if not.
    pub body: u64,
    /// QoS of the delivery.
    pub qos: QoS,
}

impl Away {
    /// What strikes it off.
    #[inline]
    pub fn settled(&self, number: u64) -> Settled {
        Settled { number, via: None, body: self.body, qos: self.qos }
    }
}

impl Delivery {
    /// What stays of it in memory when its message is in the store.
    pub fn away(&self) -> Away {
        Away { body: self.body, weight: self.message.weight() as u32, qos: self.qos }
    }

    /// What strikes it off.
    #[inline]
    pub fn settled(&self, number: u64) -> Settled {
        let via = self.via.map(|via| (via, self.message.weight() as u32));
        Settled { number, via, body: self.body, qos: self.qos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_message_shows_what_was_borrowed() {
        let view = MessageRef {
            topic: "客服/1",
            payload: b"hello",
            properties: b"\x01\x01",
            expires_at: 5_000,
            from: 7,
            qos: QoS::AtLeastOnce,
            retain: true,
            snappy: false,
        };
        let owned = view.to_message();
        let seen = owned.view();
        assert_eq!(
            (seen.topic, seen.payload, seen.properties, seen.expires_at, seen.from, seen.qos, seen.retain),
            (view.topic, view.payload, view.properties, 5_000, 7, QoS::AtLeastOnce, true)
        );
        assert_eq!(owned.payload(), b"hello");
        assert_eq!(owned.weight(), view.weight());
    }

    #[test]
    fn remaining_expiry_is_rounded_up_so_that_a_live_message_never_says_zero() {
        let mut view = MessageRef {
            topic: "t",
            payload: b"",
            properties: b"",
            expires_at: NEVER,
            from: ELSEWHERE,
            qos: QoS::AtMostOnce,
            retain: false,
            snappy: false,
        };
        assert_eq!(view.remaining_expiry(1), None);
        view.expires_at = 10_000;
        assert_eq!(view.remaining_expiry(1), Some(10));
        assert_eq!(view.remaining_expiry(9_999), Some(1));
        assert!(!view.to_message().expired(9_999));
        assert!(view.to_message().expired(10_000));
    }

    #[test]
    fn subscription_ids_keep_their_order() {
        let mut ids = SubscriptionIds::default();
        for id in [None, Some(3), Some(1), None, Some(2)] {
            ids.push(id);
        }
        assert_eq!(ids.as_slice(), [3, 1, 2]);
    }
}
