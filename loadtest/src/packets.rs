//! Packets by `mqttbytes`: what is encoded once or decoded rarely, and the strict check of everything received.
//!
//! `mqttbytes` 0.6 has traps that are kept out here: a CONNECT is written into an empty buffer only, property
//! blocks are always `Some`, MQTT 5 DISCONNECT and AUTH are read by hand, and a decoder is given exactly one
//! frame, so that bytes it swallows are an error and not a wait.

use crate::failure::Failure;
use crate::wire::{self, Frame, Split};
use bytes::{Bytes, BytesMut};
use mqttbytes::{QoS, v4, v5};

/// The version of MQTT spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    V311,
    V5,
}

/// Who connects, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub(crate) client_id: String,
    pub(crate) keep_alive: u16,
    /// Keep the session when the connection goes (clean session 0; MQTT 5: expiry never).
    pub(crate) persistent: bool,
    /// Resume what is there instead of starting anew (MQTT 5; in 3.1.1 `persistent` says both).
    pub(crate) resume: bool,
    /// Topic aliases this client takes from the broker (MQTT 5).
    pub(crate) alias_maximum: u16,
    /// Topic and payload of a will at QoS 1.
    pub(crate) will: Option<(String, String)>,
}

/// What a PUBLISH looks like apart from its topic, identifier and payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PublishShape {
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// User properties on each (MQTT 5).
    pub(crate) user_properties: usize,
    /// Topic alias 1 on each (MQTT 5).
    pub(crate) alias: bool,
}

/// A PUBLISH cut where the moving parts go: head, identifier (QoS > 0), properties, payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishParts {
    /// Fixed header and topic.
    pub(crate) head: Vec<u8>,
    /// MQTT 5: the property block with its length.
    pub(crate) properties: Vec<u8>,
}

/// What a CONNACK allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) session_present: bool,
    pub(crate) receive_maximum: u16,
    pub(crate) alias_maximum: u16,
}

/// The largest packet decoded: all there can be.
const NO_LIMIT: usize = 268_435_460;

impl Dialect {
    /// As the option `--v5` says.
    pub(crate) fn new(v5: bool) -> Self {
        if v5 { Self::V5 } else { Self::V311 }
    }

    /// Whether this is MQTT 5.
    pub(crate) fn is_v5(self) -> bool {
        self == Self::V5
    }

    /// "3.1.1" or "5".
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        }
    }

    /// A CONNECT.
    pub(crate) fn connect(self, identity: &Identity) -> Result<Vec<u8>, Failure> {
        let mut out = BytesMut::new();
        match self {
            Self::V311 => {
                let mut packet = v4::Connect::new(&identity.client_id);
                packet.keep_alive = identity.keep_alive;
                packet.clean_session = !identity.persistent;
                packet.last_will = identity.will.as_ref().map(|(topic, payload)| {
                    v4::LastWill::new(topic, payload.as_str(), QoS::AtLeastOnce, false)
                });
                packet.write(&mut out)
            }
            Self::V5 => {
                let mut packet = v5::Connect::new(&identity.client_id);
                packet.keep_alive = identity.keep_alive;
                packet.clean_session = !identity.resume;
                packet.last_will = identity.will.as_ref().map(|(topic, payload)| {
                    v5::LastWill::new(topic, payload.as_str(), QoS::AtLeastOnce, false)
                });
                packet.properties = Some(v5::ConnectProperties {
                    session_expiry_interval: identity.persistent.then_some(u32::MAX),
                    receive_maximum: Some(u16::MAX),
                    max_packet_size: None,
                    topic_alias_max: (identity.alias_maximum > 0).then_some(identity.alias_maximum),
                    request_response_info: None,
                    request_problem_info: None,
                    user_properties: vec![],
                    authentication_method: None,
                    authentication_data: None,
                });
                packet.write(&mut out)
            }
        }
        .map_err(|error| Failure::Usage(format!("no CONNECT for {}: {error}", identity.client_id)))?;
        Ok(out.to_vec())
    }

    /// A SUBSCRIBE for all these filters at one QoS.
    pub(crate) fn subscribe(self, id: u16, filters: &[String], qos: u8) -> Result<Vec<u8>, Failure> {
        let qos = quality(qos)?;
        let mut out = BytesMut::new();
        match self {
            Self::V311 => {
                let mut packet = v4::Subscribe::empty_subscribe();
                packet.pkid = id;
                for filter in filters {
                    packet.add(filter.clone(), qos);
                }
                packet.write(&mut out)
            }
            Self::V5 => {
                let mut packet = v5::Subscribe::empty_subscribe();
                packet.pkid = id;
                packet.properties = Some(v5::SubscribeProperties { id: None, user_properties: vec![] });
                for filter in filters {
                    packet.add(filter.clone(), qos);
                }
                packet.write(&mut out)
            }
        }
        .map_err(|error| Failure::Usage(format!("no SUBSCRIBE: {error}")))?;
        Ok(out.to_vec())
    }

    /// A whole PUBLISH with identifier 1 where there is one.
    pub(crate) fn publish(
        self,
        topic: &str,
        shape: PublishShape,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        self.publish_as(1, topic, shape, payload)
    }

    /// A whole PUBLISH with this identifier where there is one.
    pub(crate) fn publish_as(
        self,
        id: u16,
        topic: &str,
        shape: PublishShape,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        let qos = quality(shape.qos)?;
        let mut out = BytesMut::new();
        match self {
            Self::V311 => {
                let mut packet = v4::Publish::new(topic, qos, payload);
                packet.pkid = id;
                packet.retain = shape.retain;
                packet.write(&mut out)
            }
            Self::V5 => {
                let mut packet = v5::Publish::new(topic, qos, payload);
                packet.pkid = id;
                packet.retain = shape.retain;
                packet.properties = Some(v5::PublishProperties {
                    payload_format_indicator: None,
                    message_expiry_interval: None,
                    topic_alias: shape.alias.then_some(1),
                    response_topic: None,
                    correlation_data: None,
                    user_properties: (0..shape.user_properties)
                        .map(|number| (format!("property-{number}"), format!("value-{number}")))
                        .collect(),
                    subscription_identifiers: vec![],
                    content_type: None,
                });
                packet.write(&mut out)
            }
        }
        .map_err(|error| Failure::Usage(format!("no PUBLISH to {topic}: {error}")))?;
        Ok(out.to_vec())
    }

    /// A PUBLISH with a payload of `size` bytes, cut into its parts.
    pub(crate) fn publish_parts(
        self,
        topic: &str,
        shape: PublishShape,
        size: usize,
    ) -> Result<PublishParts, Failure> {
        let encoded = self.publish(topic, shape, vec![0; size])?;
        let id = if shape.qos > 0 { 2 } else { 0 };
        let cut = || {
            let Split::Frame(frame) = wire::split(&encoded) else { return None };
            let publish = wire::publish(&frame, self.is_v5())?;
            let head = encoded.len() - frame.body.len() + 2 + publish.topic.len();
            let properties = encoded.get(head + id..encoded.len() - publish.payload.len())?;
            Some(PublishParts { head: encoded.get(..head)?.to_vec(), properties: properties.to_vec() })
        };
        cut().ok_or_else(|| Failure::Usage(format!("mqttbytes wrote no PUBLISH for {topic}")))
    }

    /// Reads a CONNACK.
    pub(crate) fn connack(self, frame: &Frame<'_>) -> Result<Granted, Failure> {
        let strange = || Failure::Broker(format!("answered CONNECT with {}", describe(frame, self)));
        let mut bytes = BytesMut::from(frame.whole);
        match self {
            Self::V311 => match v4::read(&mut bytes, NO_LIMIT) {
                Ok(v4::Packet::ConnAck(v4::ConnAck {
                    code: v4::ConnectReturnCode::Success,
                    session_present,
                })) => Ok(Granted { session_present, receive_maximum: u16::MAX, alias_maximum: 0 }),
                Ok(v4::Packet::ConnAck(refused)) => {
                    Err(Failure::Broker(format!("refused the connection: {:?}", refused.code)))
                }
                _ => Err(strange()),
            },
            Self::V5 => match v5::read(&mut bytes, NO_LIMIT) {
                Ok(v5::Packet::ConnAck(answer)) if answer.code == v5::ConnectReturnCode::Success => {
                    let properties = answer.properties.unwrap_or_else(v5::ConnAckProperties::new);
                    Ok(Granted {
                        session_present: answer.session_present,
                        receive_maximum: properties.receive_max.unwrap_or(u16::MAX),
                        alias_maximum: properties.topic_alias_max.unwrap_or(0),
                    })
                }
                Ok(v5::Packet::ConnAck(refused)) => {
                    Err(Failure::Broker(format!("refused the connection: {:?}", refused.code)))
                }
                _ => Err(strange()),
            },
        }
    }

    /// Reads a SUBACK: its identifier and the codes, which must all grant at least `qos`.
    pub(crate) fn suback(self, frame: &Frame<'_>, qos: u8) -> Result<u16, Failure> {
        let mut bytes = BytesMut::from(frame.whole);
        let (id, codes): (u16, Vec<u8>) = match self {
            Self::V311 => match v4::read(&mut bytes, NO_LIMIT) {
                Ok(v4::Packet::SubAck(answer)) => {
                    let code = |code: &v4::SubscribeReasonCode| match code {
                        v4::SubscribeReasonCode::Success(qos) => *qos as u8,
                        v4::SubscribeReasonCode::Failure => 0x80,
                    };
                    (answer.pkid, answer.return_codes.iter().map(code).collect())
                }
                _ => {
                    return Err(Failure::Broker(format!(
                        "answered SUBSCRIBE with {}",
                        describe(frame, self)
                    )));
                }
            },
            Self::V5 => match v5::read(&mut bytes, NO_LIMIT) {
                Ok(v5::Packet::SubAck(answer)) => {
                    (answer.pkid, answer.return_codes.iter().map(|&code| code as u8).collect())
                }
                _ => {
                    return Err(Failure::Broker(format!(
                        "answered SUBSCRIBE with {}",
                        describe(frame, self)
                    )));
                }
            },
        };
        match codes.iter().find(|&&code| code < qos || code > 2) {
            None => Ok(id),
            Some(code) => {
                Err(Failure::Broker(format!("granted a subscription at QoS {qos} with {code:#04x}")))
            }
        }
    }

    /// Decodes one received packet wholly with `mqttbytes` and compares it with what the hot path reads.
    pub(crate) fn check(self, frame: &Frame<'_>) -> Result<(), String> {
        let mut bytes = BytesMut::from(frame.whole);
        let seen = match self {
            Self::V5 if frame.kind() >= 14 => return check_farewell(frame),
            Self::V5 => v5::read(&mut bytes, NO_LIMIT).map(|packet| match packet {
                v5::Packet::Publish(publish) => {
                    Some((publish.topic, publish.pkid, publish.qos as u8, publish.payload))
                }
                _ => None,
            }),
            Self::V311 => v4::read(&mut bytes, NO_LIMIT).map(|packet| match packet {
                v4::Packet::Publish(publish) => {
                    Some((publish.topic, publish.pkid, publish.qos as u8, publish.payload))
                }
                _ => None,
            }),
        };
        let seen = seen.map_err(|error| format!("{}: {error}", describe(frame, self)))?;
        if !bytes.is_empty() {
            return Err(format!("{}: {} bytes left over", describe(frame, self), bytes.len()));
        }
        let ours = wire::publish(frame, self.is_v5()).filter(|_| frame.kind() == 3).map(|publish| {
            (publish.topic.to_vec(), publish.id, publish.qos, Bytes::copy_from_slice(publish.payload))
        });
        let theirs = seen.map(|(topic, id, qos, payload)| (topic.into_bytes(), id, qos, payload));
        if ours == theirs { Ok(()) } else { Err(format!("{}: read differently", describe(frame, self))) }
    }
}

/// Checks an MQTT 5 DISCONNECT or AUTH: nothing, or a reason, or a reason and a property block that fits.
fn check_farewell(frame: &Frame<'_>) -> Result<(), String> {
    let fits = match frame.body {
        [] | [_] => true,
        [_, rest @ ..] => wire::take_varint(rest).is_some_and(|(length, rest)| length == rest.len()),
    };
    if fits { Ok(()) } else { Err(describe(frame, Dialect::V5)) }
}

/// A packet in a few words, for messages.
pub(crate) fn describe(frame: &Frame<'_>, dialect: Dialect) -> String {
    const NAMES: [&str; 16] = [
        "reserved type 0",
        "CONNECT",
        "CONNACK",
        "PUBLISH",
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
        "SUBSCRIBE",
        "SUBACK",
        "UNSUBSCRIBE",
        "UNSUBACK",
        "PINGREQ",
        "PINGRESP",
        "DISCONNECT",
        "AUTH",
    ];
    let name = NAMES.get(usize::from(frame.kind())).unwrap_or(&"packet");
    match (frame.kind(), frame.body.first()) {
        (14, reason) if dialect.is_v5() => format!("{name} with reason {:#04x}", reason.unwrap_or(&0)),
        _ => format!("{name} of {} bytes", frame.whole.len()),
    }
}

fn quality(qos: u8) -> Result<QoS, Failure> {
    mqttbytes::qos(qos).map_err(|_| Failure::Usage(format!("QoS {qos} does not exist; 0 to 2")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Frame<'_> {
        let Split::Frame(frame) = wire::split(bytes) else { panic!("no whole packet") };
        frame
    }

    fn joined(dialect: Dialect, topic: &str, shape: PublishShape, payload: &[u8]) -> Vec<u8> {
        let parts = dialect.publish_parts(topic, shape, payload.len()).unwrap();
        let id: &[u8] = if shape.qos > 0 { &[0, 1] } else { &[] };
        [&parts.head, id, &parts.properties, payload].concat()
    }

    #[test]
    fn parts_put_together_are_what_mqttbytes_writes() {
        for dialect in [Dialect::V311, Dialect::V5] {
            for qos in 0..3 {
                for size in [16, 100, 127, 128, 20_000] {
                    let shape = PublishShape {
                        qos,
                        retain: size == 128,
                        user_properties: if size == 16 { 0 } else { 9 },
                        alias: qos == 0,
                    };
                    let payload = vec![7; size];
                    let whole = dialect.publish("a/客服/1", shape, payload.clone()).unwrap();
                    assert_eq!(joined(dialect, "a/客服/1", shape, &payload), whole);
                    dialect.check(&frame(&whole)).unwrap();
                }
            }
        }
    }

    #[test]
    fn connects_carry_what_is_asked() {
        let identity =
            Identity { client_id: "c1".into(), keep_alive: 60, alias_maximum: 7, ..Identity::default() };
        let mut bytes = BytesMut::from(&Dialect::V5.connect(&identity).unwrap()[..]);
        let Ok(v5::Packet::Connect(connect)) = v5::read(&mut bytes, NO_LIMIT) else { panic!("no CONNECT") };
        assert!(connect.clean_session);
        assert_eq!(connect.properties.unwrap().topic_alias_max, Some(7));
        let identity = Identity { persistent: true, ..identity };
        let mut bytes = BytesMut::from(&Dialect::V311.connect(&identity).unwrap()[..]);
        let Ok(v4::Packet::Connect(connect)) = v4::read(&mut bytes, NO_LIMIT) else { panic!("no CONNECT") };
        assert_eq!(
            (connect.client_id.as_str(), connect.keep_alive, connect.clean_session),
            ("c1", 60, false)
        );
    }

    #[test]
    fn answers_are_read() {
        let granted = Dialect::V5.connack(&frame(&[0x20, 9, 1, 0, 6, 0x21, 0, 20, 0x22, 0, 10])).unwrap();
        assert_eq!(granted, Granted { session_present: true, receive_maximum: 20, alias_maximum: 10 });
        let refused = Dialect::V311.connack(&frame(&[0x20, 2, 0, 5])).unwrap_err().to_string();
        assert!(refused.contains("NotAuthorized"), "{refused}");
        assert!(Dialect::V5.connack(&frame(&[0xE0, 1, 0x8E])).unwrap_err().to_string().contains("0x8e"));
        assert_eq!(Dialect::V311.suback(&frame(&[0x90, 4, 0, 9, 1, 2]), 1).unwrap(), 9);
        assert!(Dialect::V311.suback(&frame(&[0x90, 4, 0, 9, 1, 0]), 1).is_err(), "a lower QoS is no grant");
        assert!(Dialect::V311.suback(&frame(&[0x90, 4, 0, 9, 1, 0x80]), 1).is_err());
        assert_eq!(Dialect::V5.suback(&frame(&[0x90, 4, 0, 9, 0, 1]), 1).unwrap(), 9);
    }

    #[test]
    fn strict_check_finds_what_does_not_fit() {
        assert!(Dialect::V5.check(&frame(&[0xE0, 0])).is_ok(), "the plain goodbye");
        assert!(Dialect::V5.check(&frame(&[0xE0, 1, 0x8E])).is_ok());
        assert!(Dialect::V5.check(&frame(&[0xE0, 3, 0x8E, 9, 0])).is_err());
        assert!(Dialect::V5.check(&frame(&[0x30, 5, 0, 1, b'a', 9, 0])).is_err(), "properties cut short");
        assert!(Dialect::V311.check(&frame(&[0x36, 5, 0, 1, b'a', 0, 1])).is_err(), "QoS 3");
        assert!(Dialect::V311.check(&frame(&[0xD0, 0])).is_ok());
    }
}
