//! Application Messages into output buffers.
//!
//! A message for many receivers is encoded once per wire shape and then copied, with flags and packet id put in; a
//! message for one receiver goes into its buffer directly.

use std::sync::Arc;

use super::encoding::Expanded;
use super::outbuf::{OutBuf, Pool, SHARE_FROM};
use crate::message::{Message, MessageRef, Millis};
use crate::metrics::Counters;
use crate::protocol::{PacketId, QoS, Version, put_str, put_u16, put_u32, put_varint, varint_len};
use crate::session::Connection;

const MESSAGE_EXPIRY: u8 = 0x02;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
const TOPIC_ALIAS: u8 = 0x23;

/// What differs from receiver to receiver.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// Version of the receiver's connection.
    pub version: Version,
    /// QoS of this delivery.
    pub qos: QoS,
    /// RETAIN as this receiver shall see it.
    pub retain: bool,
    /// Sent before, on this or an earlier connection [MQTT-3.3.1-1].
    pub dup: bool,
    /// Packet id, for QoS > 0.
    pub id: Option<PacketId>,
    /// Subscription Identifiers, for MQTT 5.
    pub ids: &'a [u32],
    /// Topic Alias and whether the client knows it already, for MQTT 5.
    pub alias: Option<(u16, bool)>,
}

impl Shape<'_> {
    fn first_byte(&self) -> u8 {
        0x30 | u8::from(self.dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain)
    }

    /// Whether the encoded form serves other receivers too.
    fn reusable(&self) -> bool {
        self.ids.is_empty() && self.alias.is_none()
    }
}

/// A message on its way to its receivers, with whatever was made of it so far.
#[derive(Debug)]
pub struct Outgoing<'m> {
    /// The message.
    pub message: MessageRef<'m>,
    /// The same, able to wait; made when the first receiver needs it.
    pub owned: Option<Arc<Message>>,
    /// What the store knows it by if several wait for it; 0 while nobody does.
    pub body: u64,
    expiry: Option<u32>,
    many: bool,
    /// Bytes of the payload, or `usize::MAX` if it is compressed: whatever takes more than a copy is found by one
    /// comparison, and what is not compressed pays nothing for what is.
    bulk: usize,
    frames: Vec<u8>,
    shapes: [Option<Encoded>; 4],
    compressed: Option<Box<Compressed>>,
}

/// What a compressed message has become on its way.
#[derive(Debug, Default)]
struct Compressed {
    /// The message expanded, since the first receiver that needed it.
    plain: Option<Arc<Message>>,
    /// Expanded here, not by an earlier round.
    made: bool,
    frames: Vec<u8>,
    shapes: [Option<Encoded>; 4],
    /// Receivers that got it as it came.
    as_it_came: u64,
    /// Receivers that got it expanded.
    expanded: u64,
}

/// Where in `frames` a shape lies, and where in it the packet id.
#[derive(Clone, Copy, Debug)]
struct Encoded {
    start: usize,
    end: usize,
    id_at: usize,
}

impl Compressed {
    /// Counts what was sent, and keeps what was made for the next round with the same message.
    #[cold]
    #[expect(
        clippy::boxed_local,
        reason = "unpacked by the caller it costs every plain message 10 instructions"
    )]
    fn end(
        self: Box<Self>,
        message: &MessageRef<'_>,
        owned: Option<&Arc<Message>>,
        expanded: &mut Expanded,
        counters: &mut Counters,
    ) {
        let len = message.payload.len() as u64;
        counters.compressed_messages_sent += self.as_it_came;
        counters.compressed_bytes_sent += self.as_it_came * len;
        let Some(plain) = self.plain else { return };
        let plain_len = plain.payload().len() as u64;
        counters.expanded_messages_sent += self.expanded;
        counters.expanded_bytes_sent += self.expanded * plain_len;
        // They were counted with the payload as it came.
        counters.payload_bytes_sent += self.expanded * plain_len;
        counters.payload_bytes_sent -= self.expanded * len;
        counters.expansions += u64::from(self.made);
        if let Some(message) = owned.filter(|_| self.made) {
            expanded.keep(message, plain);
        }
    }
}

impl<'m> Outgoing<'m> {
    /// A message for one receiver, or (`many`) for several. `scratch` is an empty buffer that comes back in
    /// [`Self::finish`].
    pub fn new(message: MessageRef<'m>, now: Millis, many: bool, scratch: Vec<u8>) -> Self {
        let expiry = message.remaining_expiry(now);
        let bulk = if message.snappy { usize::MAX } else { message.payload.len() };
        Self {
            message,
            owned: None,
            body: 0,
            expiry,
            many,
            bulk,
            frames: scratch,
            shapes: [None; 4],
            compressed: None,
        }
    }

    /// Whether several receivers get it.
    pub fn many(&self) -> bool {
        self.many
    }

    /// The message, able to wait.
    #[inline]
    pub fn owned(&mut self) -> Arc<Message> {
        self.owned.get_or_insert_with(|| self.message.to_message()).clone()
    }

    /// Has what an earlier round expanded used again, if there is something.
    #[inline]
    pub fn recall(&mut self, expanded: &Expanded) {
        if self.message.snappy
            && let Some(plain) = self.owned.as_ref().and_then(|message| expanded.of(message))
        {
            self.compressed.get_or_insert_default().plain = Some(plain);
        }
    }

    /// Ends the round. Returns the scratch buffer, to be used again.
    #[inline]
    pub fn finish(self, expanded: &mut Expanded, counters: &mut Counters) -> Vec<u8> {
        let Self { message, owned, mut frames, compressed, .. } = self;
        if let Some(compressed) = compressed {
            compressed.end(&message, owned.as_ref(), expanded, counters);
        }
        frames.clear();
        frames
    }

    fn properties_len(&self, shape: &Shape<'_>) -> usize {
        self.message.properties.len()
            + self.expiry.map_or(0, |_| 5)
            + shape.ids.iter().map(|&id| 1 + varint_len(id)).sum::<usize>()
            + shape.alias.map_or(0, |_| 3)
    }

    fn remaining_len(&self, shape: &Shape<'_>) -> usize {
        let topic = if matches!(shape.alias, Some((_, true))) { 0 } else { self.message.topic.len() };
        let properties = if shape.version.is_v5() {
            let len = self.properties_len(shape);
            varint_len(len as u32) + len
        } else {
            0
        };
        2 + topic + if shape.id.is_some() { 2 } else { 0 } + properties + self.message.payload.len()
    }

    /// Length of the whole packet for a receiver, for its Maximum Packet Size [MQTT-3.1.2-24].
    #[inline]
    pub fn packet_len(&mut self, shape: &Shape<'_>, link: &Connection) -> usize {
        if self.message.snappy && !link.accepts_snappy {
            return self.expanded(|plain| plain.len_as_it_is(shape));
        }
        self.len_as_it_is(shape)
    }

    #[inline]
    fn len_as_it_is(&self, shape: &Shape<'_>) -> usize {
        let remaining = self.remaining_len(shape);
        1 + varint_len(remaining as u32) + remaining
    }

    /// Encodes all but the payload; returns where the packet id is.
    #[inline]
    fn encode_head(&self, shape: &Shape<'_>, out: &mut Vec<u8>) -> usize {
        let m = &self.message;
        out.push(shape.first_byte());
        put_varint(out, self.remaining_len(shape) as u32);
        put_str(out, if matches!(shape.alias, Some((_, true))) { "" } else { m.topic });
        let id_at = out.len();
        if let Some(id) = shape.id {
            put_u16(out, id.get());
        }
        if shape.version.is_v5() {
            put_varint(out, self.properties_len(shape) as u32);
            if let Some(seconds) = self.expiry {
                out.push(MESSAGE_EXPIRY);
                put_u32(out, seconds);
            }
            if let Some((alias, _)) = shape.alias {
                out.push(TOPIC_ALIAS);
                put_u16(out, alias);
            }
            for &id in shape.ids {
                out.push(SUBSCRIPTION_IDENTIFIER);
                put_varint(out, id);
            }
            out.extend_from_slice(m.properties);
        }
        id_at
    }

    /// Appends the message for one receiver.
    #[inline]
    pub fn write(&mut self, shape: &Shape<'_>, link: &Connection, out: &mut OutBuf, pool: &mut Pool) {
        if self.bulk >= SHARE_FROM {
            self.write_bulk(shape, link, out, pool);
        } else {
            self.write_small(shape, out, pool);
        }
    }

    /// A payload that is large or compressed.
    #[inline(never)]
    fn write_bulk(&mut self, shape: &Shape<'_>, link: &Connection, out: &mut OutBuf, pool: &mut Pool) {
        if self.message.snappy {
            let compressed = self.compressed.get_or_insert_default();
            if !link.accepts_snappy {
                compressed.expanded += 1;
                return self.expanded(|plain| plain.write(shape, link, out, pool));
            }
            compressed.as_it_came += 1;
        }
        if self.message.payload.len() >= SHARE_FROM {
            self.encode_head(shape, out.bytes(pool));
            out.splice(self.owned());
        } else {
            self.write_small(shape, out, pool);
        }
    }

    /// Does something with the message as those get it who take nothing compressed. It is expanded for the first of
    /// them.
    #[cold]
    fn expanded<T>(&mut self, act: impl FnOnce(&mut Outgoing<'_>) -> T) -> T {
        let compressed = self.compressed.get_or_insert_default();
        let message = compressed.plain.get_or_insert_with(|| {
            compressed.made = true;
            self.message.to_plain()
        });
        let message = message.clone();
        let mut plain = Outgoing {
            message: message.view(),
            owned: Some(message.clone()),
            body: 0,
            expiry: self.expiry,
            many: self.many,
            bulk: message.payload().len(),
            frames: std::mem::take(&mut compressed.frames),
            shapes: compressed.shapes,
            compressed: None,
        };
        let result = act(&mut plain);
        (compressed.frames, compressed.shapes) = (plain.frames, plain.shapes);
        result
    }

    #[inline]
    fn write_small(&mut self, shape: &Shape<'_>, out: &mut OutBuf, pool: &mut Pool) {
        if self.many && shape.reusable() {
            self.copy(shape, out.bytes(pool));
        } else {
            let bytes = out.bytes(pool);
            self.encode_head(shape, bytes);
            bytes.extend_from_slice(self.message.payload);
        }
    }

    /// Appends the encoded form that receivers of this shape have in common.
    #[inline]
    fn copy(&mut self, shape: &Shape<'_>, out: &mut Vec<u8>) {
        let slot = usize::from(shape.version.is_v5()) << 1 | usize::from(shape.id.is_some());
        let known = self.shapes.get(slot).copied().flatten();
        let encoded = known.unwrap_or_else(|| self.encode_common(shape, slot));
        let at = out.len();
        if let Some(frame) = self.frames.get(encoded.start..encoded.end) {
            out.extend_from_slice(frame);
        }
        if let Some(first) = out.get_mut(at) {
            *first = shape.first_byte();
        }
        if let Some(id) = shape.id
            && let Some(place) = out.get_mut(at + encoded.id_at..at + encoded.id_at + 2)
        {
            place.copy_from_slice(&id.get().to_be_bytes());
        }
    }

    #[cold]
    fn encode_common(&mut self, shape: &Shape<'_>, slot: usize) -> Encoded {
        let mut frames = std::mem::take(&mut self.frames);
        let start = frames.len();
        let id_at = self.encode_head(shape, &mut frames) - start;
        frames.extend_from_slice(self.message.payload);
        let encoded = Encoded { start, end: frames.len(), id_at };
        self.frames = frames;
        if let Some(place) = self.shapes.get_mut(slot) {
            *place = Some(encoded);
        }
        encoded
    }
}
