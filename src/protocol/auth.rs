//! AUTH (section 3.15): enhanced authentication, MQTT 5 only.

use super::property::{MISPLACED, Property, Span, UserProperties, data_has_method, id, once, walk};
use super::read::Reader;
use super::reason::{Malformed, ReasonCode, malformed, protocol_error};
use super::write::{Encode, Sink, put_packet};

/// One step of an authentication exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auth<'a> {
    /// 0x00 success, 0x18 continue, 0x19 authenticate again.
    pub reason: ReasonCode,
    /// With a method unless the reason is 0x00.
    pub properties: AuthProperties<'a>,
}

/// Properties of an AUTH (3.15.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthProperties<'a> {
    /// The same through the whole connection.
    pub authentication_method: Option<&'a str>,
    /// Only with a method.
    pub authentication_data: Option<&'a [u8]>,
    /// For people who look for a fault.
    pub reason_string: Option<&'a str>,
    /// In order.
    pub user: UserProperties<'a>,
}

impl<'a> AuthProperties<'a> {
    fn decode(block: &'a [u8]) -> Result<AuthProperties<'a>, Malformed> {
        let mut properties = AuthProperties::default();
        let mut user = Span::default();
        walk(block, |property, at| match property {
            Property::AuthenticationMethod(text) => once(&mut properties.authentication_method, text),
            Property::AuthenticationData(bytes) => once(&mut properties.authentication_data, bytes),
            Property::ReasonString(text) => once(&mut properties.reason_string, text),
            Property::User(..) => {
                user.cover(at);
                Ok(())
            }
            _ => Err(MISPLACED),
        })?;
        properties.user = UserProperties::of(block, user);
        data_has_method(properties.authentication_method, properties.authentication_data)?;
        Ok(properties)
    }
}

impl Encode for AuthProperties<'_> {
    fn write(&self, out: &mut impl Sink) {
        if let Some(text) = self.authentication_method {
            out.u8(id::AUTHENTICATION_METHOD);
            out.str(text);
        }
        if let Some(bytes) = self.authentication_data {
            out.u8(id::AUTHENTICATION_DATA);
            out.binary(bytes);
        }
        if let Some(text) = self.reason_string {
            out.u8(id::REASON_STRING);
            out.str(text);
        }
        self.user.write(out);
    }
}

impl<'a> Auth<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Auth<'a>, Malformed> {
        let mut reader = Reader::new(body);
        // The short form means success without properties (3.15.2.1), so it cannot carry a method either.
        if reader.is_empty() {
            return Ok(Auth::default());
        }
        let reason = ReasonCode(reader.u8()?);
        if !reason.fits_auth() {
            return Err(malformed("MQTT-3.15.2-1", "a reason code that an AUTH may not carry"));
        }
        let properties = if reader.is_empty() {
            AuthProperties::default()
        } else {
            AuthProperties::decode(reader.property_block()?)?
        };
        reader.finish()?;
        if reason != ReasonCode::SUCCESS && properties.authentication_method.is_none() {
            return Err(protocol_error("3.15.2.2.2", "an AUTH without an authentication method"));
        }
        Ok(Auth { reason, properties })
    }

    /// Appends the packet in the form of MQTT 5, the only version that has it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if *self == Auth::default() {
            out.extend_from_slice(&[0xF0, 0]);
        } else {
            put_packet(out, 0xF0, self);
        }
    }
}

impl Encode for Auth<'_> {
    fn write(&self, out: &mut impl Sink) {
        out.u8(self.reason.0);
        out.block(&self.properties);
    }
}
