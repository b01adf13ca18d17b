//! PUBLISH (section 3.3), and the properties it shares with the will of a CONNECT. The hot packet: decoding
//! allocates nothing and walks its properties once.

use super::packet::{PacketId, QoS, Version};
use super::property::{MISPLACED, Property, Span, SubscriptionIds, UserProperties, id, once, walk};
use super::read::Reader;
use super::reason::{Malformed, malformed, protocol_error};
use super::write::{Encode, Sink, put_packet};

/// An Application Message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before and not acknowledged; never with QoS 0.
    pub dup: bool,
    /// The QoS of this hop.
    pub qos: QoS,
    /// To a server: keep the message. To a client: it was kept, or Retain As Published hands the flag on.
    pub retain: bool,
    /// The topic name: no wildcards, no U+0000. Empty only in MQTT 5 and only with a topic alias.
    pub topic: &'a str,
    /// There exactly when the QoS is not 0.
    pub packet_id: Option<PacketId>,
    /// Empty before MQTT 5.
    pub properties: PublishProperties<'a>,
    /// Any bytes, also none. Not compared with the payload format indicator.
    pub payload: &'a [u8],
}

/// Properties of a PUBLISH (3.3.2.3).
///
/// Two are equal if they mean the same: order between different properties does not count, nor does `raw`.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishProperties<'a> {
    /// 1 to 65,535; the codec does not know the connection's maximum.
    pub topic_alias: Option<u16>,
    /// Lifetime in seconds.
    pub message_expiry: Option<u32>,
    /// `Some(true)`: the sender says the payload is UTF-8. The codec does not check it.
    pub payload_format_utf8: Option<bool>,
    /// What the payload is, in the sender's words.
    pub content_type: Option<&'a str>,
    /// A topic name for the answer; not empty, no wildcards.
    pub response_topic: Option<&'a str>,
    /// Given back with the answer.
    pub correlation_data: Option<&'a [u8]>,
    /// In order.
    pub user: UserProperties<'a>,
    /// The subscriptions that this message matched, from a server only [MQTT-3.3.4-6]; the receiver judges that.
    pub subscription_ids: SubscriptionIds<'a>,
    /// The whole block as it arrived, checked, without its length, for
    /// [`forwarded_properties`](super::forwarded_properties). Encoding writes the fields above and ignores this.
    pub raw: &'a [u8],
}

impl PartialEq for PublishProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.topic_alias == other.topic_alias
            && self.message_expiry == other.message_expiry
            && self.payload_format_utf8 == other.payload_format_utf8
            && self.content_type == other.content_type
            && self.response_topic == other.response_topic
            && self.correlation_data == other.correlation_data
            && self.user == other.user
            && self.subscription_ids == other.subscription_ids
    }
}

impl Eq for PublishProperties<'_> {}

impl<'a> PublishProperties<'a> {
    /// None at all, as in every packet before MQTT 5.
    pub const EMPTY: PublishProperties<'static> = PublishProperties {
        topic_alias: None,
        message_expiry: None,
        payload_format_utf8: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user: UserProperties::EMPTY,
        subscription_ids: SubscriptionIds::EMPTY,
        raw: &[],
    };

    /// Reads a property block, without its length.
    #[inline]
    pub fn decode(block: &'a [u8]) -> Result<PublishProperties<'a>, Malformed> {
        let mut properties = PublishProperties::EMPTY;
        if block.is_empty() {
            return Ok(properties);
        }
        let mut ids = Span::default();
        let mut user = Span::default();
        walk(block, |property, at| {
            match property {
                Property::SubscriptionIdentifier(_) => ids.cover(at),
                Property::TopicAlias(alias) => once(&mut properties.topic_alias, alias)?,
                Property::User(..) => user.cover(at),
                property => properties.take(property)?,
            }
            Ok(())
        })?;
        properties.user = UserProperties::of(block, user);
        properties.subscription_ids = SubscriptionIds::of(block, ids);
        properties.raw = block;
        Ok(properties)
    }

    /// Reads the block before a will's topic (3.1.3.2) and gives the Will Delay Interval beside it.
    pub(super) fn decode_will(block: &'a [u8]) -> Result<(PublishProperties<'a>, u32), Malformed> {
        let mut properties = PublishProperties::EMPTY;
        let mut delay = None;
        let mut user = Span::default();
        walk(block, |property, at| {
            match property {
                Property::WillDelayInterval(seconds) => once(&mut delay, seconds)?,
                Property::User(..) => user.cover(at),
                property => properties.take(property)?,
            }
            Ok(())
        })?;
        properties.user = UserProperties::of(block, user);
        properties.raw = block;
        Ok((properties, delay.unwrap_or(0)))
    }

    /// Stores a property that belongs to the message itself.
    #[inline]
    fn take(&mut self, property: Property<'a>) -> Result<(), Malformed> {
        match property {
            Property::PayloadFormatIndicator(utf8) => once(&mut self.payload_format_utf8, utf8),
            Property::MessageExpiryInterval(seconds) => once(&mut self.message_expiry, seconds),
            Property::ContentType(text) => once(&mut self.content_type, text),
            Property::ResponseTopic(topic) => once(&mut self.response_topic, topic),
            Property::CorrelationData(bytes) => once(&mut self.correlation_data, bytes),
            _ => Err(MISPLACED),
        }
    }

    /// Writes what belongs to the message itself: all a will can have but its delay.
    pub(super) fn write_message(&self, out: &mut impl Sink) {
        if let Some(utf8) = self.payload_format_utf8 {
            out.u8(id::PAYLOAD_FORMAT_INDICATOR);
            out.u8(u8::from(utf8));
        }
        if let Some(seconds) = self.message_expiry {
            out.u8(id::MESSAGE_EXPIRY_INTERVAL);
            out.u32(seconds);
        }
        if let Some(text) = self.content_type {
            out.u8(id::CONTENT_TYPE);
            out.str(text);
        }
        if let Some(topic) = self.response_topic {
            out.u8(id::RESPONSE_TOPIC);
            out.str(topic);
        }
        if let Some(bytes) = self.correlation_data {
            out.u8(id::CORRELATION_DATA);
            out.binary(bytes);
        }
        self.user.write(out);
    }
}

impl Encode for PublishProperties<'_> {
    fn write(&self, out: &mut impl Sink) {
        if let Some(alias) = self.topic_alias {
            out.u8(id::TOPIC_ALIAS);
            out.u16(alias);
        }
        self.subscription_ids.write(out);
        self.write_message(out);
    }
}

impl<'a> Publish<'a> {
    /// Decodes a body whose first byte was `first`.
    #[inline]
    pub(super) fn decode(first: u8, body: &'a [u8], version: Version) -> Result<Publish<'a>, Malformed> {
        let qos = QoS::try_from(first >> 1 & 0b11)?;
        let mut reader = Reader::new(body);
        let topic = reader.topic_name(malformed("MQTT-3.3.2-2", "a topic name with a wildcard"))?;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(PacketId::read(&mut reader)?),
        };
        let properties = if version.is_v5() {
            PublishProperties::decode(reader.property_block()?)?
        } else {
            PublishProperties::EMPTY
        };
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(if version.is_v5() {
                protocol_error("3.3.2.1", "an empty topic name without a topic alias")
            } else {
                malformed("MQTT-4.7.3-1", "an empty topic name")
            });
        }
        Ok(Publish {
            dup: first & 0b1000 != 0,
            qos,
            retain: first & 1 != 0,
            topic,
            packet_id,
            properties,
            payload: reader.take_rest(),
        })
    }

    /// The first byte: packet type and flags.
    #[inline]
    pub fn first_byte(&self) -> u8 {
        debug_assert!(!self.dup || self.qos != QoS::AtMostOnce, "DUP on QoS 0 [MQTT-3.3.1-2]");
        0x30 | u8::from(self.dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain)
    }

    /// Appends the packet. `packet_id` must be there exactly when the QoS is not 0.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        debug_assert_eq!(self.packet_id.is_some(), self.qos != QoS::AtMostOnce, "[MQTT-2.2.1-2] and -4");
        put_packet(out, self.first_byte(), &Body { publish: self, version });
    }
}

struct Body<'a> {
    publish: &'a Publish<'a>,
    version: Version,
}

impl Encode for Body<'_> {
    fn write(&self, out: &mut impl Sink) {
        let publish = self.publish;
        out.str(publish.topic);
        if let Some(packet_id) = publish.packet_id {
            out.u16(packet_id.get());
        }
        if self.version.is_v5() {
            out.block(&publish.properties);
        }
        out.put(publish.payload);
    }
}
