//! SUBACK (section 3.9) and UNSUBACK (section 3.11): one answer for each filter asked about.

use super::ack::ReasonProperties;
use super::packet::{PacketId, Version};
use super::read::Reader;
use super::reason::{Malformed, ReasonCode, malformed, protocol_error};
use super::write::{Encode, Sink, put_ack, put_packet};

/// The answer to SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The SUBSCRIBE it answers.
    pub packet_id: PacketId,
    /// Empty before MQTT 5.
    pub properties: ReasonProperties<'a>,
    /// One code for each filter, in order: the QoS granted (0 to 2) or why not. Codes above 0x80 go to clients
    /// before MQTT 5 as 0x80.
    pub reasons: &'a [u8],
}

/// The answer to UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The UNSUBSCRIBE it answers.
    pub packet_id: PacketId,
    /// Empty before MQTT 5.
    pub properties: ReasonProperties<'a>,
    /// One code for each filter, in order; none before MQTT 5, and none are written there.
    pub reasons: &'a [u8],
}

impl<'a> SubAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<SubAck<'a>, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = PacketId::read(&mut reader)?;
        let properties = if version.is_v5() {
            ReasonProperties::decode(reader.property_block()?)?
        } else {
            ReasonProperties::EMPTY
        };
        let reasons = reader.take_rest();
        if reasons.is_empty() {
            return Err(protocol_error("MQTT-3.8.4-6", "a SUBACK without a reason code"));
        }
        let fits = |code: &u8| match version {
            Version::V5 => ReasonCode(*code).fits_suback(),
            _ => matches!(code, 0..=2 | 0x80),
        };
        if !reasons.iter().all(fits) {
            return Err(malformed("3.9.3", "a reason code that a SUBACK may not carry"));
        }
        Ok(SubAck { packet_id, properties, reasons })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, 0x90, &SubAckBody { suback: self, version });
    }
}

struct SubAckBody<'a> {
    suback: &'a SubAck<'a>,
    version: Version,
}

impl Encode for SubAckBody<'_> {
    fn write(&self, out: &mut impl Sink) {
        out.u16(self.suback.packet_id.get());
        if self.version.is_v5() {
            out.block(&self.suback.properties);
            out.put(self.suback.reasons);
        } else {
            for &code in self.suback.reasons {
                out.u8(code.min(0x80));
            }
        }
    }
}

impl<'a> UnsubAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<UnsubAck<'a>, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = PacketId::read(&mut reader)?;
        if !version.is_v5() {
            reader.finish()?;
            return Ok(UnsubAck { packet_id, properties: ReasonProperties::EMPTY, reasons: &[] });
        }
        let properties = ReasonProperties::decode(reader.property_block()?)?;
        let reasons = reader.take_rest();
        if reasons.is_empty() {
            return Err(protocol_error("MQTT-3.11.3-1", "an UNSUBACK without a reason code"));
        }
        if !reasons.iter().all(|&code| ReasonCode(code).fits_unsuback()) {
            return Err(malformed("3.11.3", "a reason code that an UNSUBACK may not carry"));
        }
        Ok(UnsubAck { packet_id, properties, reasons })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version.is_v5() {
            put_packet(out, 0xB0, self);
        } else {
            put_ack(out, 0xB0, self.packet_id);
        }
    }
}

impl Encode for UnsubAck<'_> {
    fn write(&self, out: &mut impl Sink) {
        out.u16(self.packet_id.get());
        out.block(&self.properties);
        out.put(self.reasons);
    }
}
