//! The packets as one type, and the few values that many of them share: version, QoS, packet identifier.

use std::num::NonZeroU16;

use super::ack::{Ack, AckKind};
use super::auth::Auth;
use super::connack::ConnAck;
use super::connect::Connect;
use super::disconnect::Disconnect;
use super::frame::{Frame, check_first_for};
use super::publish::Publish;
use super::reason::{Malformed, malformed};
use super::suback::{SubAck, UnsubAck};
use super::subscribe::Subscribe;
use super::unsubscribe::Unsubscribe;

/// A version of MQTT, as a value: the codec has no twins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V311,
    /// MQTT 5: protocol name `MQTT`, level 5.
    V5,
}

impl Version {
    /// Whether packets carry properties and reason codes.
    #[inline]
    pub const fn is_v5(self) -> bool {
        matches!(self, Version::V5)
    }

    /// The protocol level of CONNECT: 3, 4 or 5.
    pub const fn level(self) -> u8 {
        match self {
            Version::V31 => 3,
            Version::V311 => 4,
            Version::V5 => 5,
        }
    }

    /// The protocol name of CONNECT.
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Version::V31 => "MQIsdp",
            Version::V311 | Version::V5 => "MQTT",
        }
    }
}

/// How surely an Application Message is delivered (section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0.
    #[default]
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl TryFrom<u8> for QoS {
    type Error = Malformed;

    /// 3 and everything above is malformed.
    #[inline]
    fn try_from(value: u8) -> Result<QoS, Malformed> {
        match value {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            2 => Ok(QoS::ExactlyOnce),
            _ => Err(malformed("MQTT-3.3.1-4", "a QoS above 2")),
        }
    }
}

/// A packet identifier: 1 to 65,535 (2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// `None` for 0, which no packet may carry [MQTT-2.2.1-3].
    #[inline]
    pub const fn new(id: u16) -> Option<PacketId> {
        match NonZeroU16::new(id) {
            Some(id) => Some(PacketId(id)),
            None => None,
        }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// Reads an identifier and refuses 0.
    #[inline]
    pub(super) fn read(reader: &mut super::read::Reader<'_>) -> Result<PacketId, Malformed> {
        PacketId::new(reader.u16()?).ok_or(malformed("MQTT-2.2.1-3", "packet identifier 0"))
    }
}

/// A decoded packet, borrowed from the bytes it arrived in.
///
/// CONNECT and CONNACK are boxed: they are the two big ones, and there is one of each in a connection's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A client asks for a connection.
    Connect(Box<Connect<'a>>),
    /// The server's answer to CONNECT.
    ConnAck(Box<ConnAck<'a>>),
    /// An Application Message.
    Publish(Publish<'a>),
    /// QoS 1: received.
    PubAck(Ack<'a>),
    /// QoS 2, step 1: received.
    PubRec(Ack<'a>),
    /// QoS 2, step 2: released.
    PubRel(Ack<'a>),
    /// QoS 2, step 3: complete.
    PubComp(Ack<'a>),
    /// A client subscribes.
    Subscribe(Subscribe<'a>),
    /// The answer to SUBSCRIBE.
    SubAck(SubAck<'a>),
    /// A client unsubscribes.
    Unsubscribe(Unsubscribe<'a>),
    /// The answer to UNSUBSCRIBE.
    UnsubAck(UnsubAck<'a>),
    /// A client is alive.
    PingReq,
    /// So is the server.
    PingResp,
    /// The last packet of a connection.
    Disconnect(Disconnect<'a>),
    /// MQTT 5: one step of an authentication exchange.
    Auth(Auth<'a>),
}

/// Decodes one framed packet as `version` defines it. CONNECT names its own version, so `version` is ignored there.
///
/// What is allowed only to a client or only to a server is not judged here, but for what the packet itself shows:
/// the codec reads both directions.
///
/// # Errors
///
/// Everything the standard of that version tells a receiver to refuse, with the reason and the clause.
#[inline]
pub fn decode(frame: Frame<'_>, version: Version) -> Result<Packet<'_>, Malformed> {
    check_first_for(frame.first, version)?;
    let body = frame.body;
    match frame.first >> 4 {
        3 => Publish::decode(frame.first, body, version).map(Packet::Publish),
        4 => Ack::decode(AckKind::PubAck, body, version).map(Packet::PubAck),
        5 => Ack::decode(AckKind::PubRec, body, version).map(Packet::PubRec),
        6 => Ack::decode(AckKind::PubRel, body, version).map(Packet::PubRel),
        7 => Ack::decode(AckKind::PubComp, body, version).map(Packet::PubComp),
        _ => decode_rare(frame, version),
    }
}

/// The packets that are not on the hot path, out of line so that [`decode`] stays small where it is inlined.
fn decode_rare(frame: Frame<'_>, version: Version) -> Result<Packet<'_>, Malformed> {
    let body = frame.body;
    Ok(match frame.first >> 4 {
        1 => Packet::Connect(Box::new(Connect::decode(body)?)),
        2 => Packet::ConnAck(Box::new(ConnAck::decode(body, version)?)),
        8 => Packet::Subscribe(Subscribe::decode(body, version)?),
        9 => Packet::SubAck(SubAck::decode(body, version)?),
        10 => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        11 => Packet::UnsubAck(UnsubAck::decode(body, version)?),
        14 => Packet::Disconnect(Disconnect::decode(body, version)?),
        15 => Packet::Auth(Auth::decode(body)?),
        ping => {
            if !body.is_empty() {
                return Err(malformed("3.12", "a PINGREQ or PINGRESP with a body"));
            }
            if ping == 12 { Packet::PingReq } else { Packet::PingResp }
        }
    })
}

impl Packet<'_> {
    /// Appends the packet in the form of `version`; what that version has no place for is left out. A CONNECT is
    /// written in its own version.
    ///
    /// The caller keeps every string and binary field within 65,535 bytes and the packet within 268,435,460.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Packet::Connect(connect) => connect.encode(out),
            Packet::ConnAck(connack) => connack.encode(version, out),
            Packet::Publish(publish) => publish.encode(version, out),
            Packet::PubAck(ack) => ack.encode(AckKind::PubAck, version, out),
            Packet::PubRec(ack) => ack.encode(AckKind::PubRec, version, out),
            Packet::PubRel(ack) => ack.encode(AckKind::PubRel, version, out),
            Packet::PubComp(ack) => ack.encode(AckKind::PubComp, version, out),
            Packet::Subscribe(subscribe) => subscribe.encode(version, out),
            Packet::SubAck(suback) => suback.encode(version, out),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Packet::UnsubAck(unsuback) => unsuback.encode(version, out),
            Packet::PingReq => out.extend_from_slice(&[0xC0, 0]),
            Packet::PingResp => out.extend_from_slice(&[0xD0, 0]),
            Packet::Disconnect(disconnect) => disconnect.encode(version, out),
            Packet::Auth(auth) => auth.encode(out),
        }
    }

    /// The packet's name as the standard writes it, for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Packet::Connect(_) => "CONNECT",
            Packet::ConnAck(_) => "CONNACK",
            Packet::Publish(_) => "PUBLISH",
            Packet::PubAck(_) => "PUBACK",
            Packet::PubRec(_) => "PUBREC",
            Packet::PubRel(_) => "PUBREL",
            Packet::PubComp(_) => "PUBCOMP",
            Packet::Subscribe(_) => "SUBSCRIBE",
            Packet::SubAck(_) => "SUBACK",
            Packet::Unsubscribe(_) => "UNSUBSCRIBE",
            Packet::UnsubAck(_) => "UNSUBACK",
            Packet::PingReq => "PINGREQ",
            Packet::PingResp => "PINGRESP",
            Packet::Disconnect(_) => "DISCONNECT",
            Packet::Auth(_) => "AUTH",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Packet` is returned by value for each packet of each client, so its size is copied each time.
    #[test]
    fn packets_stay_small() {
        assert!(size_of::<Packet<'_>>() <= 192, "{}", size_of::<Packet<'_>>());
        assert!(size_of::<Result<Packet<'_>, Malformed>>() <= 192);
        assert!(size_of::<Malformed>() <= 40);
        assert!(size_of::<Connect<'_>>() <= 400, "{}", size_of::<Connect<'_>>());
        assert_eq!(size_of::<Option<PacketId>>(), 2);
    }
}
