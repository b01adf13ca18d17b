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
    CONTENT_ENCODING, PublishProperties, QoS, ReasonCode, Will, forwarded_properties, varint_len,
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
        if Arc::strong_count(message) == 1 {
            return;
        }
        let weight = message.weight() + plain.weight();
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
    /// Takes a message that says it is compressed. It is judged here, whether or not anybody will have it expanded: an
    /// acknowledgement says that it can be.
    #[cold]
    pub(super) fn take_encoded(&mut self, session: u32, m: MessageRef<'_>) -> Result<bool, Refused> {
        let mut left = Vec::new();
        let (m, expands_to) = self.judged(m, &mut left)?;
        let any = self.take(session, &m)?;
        if m.snappy {
            let counters = &mut self.clients.counters;
            counters.compressed_messages_received += 1;
            counters.compressed_bytes_received += m.payload.len() as u64;
            counters.compressed_bytes_announced += expands_to as u64;
        }
        Ok(any)
    }

    /// A message that has a `content-encoding`, as it goes on from here, and to how many bytes it expands. `left` has
    /// room for what is left of its properties if it turns out to be no compressed message.
    fn judged<'m>(
        &self,
        m: MessageRef<'m>,
        left: &'m mut Vec<u8>,
    ) -> Result<(MessageRef<'m>, usize), Refused> {
        Ok(match self.snappy_len(&m)? {
            None => (m, m.payload.len()),
            Some(0) => {
                // Nothing is nothing in every encoding, also where it clears a retained message [MQTT-3.3.1-6].
                without_user_property(m.properties, CONTENT_ENCODING, left);
                (MessageRef { payload: &[], properties: left, ..m }, 0)
            }
            Some(len) => (MessageRef { snappy: true, ..m }, len),
        })
    }

    /// To how many bytes a message expands that says it is a Snappy block; `None` if it says anything else. What is
    /// compressed otherwise, or more than once, is a matter between its sender and its receivers.
    fn snappy_len(&self, m: &MessageRef<'_>) -> Result<Option<usize>, Refused> {
        let properties = PublishProperties::decode(m.properties).unwrap_or(PublishProperties::EMPTY);
        let mut encodings = properties.user.iter().filter(|(name, _)| *name == CONTENT_ENCODING);
        let (Some((_, snappy::NAME)), None) = (encodings.next(), encodings.next()) else { return Ok(None) };
        if m.payload.is_empty() {
            return Ok(Some(0));
        }
        match snappy::check(m.payload, self.room(m)) {
            Ok(len) => Ok(Some(len)),
            Err(Wrong::TooLong) => {
                Err(Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::PayloadTooLarge))
            }
            Err(Wrong::Invalid) => {
                Err(Refused::new(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid))
            }
        }
    }

    /// Bytes of payload that a packet has room for that would bring the same message uncompressed.
    fn room(&self, m: &MessageRef<'_>) -> usize {
        let most = self.exchange.settings.limits.max_packet;
        let mark = 1 + 2 + CONTENT_ENCODING.len() + 2 + snappy::NAME.len();
        let properties = m.properties.len() - mark;
        let id = if m.qos == QoS::AtMostOnce { 0 } else { 2 };
        let head = 2 + m.topic.len() + id + varint_len(properties as u32) + properties;
        (most as usize).saturating_sub(1 + varint_len(most) + head)
    }

    /// The will of a CONNECT.
    pub(super) fn will(&self, will: &Will<'_>) -> Result<Box<WillState>, Refused> {
        let mut properties = Vec::new();
        let encoded = forwarded_properties(will.properties.raw, &mut properties);
        let mut message = MessageRef {
            topic: will.topic,
            payload: will.payload,
            properties: &properties,
            expires_at: NEVER,
            from: ELSEWHERE,
            qos: will.qos,
            retain: will.retain,
            snappy: false,
        };
        let mut left = Vec::new();
        if encoded {
            (message, _) = self.judged(message, &mut left)?;
        }
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
