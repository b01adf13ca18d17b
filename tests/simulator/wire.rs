//! Packets as the model's clients write and read them.
//!
//! What the broker sends is read by `mqttbytes` wherever that is right, so that the broker's codec is not its own
//! judge: everything of 3.1.1, and of MQTT 5 all but DISCONNECT and a PUBLISH with more than two identifiers.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use mqttbytes::{QoS as TheirQoS, v4, v5};
use switchboard::protocol::{
    Ack, AckKind, Connect, ConnectProperties, Disconnect, DisconnectProperties, Framed, Packet, PacketId,
    Publish, PublishProperties, QoS, ReasonCode, ReasonProperties, RetainHandling, Subscribe,
    SubscribeFilter, SubscribeFilters, SubscriptionIds, Unsubscribe, UnsubscribeFilters, UserProperties,
    Version, Will, decode, frame, put_str, put_user_property,
};

/// A packet from the broker.
#[derive(Clone, Debug)]
pub enum Heard {
    ConnAck { present: bool, accepted: bool },
    Publish(Delivered),
    PubAck { id: u16, reason: u8 },
    PubRec { id: u16, reason: u8 },
    PubRel { id: u16 },
    PubComp { id: u16 },
    SubAck { id: u16, granted: Vec<Option<u8>> },
    UnsubAck { id: u16 },
    PingResp,
    Disconnect { reason: u8 },
}

/// A PUBLISH from the broker.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    pub alias: Option<u16>,
    pub id: u16,
    pub ids: Vec<u32>,
    pub expiry: Option<u32>,
    /// Expanded, if it came compressed.
    pub payload: Bytes,
    pub compressed: bool,
}

/// What a client says in CONNECT.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    pub clean: bool,
    /// Seconds, MQTT 5.
    pub expiry: u32,
    pub receive_maximum: Option<u16>,
    pub max_packet: Option<u32>,
    pub alias_maximum: u16,
    pub keep_alive: u16,
    pub will: Option<LastWill>,
    /// Takes compressed messages, MQTT 5.
    pub accepts: bool,
}

/// A will.
#[derive(Clone, Debug)]
pub struct LastWill {
    pub message: usize,
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    /// Seconds, MQTT 5.
    pub delay: u32,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub handling: u8,
    pub id: Option<u32>,
}

/// Length of the packet at the front, once all of it is there.
pub fn split(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (at, &byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let whole = 2 + at + length;
            return (bytes.len() >= whole).then_some(whole);
        }
    }
    None
}

/// Reads one whole packet.
pub fn hear(bytes: &[u8], v5: bool) -> Result<Heard, String> {
    if v5 { hear_5(bytes) } else { hear_4(bytes) }
}

fn level(qos: TheirQoS) -> u8 {
    qos as u8
}

fn hear_4(bytes: &[u8]) -> Result<Heard, String> {
    let mut stream = BytesMut::from(bytes);
    let packet = v4::read(&mut stream, bytes.len()).map_err(|error| format!("{error:?} in {bytes:02x?}"))?;
    Ok(match packet {
        v4::Packet::ConnAck(p) => {
            Heard::ConnAck { present: p.session_present, accepted: p.code == v4::ConnectReturnCode::Success }
        }
        v4::Packet::Publish(p) => Heard::Publish(Delivered {
            dup: p.dup,
            qos: level(p.qos),
            retain: p.retain,
            topic: p.topic,
            alias: None,
            id: p.pkid,
            ids: Vec::new(),
            expiry: None,
            payload: p.payload,
            compressed: false,
        }),
        v4::Packet::PubAck(p) => Heard::PubAck { id: p.pkid, reason: 0 },
        v4::Packet::PubRec(p) => Heard::PubRec { id: p.pkid, reason: 0 },
        v4::Packet::PubRel(p) => Heard::PubRel { id: p.pkid },
        v4::Packet::PubComp(p) => Heard::PubComp { id: p.pkid },
        v4::Packet::SubAck(p) => Heard::SubAck {
            id: p.pkid,
            granted: p
                .return_codes
                .iter()
                .map(|code| match code {
                    v4::SubscribeReasonCode::Success(qos) => Some(level(*qos)),
                    v4::SubscribeReasonCode::Failure => None,
                })
                .collect(),
        },
        v4::Packet::UnsubAck(p) => Heard::UnsubAck { id: p.pkid },
        v4::Packet::PingResp => Heard::PingResp,
        other => return Err(format!("a server does not send {other:?}")),
    })
}

fn hear_5(bytes: &[u8]) -> Result<Heard, String> {
    let ours = match frame(bytes, u32::MAX) {
        Ok(Framed::Frame(frame)) => decode(frame, Version::V5).map_err(|error| format!("{error:?}"))?,
        other => return Err(format!("{other:?}")),
    };
    match ours {
        Packet::Disconnect(packet) => return Ok(Heard::Disconnect { reason: packet.reason.0 }),
        Packet::Publish(p) if p.properties.subscription_ids.iter().count() > 2 => {
            let compressed = p.properties.user.iter().any(|property| property == MARK);
            return Ok(Heard::Publish(Delivered {
                dup: p.dup,
                qos: p.qos as u8,
                retain: p.retain,
                topic: p.topic.into(),
                alias: p.properties.topic_alias,
                id: p.packet_id.map_or(0, PacketId::get),
                ids: p.properties.subscription_ids.iter().collect(),
                expiry: p.properties.message_expiry,
                payload: expanded(Bytes::copy_from_slice(p.payload), compressed)?,
                compressed,
            }));
        }
        _ => {}
    }
    let mut stream = BytesMut::from(bytes);
    let packet = v5::read(&mut stream, bytes.len()).map_err(|error| format!("{error:?} in {bytes:02x?}"))?;
    Ok(match packet {
        v5::Packet::ConnAck(p) => {
            Heard::ConnAck { present: p.session_present, accepted: p.code == v5::ConnectReturnCode::Success }
        }
        v5::Packet::Publish(p) => {
            let properties = p.properties;
            let ids = properties.as_ref().map_or_else(Vec::new, |p| p.subscription_identifiers.clone());
            let marks =
                |p: &v5::PublishProperties| p.user_properties.iter().any(|(n, v)| (&**n, &**v) == MARK);
            let compressed = properties.as_ref().is_some_and(marks);
            Heard::Publish(Delivered {
                dup: p.dup,
                qos: level(p.qos),
                retain: p.retain,
                topic: p.topic,
                alias: properties.as_ref().and_then(|p| p.topic_alias),
                id: p.pkid,
                ids: ids.into_iter().map(|id| id as u32).collect(),
                expiry: properties.as_ref().and_then(|p| p.message_expiry_interval),
                payload: expanded(p.payload, compressed)?,
                compressed,
            })
        }
        v5::Packet::PubAck(p) => Heard::PubAck { id: p.pkid, reason: p.reason as u8 },
        v5::Packet::PubRec(p) => Heard::PubRec { id: p.pkid, reason: p.reason as u8 },
        v5::Packet::PubRel(p) => Heard::PubRel { id: p.pkid },
        v5::Packet::PubComp(p) => Heard::PubComp { id: p.pkid },
        v5::Packet::SubAck(p) => Heard::SubAck {
            id: p.pkid,
            granted: p.return_codes.iter().map(|code| Some(*code as u8).filter(|code| *code < 3)).collect(),
        },
        v5::Packet::UnsubAck(p) => Heard::UnsubAck { id: p.pkid },
        v5::Packet::PingResp => Heard::PingResp,
        other => return Err(format!("a server does not send {other:?}")),
    })
}

/// What a compressed message says of itself.
const MARK: (&str, &str) = ("content-encoding", "snappy");

fn expanded(payload: Bytes, compressed: bool) -> Result<Bytes, String> {
    if !compressed {
        return Ok(payload);
    }
    let plain = snap::raw::Decoder::new().decompress_vec(&payload);
    plain.map(Bytes::from).map_err(|error| format!("{error} in {payload:02x?}"))
}

fn their_qos(qos: u8) -> TheirQoS {
    mqttbytes::qos(qos).unwrap()
}

fn our_qos(qos: u8) -> QoS {
    QoS::try_from(qos).unwrap()
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

/// CONNECT.
pub fn connect(client_id: &str, v5: bool, greeting: &Greeting) -> Vec<u8> {
    let mut out = Vec::new();
    if !v5 {
        let mut packet = v4::Connect::new(client_id);
        packet.keep_alive = greeting.keep_alive;
        packet.clean_session = greeting.clean;
        packet.last_will = greeting
            .will
            .as_ref()
            .map(|will| v4::LastWill::new(&will.topic, will.payload.clone(), their_qos(will.qos), false));
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes).unwrap();
        return bytes.to_vec();
    }
    let will = greeting.will.as_ref().map(|will| Will {
        qos: our_qos(will.qos),
        retain: false,
        topic: &will.topic,
        payload: &will.payload,
        delay_interval: will.delay,
        properties: PublishProperties::EMPTY,
    });
    let mut user = Vec::new();
    if greeting.accepts {
        put_user_property(&mut user, "accept-encoding", "snappy");
    }
    let properties = ConnectProperties {
        user: UserProperties::encoded(&user).unwrap(),
        session_expiry: (greeting.expiry > 0).then_some(greeting.expiry),
        receive_maximum: greeting.receive_maximum,
        maximum_packet: greeting.max_packet,
        topic_alias_maximum: (greeting.alias_maximum > 0).then_some(greeting.alias_maximum),
        ..ConnectProperties::default()
    };
    Connect {
        version: Version::V5,
        clean_start: greeting.clean,
        keep_alive: greeting.keep_alive,
        client_id,
        username: None,
        password: None,
        will,
        properties,
    }
    .encode(&mut out);
    out
}

/// PUBLISH. `alias`: the alias and whether the topic is left out.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: &'a str,
    pub id: u16,
    pub alias: Option<(u16, bool)>,
    pub expiry: Option<u32>,
    pub payload: &'a [u8],
    /// To be sent compressed, MQTT 5.
    pub compressed: bool,
}

/// Encodes a PUBLISH.
pub fn publish(p: &Outgoing<'_>, v5: bool) -> Vec<u8> {
    if !v5 {
        let mut packet = v4::Publish::new(p.topic, their_qos(p.qos), p.payload);
        packet.pkid = p.id;
        packet.dup = p.dup;
        packet.retain = p.retain;
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes).unwrap();
        return bytes.to_vec();
    }
    let mut out = Vec::new();
    let topic = if p.alias.is_some_and(|(_, known)| known) { "" } else { p.topic };
    let (mut user, mut payload) = (Vec::new(), Cow::Borrowed(p.payload));
    if p.compressed {
        put_user_property(&mut user, MARK.0, MARK.1);
        payload = Cow::Owned(snap::raw::Encoder::new().compress_vec(p.payload).unwrap());
    }
    let properties = PublishProperties {
        user: UserProperties::encoded(&user).unwrap(),
        topic_alias: p.alias.map(|(alias, _)| alias),
        message_expiry: p.expiry,
        subscription_ids: SubscriptionIds::encoded(&[]).unwrap(),
        ..PublishProperties::EMPTY
    };
    let packet_id = PacketId::new(p.id).filter(|_| p.qos > 0);
    let qos = our_qos(p.qos);
    Publish { dup: p.dup, qos, retain: p.retain, topic, packet_id, properties, payload: &payload }
        .encode(Version::V5, &mut out);
    out
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
pub fn ack(kind: AckKind, packet_id: u16, v5: bool) -> Vec<u8> {
    let version = if v5 { Version::V5 } else { Version::V311 };
    let mut out = Vec::new();
    Ack { packet_id: id(packet_id), reason: ReasonCode::SUCCESS, properties: ReasonProperties::default() }
        .encode(kind, version, &mut out);
    out
}

/// SUBSCRIBE for one filter.
pub fn subscribe(packet_id: u16, filter: &str, options: &Options, v5: bool) -> Vec<u8> {
    if !v5 {
        let mut packet = v4::Subscribe::new(filter, their_qos(options.qos));
        packet.pkid = packet_id;
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes).unwrap();
        return bytes.to_vec();
    }
    let (mut block, mut out) = (Vec::new(), Vec::new());
    SubscribeFilter {
        filter,
        qos: our_qos(options.qos),
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling: match options.handling {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        },
    }
    .put(&mut block);
    Subscribe {
        packet_id: id(packet_id),
        subscription_id: options.id,
        user: UserProperties::encoded(&[]).unwrap(),
        filters: SubscribeFilters::encoded(&block).unwrap(),
    }
    .encode(Version::V5, &mut out);
    out
}

/// UNSUBSCRIBE for one filter.
pub fn unsubscribe(packet_id: u16, filter: &str, v5: bool) -> Vec<u8> {
    if !v5 {
        let mut bytes = BytesMut::new();
        let mut packet = v4::Unsubscribe::new(filter);
        packet.pkid = packet_id;
        packet.write(&mut bytes).unwrap();
        return bytes.to_vec();
    }
    let (mut block, mut out) = (Vec::new(), Vec::new());
    put_str(&mut block, filter);
    Unsubscribe {
        packet_id: id(packet_id),
        user: UserProperties::encoded(&[]).unwrap(),
        filters: UnsubscribeFilters::encoded(&block).unwrap(),
    }
    .encode(Version::V5, &mut out);
    out
}

/// DISCONNECT.
pub fn disconnect(v5: bool, reason: u8, session_expiry: Option<u32>) -> Vec<u8> {
    let mut out = Vec::new();
    let version = if v5 { Version::V5 } else { Version::V311 };
    let properties = DisconnectProperties { session_expiry, ..DisconnectProperties::default() };
    Disconnect { reason: ReasonCode(reason), properties }.encode(version, &mut out);
    out
}

/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
