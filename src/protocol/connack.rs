//! CONNACK (section 3.2).

use super::packet::{QoS, Version};
use super::property::{MISPLACED, Property, Span, UserProperties, data_has_method, id, once, walk};
use super::read::Reader;
use super::reason::{Malformed, ReasonCode, malformed, protocol_error};
use super::write::{Encode, Sink, put_packet};

/// The server's answer to CONNECT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// The server has a session of this client; false with an error. MQTT 3.1 cannot say it.
    pub session_present: bool,
    /// Before MQTT 5 written as a return code by [`ReasonCode::for_v3_connack`]; a decoded return code stands here
    /// as it is, 0 to 5.
    pub reason: ReasonCode,
    /// Empty before MQTT 5.
    pub properties: ConnAckProperties<'a>,
}

/// Properties of a CONNACK (3.2.2.3). What is absent has the standard's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnAckProperties<'a> {
    /// Seconds, if not what the client asked for.
    pub session_expiry: Option<u32>,
    /// Not 0; absent: 65,535.
    pub receive_maximum: Option<u16>,
    /// QoS 0 or 1; absent: 2.
    pub maximum_qos: Option<QoS>,
    /// Absent: yes.
    pub retain_available: Option<bool>,
    /// Bytes, not 0; absent: no limit but the protocol's.
    pub maximum_packet: Option<u32>,
    /// For a client that came without one.
    pub assigned_client_id: Option<&'a str>,
    /// Absent: 0.
    pub topic_alias_maximum: Option<u16>,
    /// For people who look for a fault.
    pub reason_string: Option<&'a str>,
    /// In order.
    pub user: UserProperties<'a>,
    /// Absent: yes.
    pub wildcard_subscription_available: Option<bool>,
    /// Absent: yes.
    pub subscription_ids_available: Option<bool>,
    /// Absent: yes.
    pub shared_subscription_available: Option<bool>,
    /// Seconds; the client must use it instead of its own.
    pub server_keep_alive: Option<u16>,
    /// Where the client may build response topics.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// As in CONNECT.
    pub authentication_method: Option<&'a str>,
    /// Only with a method.
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> ConnAckProperties<'a> {
    fn decode(block: &'a [u8]) -> Result<ConnAckProperties<'a>, Malformed> {
        let mut properties = ConnAckProperties::default();
        let mut user = Span::default();
        walk(block, |property, at| {
            if matches!(property, Property::User(..)) {
                user.cover(at);
                return Ok(());
            }
            properties.take(property)
        })?;
        properties.user = UserProperties::of(block, user);
        data_has_method(properties.authentication_method, properties.authentication_data)?;
        Ok(properties)
    }

    fn take(&mut self, property: Property<'a>) -> Result<(), Malformed> {
        match property {
            Property::SessionExpiryInterval(seconds) => once(&mut self.session_expiry, seconds),
            Property::ReceiveMaximum(maximum) => once(&mut self.receive_maximum, maximum),
            Property::MaximumQoS(one) => {
                once(&mut self.maximum_qos, if one { QoS::AtLeastOnce } else { QoS::AtMostOnce })
            }
            Property::RetainAvailable(yes) => once(&mut self.retain_available, yes),
            Property::MaximumPacketSize(bytes) => once(&mut self.maximum_packet, bytes),
            Property::AssignedClientIdentifier(id) => once(&mut self.assigned_client_id, id),
            Property::TopicAliasMaximum(maximum) => once(&mut self.topic_alias_maximum, maximum),
            Property::ReasonString(text) => once(&mut self.reason_string, text),
            Property::WildcardSubscriptionAvailable(yes) => {
                once(&mut self.wildcard_subscription_available, yes)
            }
            Property::SubscriptionIdentifierAvailable(yes) => once(&mut self.subscription_ids_available, yes),
            Property::SharedSubscriptionAvailable(yes) => once(&mut self.shared_subscription_available, yes),
            Property::ServerKeepAlive(seconds) => once(&mut self.server_keep_alive, seconds),
            Property::ResponseInformation(text) => once(&mut self.response_information, text),
            Property::ServerReference(text) => once(&mut self.server_reference, text),
            Property::AuthenticationMethod(text) => once(&mut self.authentication_method, text),
            Property::AuthenticationData(bytes) => once(&mut self.authentication_data, bytes),
            _ => Err(MISPLACED),
        }
    }
}

impl Encode for ConnAckProperties<'_> {
    fn write(&self, out: &mut impl Sink) {
        let mut number = |id: u8, value: Option<u32>| {
            if let Some(value) = value {
                out.u8(id);
                out.u32(value);
            }
        };
        number(id::SESSION_EXPIRY_INTERVAL, self.session_expiry);
        number(id::MAXIMUM_PACKET_SIZE, self.maximum_packet);
        let mut short = |id: u8, value: Option<u16>| {
            if let Some(value) = value {
                out.u8(id);
                out.u16(value);
            }
        };
        short(id::RECEIVE_MAXIMUM, self.receive_maximum);
        short(id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        short(id::SERVER_KEEP_ALIVE, self.server_keep_alive);
        let mut flag = |id: u8, value: Option<bool>| {
            if let Some(value) = value {
                out.u8(id);
                out.u8(u8::from(value));
            }
        };
        // QoS 2 is said by saying nothing (3.2.2.3.4).
        let maximum_qos = self.maximum_qos.filter(|qos| *qos < QoS::ExactlyOnce);
        flag(id::MAXIMUM_QOS, maximum_qos.map(|qos| qos == QoS::AtLeastOnce));
        flag(id::RETAIN_AVAILABLE, self.retain_available);
        flag(id::WILDCARD_SUBSCRIPTION_AVAILABLE, self.wildcard_subscription_available);
        flag(id::SUBSCRIPTION_IDENTIFIER_AVAILABLE, self.subscription_ids_available);
        flag(id::SHARED_SUBSCRIPTION_AVAILABLE, self.shared_subscription_available);
        let mut text = |id: u8, value: Option<&str>| {
            if let Some(value) = value {
                out.u8(id);
                out.str(value);
            }
        };
        text(id::ASSIGNED_CLIENT_IDENTIFIER, self.assigned_client_id);
        text(id::RESPONSE_INFORMATION, self.response_information);
        text(id::SERVER_REFERENCE, self.server_reference);
        text(id::AUTHENTICATION_METHOD, self.authentication_method);
        text(id::REASON_STRING, self.reason_string);
        if let Some(bytes) = self.authentication_data {
            out.u8(id::AUTHENTICATION_DATA);
            out.binary(bytes);
        }
        self.user.write(out);
    }
}

impl<'a> ConnAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<ConnAck<'a>, Malformed> {
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        // MQTT 3.1 calls the byte reserved and not used, and knows no session present.
        if flags > 1 && version != Version::V31 {
            return Err(malformed("MQTT-3.2.2-1", "reserved CONNACK flags"));
        }
        let session_present = flags == 1 && version != Version::V31;
        let reason = ReasonCode(reader.u8()?);
        let (fits, properties) = if version.is_v5() {
            (reason.fits_connack(), ConnAckProperties::decode(reader.property_block()?)?)
        } else {
            (reason.0 <= 5, ConnAckProperties::default())
        };
        if !fits {
            return Err(malformed("MQTT-3.2.2-8", "a reason code that a CONNACK may not carry"));
        }
        if session_present && reason != ReasonCode::SUCCESS {
            return Err(protocol_error("MQTT-3.2.2-6", "session present with an error"));
        }
        reader.finish()?;
        Ok(ConnAck { session_present, reason, properties })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, 0x20, &Body { connack: self, version });
    }
}

struct Body<'a> {
    connack: &'a ConnAck<'a>,
    version: Version,
}

impl Encode for Body<'_> {
    fn write(&self, out: &mut impl Sink) {
        let connack = self.connack;
        out.u8(u8::from(connack.session_present && self.version != Version::V31));
        if self.version.is_v5() {
            out.u8(connack.reason.0);
            out.block(&connack.properties);
        } else {
            out.u8(connack.reason.for_v3_connack());
        }
    }
}
