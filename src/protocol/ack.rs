//! PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7): one shape, four names. Hot.

use super::packet::{PacketId, Version};
use super::property::{MISPLACED, Property, Span, UserProperties, id, once, walk};
use super::read::Reader;
use super::reason::{Malformed, ReasonCode, malformed};
use super::write::{Encode, Sink, put_ack, put_packet};

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckKind {
    /// QoS 1: received.
    PubAck,
    /// QoS 2, step 1: received.
    PubRec,
    /// QoS 2, step 2: released.
    PubRel,
    /// QoS 2, step 3: complete.
    PubComp,
}

impl AckKind {
    /// Packet type and flags.
    #[inline]
    pub const fn first_byte(self) -> u8 {
        match self {
            AckKind::PubAck => 0x40,
            AckKind::PubRec => 0x50,
            AckKind::PubRel => 0x62,
            AckKind::PubComp => 0x70,
        }
    }

    const fn allows(self, reason: ReasonCode) -> bool {
        match self {
            AckKind::PubAck | AckKind::PubRec => reason.fits_publish_ack(),
            AckKind::PubRel | AckKind::PubComp => reason.fits_release(),
        }
    }
}

/// A step of the QoS 1 or QoS 2 exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The PUBLISH it is about.
    pub packet_id: PacketId,
    /// Always success before MQTT 5.
    pub reason: ReasonCode,
    /// Empty before MQTT 5.
    pub properties: ReasonProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement of success that says no more than that.
    #[inline]
    pub const fn success(packet_id: PacketId) -> Ack<'static> {
        Ack { packet_id, reason: ReasonCode::SUCCESS, properties: ReasonProperties::EMPTY }
    }

    #[inline]
    pub(super) fn decode(kind: AckKind, body: &'a [u8], version: Version) -> Result<Ack<'a>, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = PacketId::read(&mut reader)?;
        if reader.is_empty() {
            return Ok(Ack::success(packet_id));
        }
        Ack::decode_reason(kind, packet_id, reader, version)
    }

    /// The rest of an acknowledgement that says more than its packet identifier; rare.
    fn decode_reason(
        kind: AckKind,
        packet_id: PacketId,
        mut reader: Reader<'a>,
        version: Version,
    ) -> Result<Ack<'a>, Malformed> {
        if !version.is_v5() {
            reader.finish()?;
        }
        let reason = ReasonCode(reader.u8()?);
        if !kind.allows(reason) {
            return Err(malformed("3.4.2.1", "a reason code that this acknowledgement may not carry"));
        }
        // Without the property length there are no properties (3.4.2.2.1).
        let properties = if reader.is_empty() {
            ReasonProperties::EMPTY
        } else {
            ReasonProperties::decode(reader.property_block()?)?
        };
        reader.finish()?;
        Ok(Ack { packet_id, reason, properties })
    }

    /// Appends the packet, in MQTT 5 in its shortest form.
    #[inline]
    pub fn encode(&self, kind: AckKind, version: Version, out: &mut Vec<u8>) {
        if version.is_v5() && (self.reason != ReasonCode::SUCCESS || !self.properties.is_empty()) {
            put_packet(out, kind.first_byte(), self);
        } else {
            put_ack(out, kind.first_byte(), self.packet_id);
        }
    }
}

impl Encode for Ack<'_> {
    fn write(&self, out: &mut impl Sink) {
        out.u16(self.packet_id.get());
        out.u8(self.reason.0);
        if !self.properties.is_empty() {
            out.block(&self.properties);
        }
    }
}

/// Reason String and User Properties: all that acknowledgements, SUBACK and UNSUBACK can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReasonProperties<'a> {
    /// For people who look for a fault; no program should read it.
    pub reason_string: Option<&'a str>,
    /// In order.
    pub user: UserProperties<'a>,
}

impl<'a> ReasonProperties<'a> {
    /// None at all.
    pub const EMPTY: ReasonProperties<'static> =
        ReasonProperties { reason_string: None, user: UserProperties::EMPTY };

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user.is_empty()
    }

    pub(super) fn decode(block: &'a [u8]) -> Result<ReasonProperties<'a>, Malformed> {
        let mut properties = ReasonProperties::EMPTY;
        let mut user = Span::default();
        walk(block, |property, at| match property {
            Property::ReasonString(text) => once(&mut properties.reason_string, text),
            Property::User(..) => {
                user.cover(at);
                Ok(())
            }
            _ => Err(MISPLACED),
        })?;
        properties.user = UserProperties::of(block, user);
        Ok(properties)
    }
}

impl Encode for ReasonProperties<'_> {
    fn write(&self, out: &mut impl Sink) {
        if let Some(text) = self.reason_string {
            out.u8(id::REASON_STRING);
            out.str(text);
        }
        self.user.write(out);
    }
}
