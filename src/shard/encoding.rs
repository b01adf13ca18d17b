//! Compressed payloads: what is taken, and what was expanded for those who take none.
//!
//! A message stays as it came, through mailboxes, queues, the store and the retained index. Whether it leaves like that is
//! a matter of each connection, see [`super::wire`].

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashMap;

use super::Core;
use super::publish::Refused;
use crate::message::{ELSEWHERE, Message, MessageRef, NEVER};
use crate::metrics::PublishRefusal;
use crate::protocol::{
    CONTENT_ENCODING, Publish, PublishProperties, QoS, ReasonCode, Will, forwarded_properties, varint_len,
    without_user_property,
};
use crate::session::WillState;
use crate::snappy::{self, Wrong};

/// Bytes that [`Expanded`] keeps before it begins anew.
const KEEP: usize = 4 << 20;

/// Messages expanded since the last tick, by the message that each was made of. A message that goes to many clients by
/// way of their queues is so expanded once, too.
#[derive(Debug, Default)]
pub struct Expanded {
    /// By address, which is nobody else's while the message is kept.
    messages: HashMap<usize, [Arc<Message>; 2], ahash::RandomState>,
    bytes: usize,
}

impl Expanded {
    /// What a message expands to, if that is known.
    #[cold]
    pub fn of(&self, message: &Arc<Message>) -> Option<Arc<Message>> {
        let [_, plain] = self.messages.get(&Arc::as_ptr(message).addr())?;
        Some(plain.clone())
    }

    /// Keeps what a message expands to, if anybody else may want it.
    pub fn keep(&mut self, message: &Arc<Message>, plain: Arc<Message>) {
        let weight = message.weight() + plain.weight();
        if Arc::strong_count(message) == 1 || weight > KEEP {
            return;
        }
        if self.bytes + weight > KEEP {
            self.forget();
        }
        self.bytes += weight;
        self.messages.insert(Arc::as_ptr(message).addr(), [message.clone(), plain]);
    }

    /// Forgets all of it.
    pub fn forget(&mut self) {
        if self.bytes > 0 {
            *self = Self::default();
        }
    }
}

impl Core {
    /// Judges a message that has a `content-encoding`, whether or not anybody will have it expanded: an acknowledgement
    /// says that it can be. Returns to how many bytes it expands, `None` if it says that it is anything but one Snappy
    /// block: that is a matter between its sender and its receivers.
    ///
    /// Nothing is nothing in every encoding, also where it clears a retained message [MQTT-3.3.1-6]: of a message that
    /// expands to nothing the property goes.
    fn judge(
        &self,
        topic: &str,
        qos: QoS,
        payload: &[u8],
        properties: &mut Vec<u8>,
    ) -> Result<Option<usize>, Refused> {
        if !says_snappy(properties) {
            return Ok(None);
        }
        let most = self.room(topic, qos, properties.len());
        let len = if payload.is_empty() { Ok(0) } else { snappy::check(payload, most) };
        match len {
            Ok(0) => {
                let mut left = Vec::with_capacity(properties.len());
                without_user_property(properties, CONTENT_ENCODING, &mut left);
                *properties = left;
                Ok(Some(0))
            }
            Ok(len) => Ok(Some(len)),
            Err(Wrong::TooLong) => {
                Err(Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::PayloadTooLarge))
            }
            Err(Wrong::Invalid) => {
                Err(Refused::new(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid))
            }
        }
    }

    /// The payload that a PUBLISH goes on with which has a `content-encoding`, and whether it is a Snappy block.
    #[cold]
    pub(super) fn judge_publish<'p>(
        &mut self,
        topic: &str,
        publish: &Publish<'p>,
        properties: &mut Vec<u8>,
    ) -> Result<(&'p [u8], bool), Refused> {
        let payload = publish.payload;
        match self.judge(topic, publish.qos, payload, properties)? {
            None => Ok((payload, false)),
            Some(0) => Ok((&[], false)),
            Some(len) => {
                let counters = &mut self.clients.counters;
                counters.compressed_messages_received += 1;
                counters.compressed_bytes_received += payload.len() as u64;
                counters.compressed_bytes_announced += len as u64;
                Ok((payload, true))
            }
        }
    }

    /// Bytes of payload that a packet has room for that would bring the same message uncompressed.
    fn room(&self, topic: &str, qos: QoS, properties: usize) -> usize {
        let most = self.exchange.settings.limits.max_packet;
        let mark = 1 + 2 + CONTENT_ENCODING.len() + 2 + snappy::NAME.len();
        let properties = properties - mark;
        let id = if qos == QoS::AtMostOnce { 0 } else { 2 };
        let head = 2 + topic.len() + id + varint_len(properties as u32) + properties;
        (most as usize).saturating_sub(1 + varint_len(most) + head)
    }

    /// The will of a CONNECT.
    pub(super) fn will(&self, will: &Will<'_>) -> Result<Box<WillState>, Refused> {
        let mut properties = Vec::new();
        let encoded = forwarded_properties(will.properties.raw, &mut properties);
        let expands_to =
            if encoded { self.judge(will.topic, will.qos, will.payload, &mut properties)? } else { None };
        let message = MessageRef {
            topic: will.topic,
            payload: if expands_to == Some(0) { &[] } else { will.payload },
            properties: &properties,
            expires_at: NEVER,
            from: ELSEWHERE,
            qos: will.qos,
            retain: will.retain,
            snappy: expands_to.is_some_and(|len| len > 0),
        };
        Ok(Box::new(WillState {
            message: message.to_message(),
            delay: will.delay_interval,
            expiry: will.properties.message_expiry,
            due: NEVER,
        }))
    }

    /// What a message says, for the broker itself to read.
    pub(super) fn plain<'m>(&mut self, m: &MessageRef<'m>) -> Cow<'m, [u8]> {
        self.clients.counters.expansions += u64::from(m.snappy);
        m.plain()
    }
}

/// Whether a block of properties has one `content-encoding`, and that is Snappy.
fn says_snappy(properties: &[u8]) -> bool {
    let decoded = PublishProperties::decode(properties).unwrap_or(PublishProperties::EMPTY);
    let mut encodings = decoded.user.iter().filter(|(name, _)| *name == CONTENT_ENCODING);
    matches!((encodings.next(), encodings.next()), (Some((_, snappy::NAME)), None))
}
