//! CONNECT (section 3.1), the one packet that names its version, and the will it may carry.

use super::packet::{QoS, Version};
use super::property::{MISPLACED, Property, Span, UserProperties, data_has_method, id, once, walk};
use super::publish::PublishProperties;
use super::read::Reader;
use super::reason::{Malformed, ReasonCode, malformed};
use super::write::{Encode, Sink, put_packet};

const USER_NAME: u8 = 0b1000_0000;
const PASSWORD: u8 = 0b0100_0000;
const WILL_RETAIN: u8 = 0b0010_0000;
const WILL_QOS: u8 = 0b0001_1000;
const WILL: u8 = 0b0000_0100;
const CLEAN_START: u8 = 0b0000_0010;
const RESERVED: u8 = 0b0000_0001;

/// A client asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version of this and all further packets of the connection.
    pub version: Version,
    /// Clean Start, before MQTT 5 Clean Session.
    pub clean_start: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// Empty: the server assigns one. Never empty in MQTT 3.1. In 3.1.1 an empty one without a clean session is to
    /// be answered with return code 2 [3.1.1: MQTT-3.1.3-8], which the codec leaves to whoever answers.
    pub client_id: &'a str,
    /// May be empty, which is not the same as absent.
    pub username: Option<&'a str>,
    /// Any bytes. Without a user name only in MQTT 5.
    pub password: Option<&'a [u8]>,
    /// What to publish for the client when it is gone.
    pub will: Option<Will<'a>>,
    /// Empty before MQTT 5.
    pub properties: ConnectProperties<'a>,
}

/// The will of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// The QoS it is published with.
    pub qos: QoS,
    /// Whether it is kept.
    pub retain: bool,
    /// A topic name: not empty, no wildcards.
    pub topic: &'a str,
    /// Any bytes, also none.
    pub payload: &'a [u8],
    /// Seconds between the end of the connection and the will; 0 before MQTT 5.
    pub delay_interval: u32,
    /// Without topic alias and subscription identifiers. `raw` may hold the Will Delay Interval, which
    /// [`forwarded_properties`](super::forwarded_properties) leaves out.
    pub properties: PublishProperties<'a>,
}

/// Properties of a CONNECT (3.1.2.11). What is absent has the standard's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Seconds; absent: 0; 0xFFFFFFFF: for ever.
    pub session_expiry: Option<u32>,
    /// Not 0; absent: 65,535.
    pub receive_maximum: Option<u16>,
    /// Bytes, not 0; absent: no limit but the protocol's.
    pub maximum_packet: Option<u32>,
    /// Absent: 0.
    pub topic_alias_maximum: Option<u16>,
    /// Absent: no.
    pub request_response_information: Option<bool>,
    /// Absent: yes.
    pub request_problem_information: Option<bool>,
    /// In order.
    pub user: UserProperties<'a>,
    /// Asks for enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Only with a method.
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> ConnectProperties<'a> {
    fn decode(block: &'a [u8]) -> Result<ConnectProperties<'a>, Malformed> {
        let mut properties = ConnectProperties::default();
        let mut user = Span::default();
        walk(block, |property, at| match property {
            Property::SessionExpiryInterval(seconds) => once(&mut properties.session_expiry, seconds),
            Property::ReceiveMaximum(maximum) => once(&mut properties.receive_maximum, maximum),
            Property::MaximumPacketSize(bytes) => once(&mut properties.maximum_packet, bytes),
            Property::TopicAliasMaximum(maximum) => once(&mut properties.topic_alias_maximum, maximum),
            Property::RequestResponseInformation(yes) => {
                once(&mut properties.request_response_information, yes)
            }
            Property::RequestProblemInformation(yes) => {
                once(&mut properties.request_problem_information, yes)
            }
            Property::AuthenticationMethod(text) => once(&mut properties.authentication_method, text),
            Property::AuthenticationData(bytes) => once(&mut properties.authentication_data, bytes),
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

impl Encode for ConnectProperties<'_> {
    fn write(&self, out: &mut impl Sink) {
        if let Some(seconds) = self.session_expiry {
            out.u8(id::SESSION_EXPIRY_INTERVAL);
            out.u32(seconds);
        }
        if let Some(maximum) = self.receive_maximum {
            out.u8(id::RECEIVE_MAXIMUM);
            out.u16(maximum);
        }
        if let Some(bytes) = self.maximum_packet {
            out.u8(id::MAXIMUM_PACKET_SIZE);
            out.u32(bytes);
        }
        if let Some(maximum) = self.topic_alias_maximum {
            out.u8(id::TOPIC_ALIAS_MAXIMUM);
            out.u16(maximum);
        }
        if let Some(yes) = self.request_response_information {
            out.u8(id::REQUEST_RESPONSE_INFORMATION);
            out.u8(u8::from(yes));
        }
        if let Some(yes) = self.request_problem_information {
            out.u8(id::REQUEST_PROBLEM_INFORMATION);
            out.u8(u8::from(yes));
        }
        if let Some(text) = self.authentication_method {
            out.u8(id::AUTHENTICATION_METHOD);
            out.str(text);
        }
        if let Some(bytes) = self.authentication_data {
            out.u8(id::AUTHENTICATION_DATA);
            out.binary(bytes);
        }
        self.user.write(out);
    }
}

/// The version that the body of a CONNECT names, read as far as that; for an answer to a CONNECT that is refused
/// further on.
///
/// # Errors
///
/// Reason 0x84 for a protocol name or level that is none of the three.
pub fn connect_version(body: &[u8]) -> Result<Version, Malformed> {
    read_version(&mut Reader::new(body))
}

fn read_version(reader: &mut Reader<'_>) -> Result<Version, Malformed> {
    let unsupported =
        |clause, what| Malformed { reason: ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, clause, what };
    let name = reader.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(unsupported("MQTT-3.1.2-1", "the protocol name is not MQTT"));
    }
    match (name, reader.u8()?) {
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQIsdp", 3) => Ok(Version::V31),
        _ => Err(unsupported("MQTT-3.1.2-2", "an unsupported protocol level")),
    }
}

/// Judges the connect flags.
///
/// MQTT 3.1 says of the reserved bit that it is not used, and of will QoS and will retain without a will that they
/// are disregarded, so there they are no reason to refuse.
fn check_flags(flags: u8, version: Version) -> Result<(), Malformed> {
    if version != Version::V31 {
        if flags & RESERVED != 0 {
            return Err(malformed("MQTT-3.1.2-3", "the reserved connect flag"));
        }
        if flags & WILL == 0 && flags & WILL_QOS != 0 {
            return Err(malformed("MQTT-3.1.2-11", "a will QoS without a will"));
        }
        if flags & WILL == 0 && flags & WILL_RETAIN != 0 {
            return Err(malformed("MQTT-3.1.2-13", "will retain without a will"));
        }
    }
    if flags & WILL != 0 && flags & WILL_QOS == WILL_QOS {
        return Err(malformed("MQTT-3.1.2-12", "will QoS 3"));
    }
    if flags & PASSWORD != 0 && flags & USER_NAME == 0 && !version.is_v5() {
        return Err(malformed("3.1.1: MQTT-3.1.2-22", "a password without a user name"));
    }
    Ok(())
}

impl<'a> Will<'a> {
    fn decode(flags: u8, reader: &mut Reader<'a>, version: Version) -> Result<Will<'a>, Malformed> {
        let (properties, delay_interval) = if version.is_v5() {
            PublishProperties::decode_will(reader.property_block()?)?
        } else {
            (PublishProperties::EMPTY, 0)
        };
        let topic = reader.topic_name(malformed("MQTT-4.7.1-1", "a will topic with a wildcard"))?;
        if topic.is_empty() {
            return Err(malformed("MQTT-4.7.3-1", "an empty will topic"));
        }
        Ok(Will {
            qos: QoS::try_from((flags & WILL_QOS) >> 3)?,
            retain: flags & WILL_RETAIN != 0,
            topic,
            payload: reader.binary()?,
            delay_interval,
            properties,
        })
    }

    fn flags(&self) -> u8 {
        WILL | (self.qos as u8) << 3 | if self.retain { WILL_RETAIN } else { 0 }
    }

    fn write(&self, out: &mut impl Sink, version: Version) {
        if version.is_v5() {
            out.block(&WillProperties(self));
        }
        out.str(self.topic);
        out.binary(self.payload);
    }
}

struct WillProperties<'a>(&'a Will<'a>);

impl Encode for WillProperties<'_> {
    fn write(&self, out: &mut impl Sink) {
        if self.0.delay_interval != 0 {
            out.u8(id::WILL_DELAY_INTERVAL);
            out.u32(self.0.delay_interval);
        }
        self.0.properties.write_message(out);
    }
}

impl<'a> Connect<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Connect<'a>, Malformed> {
        let mut reader = Reader::new(body);
        let version = read_version(&mut reader)?;
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let keep_alive = reader.u16()?;
        let properties = if version.is_v5() {
            ConnectProperties::decode(reader.property_block()?)?
        } else {
            ConnectProperties::default()
        };
        let client_id = reader.str()?;
        if client_id.is_empty() && version == Version::V31 {
            // More than its 23 characters are let through, as every broker does.
            return Err(Malformed {
                reason: ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
                clause: "3.1: 3.1",
                what: "an empty client identifier",
            });
        }
        let will = if flags & WILL == 0 { None } else { Some(Will::decode(flags, &mut reader, version)?) };
        // MQTT 3.1 (section 3.1): the remaining length takes precedence over the user name and password flags.
        let missing = |reader: &Reader<'_>| version == Version::V31 && reader.is_empty();
        let username = if flags & USER_NAME == 0 || missing(&reader) { None } else { Some(reader.str()?) };
        let password = if flags & PASSWORD == 0 || missing(&reader) { None } else { Some(reader.binary()?) };
        reader.finish()?;
        Ok(Connect {
            version,
            clean_start: flags & CLEAN_START != 0,
            keep_alive,
            client_id,
            username,
            password,
            will,
            properties,
        })
    }

    fn flags(&self) -> u8 {
        let bit = |set: bool, flag: u8| if set { flag } else { 0 };
        self.will.map_or(0, |will| will.flags())
            | bit(self.username.is_some(), USER_NAME)
            | bit(self.password.is_some(), PASSWORD)
            | bit(self.clean_start, CLEAN_START)
    }

    /// Appends the packet in its own version.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_packet(out, 0x10, self);
    }
}

impl Encode for Connect<'_> {
    fn write(&self, out: &mut impl Sink) {
        out.str(self.version.protocol_name());
        out.u8(self.version.level());
        out.u8(self.flags());
        out.u16(self.keep_alive);
        if self.version.is_v5() {
            out.block(&self.properties);
        }
        out.str(self.client_id);
        if let Some(will) = &self.will {
            will.write(out, self.version);
        }
        if let Some(username) = self.username {
            out.str(username);
        }
        if let Some(password) = self.password {
            out.binary(password);
        }
    }
}
