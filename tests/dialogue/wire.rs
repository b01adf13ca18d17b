//! MQTT as the tests read it: a strict reader of what a server may send, written apart from `switchboard::protocol`.
//!
//! Every packet that arrives in any dialogue passes here, so the format clauses that bind the sender (flags, lengths,
//! property tables, reason-code tables) are held by the whole suite. Where `mqttbytes` reads rightly, `second`
//! asks it too. What `mqttbytes` cannot read (AUTH, short v5 DISCONNECT, more than two subscription identifiers) is
//! judged by this reader alone.

use super::second::second_opinion;

/// The protocol a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`.
    V31,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// The two versions that most clauses are tried with.
pub const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

impl Version {
    pub fn is_v5(self) -> bool {
        self == Self::V5
    }
}

/// Property identifiers, by the standard's names.
pub mod property {
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_ID: u8 = 0x0B;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER: u8 = 0x26;
    pub const MAXIMUM_PACKET: u8 = 0x27;
    pub const WILDCARD_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_ID_AVAILABLE: u8 = 0x29;
    pub const SHARED_AVAILABLE: u8 = 0x2A;
}

/// A property's value, in the type that the standard gives the identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Varint(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

/// The properties of one packet in their order on the wire. Empty for MQTT 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<(u8, Value)>);

impl Properties {
    /// The value of a property that may appear once.
    pub fn get(&self, id: u8) -> Option<&Value> {
        self.0.iter().find(|(at, _)| *at == id).map(|(_, v)| v)
    }

    pub fn has(&self, id: u8) -> bool {
        self.get(id).is_some()
    }

    /// A number of any width.
    pub fn number(&self, id: u8) -> Option<u32> {
        match self.get(id)? {
            Value::Byte(n) => Some(u32::from(*n)),
            Value::Two(n) => Some(u32::from(*n)),
            Value::Four(n) | Value::Varint(n) => Some(*n),
            other => panic!("property {id:#04x} is no number: {other:?}"),
        }
    }

    pub fn text(&self, id: u8) -> Option<&str> {
        match self.get(id)? {
            Value::Text(text) => Some(text),
            other => panic!("property {id:#04x} is no string: {other:?}"),
        }
    }

    pub fn binary(&self, id: u8) -> Option<&[u8]> {
        match self.get(id)? {
            Value::Binary(bytes) => Some(bytes),
            other => panic!("property {id:#04x} is no binary data: {other:?}"),
        }
    }

    /// User properties in their order.
    pub fn user(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .filter_map(|(_, value)| match value {
                Value::Pair(name, value) => Some((name.as_str(), value.as_str())),
                _ => None,
            })
            .collect()
    }

    /// Subscription identifiers, sorted (their order means nothing).
    pub fn subscription_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .0
            .iter()
            .filter(|(id, _)| *id == property::SUBSCRIPTION_ID)
            .filter_map(|(_, value)| match value {
                Value::Varint(n) => Some(*n),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids
    }
}

/// A packet from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    ConnAck(ConnAck),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    SubAck(Codes),
    UnsubAck(Codes),
    PingResp,
    Disconnect(Ended),
    Auth(Ended),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    /// The reason code of MQTT 5 or the return code of MQTT 3.
    pub code: u8,
    pub properties: Properties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    /// As on the wire: empty where an alias stands for it.
    pub topic: String,
    /// 0 at QoS 0, where the wire has none.
    pub id: u16,
    pub properties: Properties,
    pub payload: Vec<u8>,
    /// Bytes of the whole packet.
    pub size: usize,
}

impl Publish {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the payload is not text")
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub id: u16,
    /// Success for MQTT 3, which has no code.
    pub reason: u8,
    pub properties: Properties,
}

/// SUBACK or UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes {
    pub id: u16,
    /// Empty in an UNSUBACK of MQTT 3, which has none.
    pub codes: Vec<u8>,
    pub properties: Properties,
}

/// DISCONNECT or AUTH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub reason: u8,
    pub properties: Properties,
}

const CONNACK_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
    0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];
const PUBACK_CODES: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const PUBREL_CODES: &[u8] = &[0x00, 0x92];
const SUBACK_CODES: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
const UNSUBACK_CODES: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
/// Those a server may send: 0x04 is the client's.
const DISCONNECT_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
    0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];
const AUTH_CODES: &[u8] = &[0x00, 0x18];

const CONNACK_PROPERTIES: &[u8] =
    &[0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A];
const PUBLISH_PROPERTIES: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26];
const ACK_PROPERTIES: &[u8] = &[0x1F, 0x26];
/// Without the session expiry, which a server must not send [MQTT-3.14.2-2].
const DISCONNECT_PROPERTIES: &[u8] = &[0x1C, 0x1F, 0x26];
const AUTH_PROPERTIES: &[u8] = &[0x15, 0x16, 0x1F, 0x26];

/// Takes one whole packet off the front of `buffer`, or `None` if it is not all there yet.
pub fn take(buffer: &mut Vec<u8>, version: Version) -> Result<Option<(Packet, Vec<u8>)>, String> {
    let Some((length, header)) = remaining_length(buffer)? else {
        return Ok(None);
    };
    let total = header + length;
    if buffer.len() < total {
        return Ok(None);
    }
    let frame: Vec<u8> = buffer.drain(..total).collect();
    let packet = read(&frame, header, version)?;
    second_opinion(&frame, &packet, version)?;
    Ok(Some((packet, frame)))
}

/// The remaining length and the size of the fixed header.
fn remaining_length(buffer: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut length = 0usize;
    for (place, byte) in buffer.iter().skip(1).enumerate() {
        if place == 4 {
            return Err("a remaining length of more than four bytes".to_owned());
        }
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            if place > 0 && *byte == 0 {
                return Err("a remaining length longer than it need be [MQTT-1.5.5-1]".to_owned());
            }
            return Ok(Some((length, place + 2)));
        }
    }
    Ok(None)
}

fn read(frame: &[u8], header: usize, version: Version) -> Result<Packet, String> {
    let (kind, flags) = (frame[0] >> 4, frame[0] & 0x0F);
    let mut at = Reader { rest: &frame[header..] };
    if kind == 3 {
        return publish(flags, at, version, frame.len()).map(Packet::Publish);
    }
    let reserved = if kind == 6 { 0b0010 } else { 0 };
    if flags != reserved {
        return Err(format!("reserved flags {flags:#06b} in packet type {kind} [MQTT-2.1.3-1]"));
    }
    let packet = match kind {
        2 => Packet::ConnAck(connack(&mut at, version)?),
        4 => Packet::PubAck(ack(&mut at, version, PUBACK_CODES)?),
        5 => Packet::PubRec(ack(&mut at, version, PUBACK_CODES)?),
        6 => Packet::PubRel(ack(&mut at, version, PUBREL_CODES)?),
        7 => Packet::PubComp(ack(&mut at, version, PUBREL_CODES)?),
        9 => Packet::SubAck(suback(&mut at, version)?),
        11 => Packet::UnsubAck(unsuback(&mut at, version)?),
        13 => Packet::PingResp,
        14 if version.is_v5() => Packet::Disconnect(ended(&mut at, DISCONNECT_CODES, DISCONNECT_PROPERTIES)?),
        15 if version.is_v5() => Packet::Auth(ended(&mut at, AUTH_CODES, AUTH_PROPERTIES)?),
        other => return Err(format!("a server may not send packet type {other} here")),
    };
    if !at.rest.is_empty() {
        return Err(format!("{} bytes too many in packet type {kind}", at.rest.len()));
    }
    Ok(packet)
}

fn connack(at: &mut Reader<'_>, version: Version) -> Result<ConnAck, String> {
    let flags = at.byte()?;
    if flags > 1 {
        return Err(format!("reserved acknowledge flags {flags:#04x} [MQTT-3.2.2-1]"));
    }
    let code = at.byte()?;
    if version.is_v5() {
        listed(code, CONNACK_CODES, "CONNACK")?;
    } else if code > 5 {
        return Err(format!("return code {code} is reserved in MQTT 3.1.1"));
    }
    let session_present = flags == 1;
    if session_present && code != 0 {
        return Err("session present in a refusal [MQTT-3.2.2-6]".to_owned());
    }
    let properties = at.properties(version, CONNACK_PROPERTIES)?;
    for id in [property::RECEIVE_MAXIMUM, property::MAXIMUM_PACKET] {
        if properties.number(id) == Some(0) {
            return Err(format!("property {id:#04x} is 0"));
        }
    }
    if properties.number(property::MAXIMUM_QOS).is_some_and(|qos| qos > 1) {
        return Err("a Maximum QoS other than 0 or 1".to_owned());
    }
    Ok(ConnAck { session_present, code, properties })
}

fn publish(flags: u8, mut at: Reader<'_>, version: Version, size: usize) -> Result<Publish, String> {
    let (dup, qos, retain) = (flags & 8 != 0, (flags >> 1) & 3, flags & 1 != 0);
    if qos == 3 {
        return Err("QoS 3 [MQTT-3.3.1-4]".to_owned());
    }
    if qos == 0 && dup {
        return Err("DUP at QoS 0 [MQTT-3.3.1-2]".to_owned());
    }
    let topic = at.text()?;
    if topic.contains(['+', '#']) {
        return Err(format!("a wildcard in topic name {topic} [MQTT-3.3.2-2]"));
    }
    let id = if qos > 0 { at.packet_id()? } else { 0 };
    let properties = at.properties(version, PUBLISH_PROPERTIES)?;
    if properties.number(property::TOPIC_ALIAS) == Some(0) {
        return Err("topic alias 0 [MQTT-3.3.2-8]".to_owned());
    }
    if topic.is_empty() && !properties.has(property::TOPIC_ALIAS) {
        return Err("an empty topic name without an alias [MQTT-4.7.3-1]".to_owned());
    }
    let payload = at.rest.to_vec();
    Ok(Publish { dup, qos, retain, topic, id, properties, payload, size })
}

fn ack(at: &mut Reader<'_>, version: Version, codes: &[u8]) -> Result<Ack, String> {
    let id = at.packet_id()?;
    let mut reason = 0;
    let mut properties = Properties::default();
    if version.is_v5() && !at.rest.is_empty() {
        reason = at.byte()?;
        listed(reason, codes, "an acknowledgement")?;
        if !at.rest.is_empty() {
            properties = at.properties(version, ACK_PROPERTIES)?;
        }
    }
    Ok(Ack { id, reason, properties })
}

fn suback(at: &mut Reader<'_>, version: Version) -> Result<Codes, String> {
    let id = at.packet_id()?;
    let properties = at.properties(version, ACK_PROPERTIES)?;
    let codes = std::mem::take(&mut at.rest).to_vec();
    for &code in &codes {
        let table = if version.is_v5() { SUBACK_CODES } else { &[0, 1, 2, 0x80] };
        listed(code, table, "SUBACK")?;
    }
    Ok(Codes { id, codes, properties })
}

fn unsuback(at: &mut Reader<'_>, version: Version) -> Result<Codes, String> {
    let id = at.packet_id()?;
    let properties = at.properties(version, ACK_PROPERTIES)?;
    let codes = if version.is_v5() { std::mem::take(&mut at.rest).to_vec() } else { Vec::new() };
    for &code in &codes {
        listed(code, UNSUBACK_CODES, "UNSUBACK")?;
    }
    Ok(Codes { id, codes, properties })
}

fn ended(at: &mut Reader<'_>, codes: &[u8], allowed: &[u8]) -> Result<Ended, String> {
    if at.rest.is_empty() {
        return Ok(Ended { reason: 0, properties: Properties::default() });
    }
    let reason = at.byte()?;
    listed(reason, codes, "DISCONNECT or AUTH")?;
    let properties =
        if at.rest.is_empty() { Properties::default() } else { at.properties(Version::V5, allowed)? };
    Ok(Ended { reason, properties })
}

fn listed(code: u8, table: &[u8], packet: &str) -> Result<(), String> {
    if table.contains(&code) {
        Ok(())
    } else {
        Err(format!("reason code {code:#04x} is not one of {packet}"))
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        if self.rest.len() < count {
            return Err(format!("{count} bytes announced, {} there", self.rest.len()));
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn two(&mut self) -> Result<u16, String> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn four(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn packet_id(&mut self) -> Result<u16, String> {
        match self.two()? {
            0 => Err("packet identifier 0 [MQTT-2.2.1-4]".to_owned()),
            id => Ok(id),
        }
    }

    fn binary(&mut self) -> Result<Vec<u8>, String> {
        let length = self.two()?;
        Ok(self.take(usize::from(length))?.to_vec())
    }

    fn text(&mut self) -> Result<String, String> {
        let text =
            String::from_utf8(self.binary()?).map_err(|_| "a string that is not UTF-8 [MQTT-1.5.4-1]")?;
        if text.contains('\0') {
            return Err("U+0000 in a string [MQTT-1.5.4-2]".to_owned());
        }
        Ok(text)
    }

    fn varint(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                if place > 0 && byte == 0 {
                    return Err("a variable byte integer longer than it need be [MQTT-1.5.5-1]".to_owned());
                }
                return Ok(value);
            }
        }
        Err("a variable byte integer of more than four bytes".to_owned())
    }

    fn properties(&mut self, version: Version, allowed: &[u8]) -> Result<Properties, String> {
        let mut properties = Properties::default();
        if !version.is_v5() {
            return Ok(properties);
        }
        let length = self.varint()?;
        let mut block = Reader { rest: self.take(length as usize)? };
        while !block.rest.is_empty() {
            let id = block.byte()?;
            if !allowed.contains(&id) {
                return Err(format!("property {id:#04x} does not belong here"));
            }
            if properties.has(id) && id != property::USER && id != property::SUBSCRIPTION_ID {
                return Err(format!("property {id:#04x} twice"));
            }
            properties.0.push((id, block.value(id)?));
        }
        Ok(properties)
    }

    fn value(&mut self, id: u8) -> Result<Value, String> {
        Ok(match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => match self.byte()? {
                flag @ 0..=1 => Value::Byte(flag),
                other => return Err(format!("property {id:#04x} is {other}, not 0 or 1")),
            },
            0x13 | 0x21..=0x23 => Value::Two(self.two()?),
            0x02 | 0x11 | 0x18 | 0x27 => Value::Four(self.four()?),
            0x0B => match self.varint()? {
                0 => return Err("subscription identifier 0".to_owned()),
                id => Value::Varint(id),
            },
            0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => Value::Text(self.text()?),
            0x09 | 0x16 => Value::Binary(self.binary()?),
            0x26 => Value::Pair(self.text()?, self.text()?),
            other => return Err(format!("no property has identifier {other:#04x}")),
        })
    }
}
