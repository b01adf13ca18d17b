//! Every packet that a version can say, as proptest strategies, for the tests of the codec.
//!
//! A packet borrows; what it borrows from is leaked here, a few hundred bytes a case, so that cases need no second
//! set of owned packet types that could share a mistake with the first.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests; not every test binary uses everything"
)]

pub(crate) mod mutants;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use switchboard::protocol::{
    Ack, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect,
    DisconnectProperties, Framed, Malformed, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode,
    ReasonProperties, RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscribeFilters, SubscriptionIds,
    UnsubAck, Unsubscribe, UnsubscribeFilters, UserProperties, VARINT_MAX, Version, Will, decode, frame,
    put_str, put_subscription_id, put_user_property,
};

pub(crate) const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

pub(crate) fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(&VERSIONS[..])
}

/// Decodes exactly one packet.
pub(crate) fn read(bytes: &[u8], version: Version) -> Result<Packet<'_>, Malformed> {
    match frame(bytes, u32::MAX)? {
        Framed::Frame(frame) if frame.len == bytes.len() => decode(frame, version),
        other => panic!("not one packet: {other:?} of {} bytes", bytes.len()),
    }
}

pub(crate) fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    out
}

/// Any packet of `version`.
pub(crate) fn packet(version: Version) -> BoxedStrategy<Packet<'static>> {
    let common = prop_oneof![
        2 => connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
        1 => connack(version).prop_map(|connack| Packet::ConnAck(Box::new(connack))),
        3 => publish(version).prop_map(Packet::Publish),
        1 => ack(version, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]).prop_map(Packet::PubAck),
        1 => ack(version, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]).prop_map(Packet::PubRec),
        1 => ack(version, &[0x00, 0x92]).prop_map(Packet::PubRel),
        1 => ack(version, &[0x00, 0x92]).prop_map(Packet::PubComp),
        1 => subscribe(version).prop_map(Packet::Subscribe),
        1 => suback(version).prop_map(Packet::SubAck),
        1 => unsubscribe(version).prop_map(Packet::Unsubscribe),
        1 => unsuback(version).prop_map(Packet::UnsubAck),
        1 => Just(Packet::PingReq),
        1 => Just(Packet::PingResp),
        1 => disconnect(version).prop_map(Packet::Disconnect),
    ];
    if version.is_v5() {
        prop_oneof![14 => common, 1 => auth().prop_map(Packet::Auth)].boxed()
    } else {
        common.boxed()
    }
}

/// A string without U+0000, mostly short, sometimes over 127 bytes so that lengths grow a byte.
fn text() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        6 => vec(any::<char>().prop_filter("U+0000", |char| *char != '\0'), 0..6)
            .prop_map(|chars| -> &str { String::from_iter(chars).leak() }),
        4 => "[a-z0-9/ ]{0,20}".prop_map(|text| -> &str { text.leak() }),
        1 => (100_usize..300).prop_map(|len| -> &str { "x".repeat(len).leak() }),
    ]
}

fn filter() -> impl Strategy<Value = &'static str> {
    text().prop_map(|text| if text.is_empty() { "a/+/#" } else { text })
}

pub(crate) fn topic() -> impl Strategy<Value = &'static str> {
    filter().prop_map(|text| -> &str { text.replace(['+', '#'], "/").leak() })
}

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..40).prop_map(|bytes| -> &[u8] { bytes.leak() })
}

fn payload() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![
        8 => bytes(),
        1 => (0_usize..20_000).prop_map(|len| -> &[u8] { vec![0x80; len].leak() }),
    ]
}

fn user() -> impl Strategy<Value = UserProperties<'static>> {
    vec((text(), text()), 0..3).prop_map(|pairs| {
        let mut block = Vec::new();
        for (name, value) in pairs {
            put_user_property(&mut block, name, value);
        }
        UserProperties::encoded(block.leak()).unwrap()
    })
}

fn qos() -> impl Strategy<Value = QoS> {
    prop::sample::select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..])
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn reason(version: Version, allowed: &'static [u8]) -> impl Strategy<Value = ReasonCode> {
    let allowed = if version.is_v5() { allowed } else { &[0][..] };
    prop::sample::select(allowed).prop_map(ReasonCode)
}

/// What `full` makes in MQTT 5, and nothing before.
fn only_v5<T: std::fmt::Debug + Clone + 'static>(
    version: Version,
    nothing: T,
    full: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    if version.is_v5() { full.boxed() } else { Just(nothing).boxed() }
}

fn publish_properties() -> impl Strategy<Value = PublishProperties<'static>> {
    (
        of(1..=u16::MAX),
        of(any::<u32>()),
        of(any::<bool>()),
        of(text()),
        of(topic()),
        of(bytes()),
        user(),
        vec(1..=VARINT_MAX, 0..4),
    )
        .prop_map(|(alias, expiry, utf8, content_type, response_topic, correlation_data, user, ids)| {
            let mut block = Vec::new();
            for id in ids {
                put_subscription_id(&mut block, id);
            }
            PublishProperties {
                topic_alias: alias,
                message_expiry: expiry,
                payload_format_utf8: utf8,
                content_type,
                response_topic,
                correlation_data,
                user,
                subscription_ids: SubscriptionIds::encoded(block.leak()).unwrap(),
                raw: &[],
            }
        })
}

pub(crate) fn publish(version: Version) -> impl Strategy<Value = Publish<'static>> {
    let properties = only_v5(version, PublishProperties::EMPTY, publish_properties());
    (any::<[bool; 3]>(), qos(), packet_id(), topic(), properties, payload()).prop_map(
        |([dup, retain, no_topic], qos, packet_id, topic, properties, payload)| Publish {
            dup: dup && qos != QoS::AtMostOnce,
            qos,
            retain,
            topic: if no_topic && properties.topic_alias.is_some() { "" } else { topic },
            packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
            properties,
            payload,
        },
    )
}

fn will(version: Version) -> impl Strategy<Value = Will<'static>> {
    let properties = only_v5(version, PublishProperties::EMPTY, publish_properties());
    let delay = only_v5(version, 0, any::<u32>());
    (qos(), any::<bool>(), topic(), bytes(), delay, properties).prop_map(
        |(qos, retain, topic, payload, delay_interval, properties)| Will {
            qos,
            retain,
            topic,
            payload,
            delay_interval,
            properties: PublishProperties {
                topic_alias: None,
                subscription_ids: SubscriptionIds::EMPTY,
                ..properties
            },
        },
    )
}

fn authentication() -> impl Strategy<Value = (Option<&'static str>, Option<&'static [u8]>)> {
    (of(text()), of(bytes())).prop_map(|(method, data)| (method, method.and(data)))
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties<'static>> {
    (
        of(any::<u32>()),
        of(1..=u16::MAX),
        of(1..=u32::MAX),
        of(any::<u16>()),
        of(any::<bool>()),
        of(any::<bool>()),
        user(),
        authentication(),
    )
        .prop_map(|(expiry, receive, packet, alias, response, problem, user, (method, data))| {
            ConnectProperties {
                session_expiry: expiry,
                receive_maximum: receive,
                maximum_packet: packet,
                topic_alias_maximum: alias,
                request_response_information: response,
                request_problem_information: problem,
                user,
                authentication_method: method,
                authentication_data: data,
            }
        })
}

pub(crate) fn connect(version: Version) -> impl Strategy<Value = Connect<'static>> {
    let properties = only_v5(version, ConnectProperties::default(), connect_properties());
    (any::<bool>(), any::<u16>(), text(), of(text()), of(bytes()), of(will(version)), properties).prop_map(
        move |(clean_start, keep_alive, client_id, username, password, will, properties)| Connect {
            version,
            clean_start,
            keep_alive,
            client_id: if version == Version::V31 && client_id.is_empty() { "id" } else { client_id },
            username,
            password: if version.is_v5() { password } else { username.and(password) },
            will,
            properties,
        },
    )
}

fn connack_properties() -> impl Strategy<Value = ConnAckProperties<'static>> {
    (
        (of(any::<u32>()), of(1..=u16::MAX), of(any::<bool>()), of(1..=u32::MAX), of(text())),
        (any::<[Option<bool>; 4]>(), of(any::<u16>()), of(any::<u16>()), of(text()), of(text())),
        (of(text()), user(), authentication()),
    )
        .prop_map(
            |(
                (session_expiry, receive_maximum, qos1, maximum_packet, assigned_client_id),
                (flags, topic_alias_maximum, server_keep_alive, response_information, server_reference),
                (reason_string, user, (authentication_method, authentication_data)),
            )| ConnAckProperties {
                session_expiry,
                receive_maximum,
                maximum_qos: qos1.map(|one| if one { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
                retain_available: flags[0],
                maximum_packet,
                assigned_client_id,
                topic_alias_maximum,
                reason_string,
                user,
                wildcard_subscription_available: flags[1],
                subscription_ids_available: flags[2],
                shared_subscription_available: flags[3],
                server_keep_alive,
                response_information,
                server_reference,
                authentication_method,
                authentication_data,
            },
        )
}

fn connack(version: Version) -> impl Strategy<Value = ConnAck<'static>> {
    const CODES: &[u8] = &[
        0x00, 0x00, 0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
        0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
    ];
    let codes = if version.is_v5() { CODES } else { &[0, 1, 2, 3, 4, 5] };
    let properties = only_v5(version, ConnAckProperties::default(), connack_properties());
    (any::<bool>(), prop::sample::select(codes), properties).prop_map(move |(present, code, properties)| {
        ConnAck {
            session_present: present && code == 0 && version != Version::V31,
            reason: ReasonCode(code),
            properties,
        }
    })
}

fn reason_properties(version: Version) -> impl Strategy<Value = ReasonProperties<'static>> {
    let full =
        (of(text()), user()).prop_map(|(reason_string, user)| ReasonProperties { reason_string, user });
    only_v5(version, ReasonProperties::EMPTY, full)
}

fn ack(version: Version, codes: &'static [u8]) -> impl Strategy<Value = Ack<'static>> {
    (packet_id(), reason(version, codes), reason_properties(version))
        .prop_map(|(packet_id, reason, properties)| Ack { packet_id, reason, properties })
}

fn subscribe(version: Version) -> impl Strategy<Value = Subscribe<'static>> {
    let one = (filter(), qos(), any::<[bool; 2]>(), 0..3_u8).prop_map(
        move |(filter, qos, [no_local, retain_as_published], handling)| {
            if !version.is_v5() {
                return SubscribeFilter::new(filter, qos);
            }
            let retain_handling = match handling {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                _ => RetainHandling::DoNotSend,
            };
            let no_local = no_local && !filter.starts_with("$share/");
            SubscribeFilter { filter, qos, no_local, retain_as_published, retain_handling }
        },
    );
    let id = only_v5(version, None, of(1..=VARINT_MAX));
    let user = only_v5(version, UserProperties::EMPTY, user());
    (packet_id(), id, user, vec(one, 1..5)).prop_map(|(packet_id, subscription_id, user, filters)| {
        let mut block = Vec::new();
        for filter in filters {
            filter.put(&mut block);
        }
        let filters = SubscribeFilters::encoded(block.leak()).unwrap();
        Subscribe { packet_id, subscription_id, user, filters }
    })
}

fn suback(version: Version) -> impl Strategy<Value = SubAck<'static>> {
    const CODES: &[u8] = &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
    let codes = if version.is_v5() { CODES } else { &CODES[..4] };
    (packet_id(), reason_properties(version), vec(prop::sample::select(codes), 1..5))
        .prop_map(|(packet_id, properties, codes)| SubAck { packet_id, properties, reasons: codes.leak() })
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Unsubscribe<'static>> {
    let user = only_v5(version, UserProperties::EMPTY, user());
    (packet_id(), user, vec(filter(), 1..5)).prop_map(|(packet_id, user, filters)| {
        let mut block = Vec::new();
        for filter in filters {
            put_str(&mut block, filter);
        }
        let filters = UnsubscribeFilters::encoded(block.leak()).unwrap();
        Unsubscribe { packet_id, user, filters }
    })
}

fn unsuback(version: Version) -> impl Strategy<Value = UnsubAck<'static>> {
    const CODES: &[u8] = &[0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
    let count = if version.is_v5() { 1..5 } else { 0..1 };
    (packet_id(), reason_properties(version), vec(prop::sample::select(CODES), count))
        .prop_map(|(packet_id, properties, codes)| UnsubAck { packet_id, properties, reasons: codes.leak() })
}

fn disconnect(version: Version) -> impl Strategy<Value = Disconnect<'static>> {
    const CODES: &[u8] = &[
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
        0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];
    let properties = (of(any::<u32>()), of(text()), of(text()), user()).prop_map(
        |(session_expiry, server_reference, reason_string, user)| DisconnectProperties {
            session_expiry,
            server_reference,
            reason_string,
            user,
        },
    );
    (reason(version, CODES), only_v5(version, DisconnectProperties::EMPTY, properties))
        .prop_map(|(reason, properties)| Disconnect { reason, properties })
}

fn auth() -> impl Strategy<Value = Auth<'static>> {
    let properties = (of(text()), of(bytes()), of(text()), user());
    (prop::sample::select(&[0x00, 0x18, 0x19][..]), properties).prop_map(
        |(code, (method, data, reason_string, user))| {
            let method = if code == 0 { method } else { method.or(Some("m")) };
            Auth {
                reason: ReasonCode(code),
                properties: AuthProperties {
                    authentication_method: method,
                    authentication_data: method.and(data),
                    reason_string,
                    user,
                },
            }
        },
    )
}
