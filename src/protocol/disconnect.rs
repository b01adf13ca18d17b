//! DISCONNECT (section 3.14).

use super::packet::Version;
use super::property::{MISPLACED, Property, Span, UserProperties, id, once, walk};
use super::read::Reader;
use super::reason::{Malformed, ReasonCode, malformed};
use super::write::{Encode, Sink, put_packet};

/// The last packet of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Always 0x00 before MQTT 5. Codes that only a server may send are not refused here.
    pub reason: ReasonCode,
    /// Empty before MQTT 5.
    pub properties: DisconnectProperties<'a>,
}

/// Properties of a DISCONNECT (3.14.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DisconnectProperties<'a> {
    /// Seconds; from a client only [MQTT-3.14.2-2], which the receiver judges.
    pub session_expiry: Option<u32>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// For people who look for a fault.
    pub reason_string: Option<&'a str>,
    /// In order.
    pub user: UserProperties<'a>,
}

impl<'a> DisconnectProperties<'a> {
    /// None at all.
    pub const EMPTY: DisconnectProperties<'static> = DisconnectProperties {
        session_expiry: None,
        server_reference: None,
        reason_string: None,
        user: UserProperties::EMPTY,
    };

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.session_expiry.is_none()
            && self.server_reference.is_none()
            && self.reason_string.is_none()
            && self.user.is_empty()
    }

    fn decode(block: &'a [u8]) -> Result<DisconnectProperties<'a>, Malformed> {
        let mut properties = DisconnectProperties::EMPTY;
        let mut user = Span::default();
        walk(block, |property, at| match property {
            Property::SessionExpiryInterval(seconds) => once(&mut properties.session_expiry, seconds),
            Property::ServerReference(text) => once(&mut properties.server_reference, text),
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

impl Encode for DisconnectProperties<'_> {
    fn write(&self, out: &mut impl Sink) {
        if let Some(seconds) = self.session_expiry {
            out.u8(id::SESSION_EXPIRY_INTERVAL);
            out.u32(seconds);
        }
        if let Some(text) = self.server_reference {
            out.u8(id::SERVER_REFERENCE);
            out.str(text);
        }
        if let Some(text) = self.reason_string {
            out.u8(id::REASON_STRING);
            out.str(text);
        }
        self.user.write(out);
    }
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT that says why and no more.
    pub const fn because(reason: ReasonCode) -> Disconnect<'static> {
        Disconnect { reason, properties: DisconnectProperties::EMPTY }
    }

    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Disconnect<'a>, Malformed> {
        let mut reader = Reader::new(body);
        if !version.is_v5() {
            reader.finish()?;
        }
        // A remaining length of 0 means success, one below 2 means no properties (3.14.2.1, 3.14.2.2.1).
        if reader.is_empty() {
            return Ok(Disconnect::default());
        }
        let reason = ReasonCode(reader.u8()?);
        if !reason.fits_disconnect() {
            return Err(malformed("MQTT-3.14.2-1", "a reason code that a DISCONNECT may not carry"));
        }
        let properties = if reader.is_empty() {
            DisconnectProperties::EMPTY
        } else {
            DisconnectProperties::decode(reader.property_block()?)?
        };
        reader.finish()?;
        Ok(Disconnect { reason, properties })
    }

    /// Appends the packet, in MQTT 5 in its shortest form.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version.is_v5() && (self.reason != ReasonCode::SUCCESS || !self.properties.is_empty()) {
            put_packet(out, 0xE0, self);
        } else {
            out.extend_from_slice(&[0xE0, 0]);
        }
    }
}

impl Encode for Disconnect<'_> {
    fn write(&self, out: &mut impl Sink) {
        out.u8(self.reason.0);
        if !self.properties.is_empty() {
            out.block(&self.properties);
        }
    }
}
