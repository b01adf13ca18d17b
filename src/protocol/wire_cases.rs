//! The wire, case by case: for each packet what is legal and what is refused, with reason and clause.
//!
//! Packets are written so that a person can check them against the standard:
//! bytes in hexadecimal, `'text'` for a string or binary field with its length, `|` for the remaining length of
//! what follows, `<…>` for a property block with its length. `versions` is any of `3` (3.1), `4` (3.1.1), `5`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::{
    Auth, AuthProperties, Connect, ConnectProperties, Framed, Malformed, Packet, PublishProperties, QoS,
    ReasonCode, UserProperties, Version, Will, connect_version, decode, forwarded_properties, frame,
    put_user_property, put_varint,
};

/// Turns the notation above into bytes.
pub(super) fn wire(notation: &str) -> Vec<u8> {
    fn until(chars: &mut std::str::Chars<'_>, end: Option<char>) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(char) = chars.next() {
            match char {
                _ if Some(char) == end => return out,
                ' ' => {}
                '\'' => {
                    let text: String = chars.by_ref().take_while(|char| *char != '\'').collect();
                    out.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
                '<' | '|' => {
                    let inner = until(chars, if char == '<' { Some('>') } else { end });
                    put_varint(&mut out, u32::try_from(inner.len()).unwrap());
                    out.extend_from_slice(&inner);
                    if char == '|' {
                        return out;
                    }
                }
                high => {
                    let low = chars.next().unwrap();
                    out.push(u8::from_str_radix(&format!("{high}{low}"), 16).unwrap());
                }
            }
        }
        assert_eq!(end, None, "a block is not closed");
        out
    }
    until(&mut notation.chars(), None)
}

fn versions(versions: &str) -> impl Iterator<Item = Version> {
    versions.chars().map(|version| match version {
        '3' => Version::V31,
        '4' => Version::V311,
        '5' => Version::V5,
        other => panic!("no version {other}"),
    })
}

fn read(bytes: &[u8], version: Version) -> Result<Packet<'_>, Malformed> {
    match frame(bytes, u32::MAX)? {
        Framed::Frame(frame) => {
            assert_eq!(frame.len, bytes.len());
            decode(frame, version)
        }
        Framed::Partial { need } => panic!("the case is cut short: {need} of {}", bytes.len()),
    }
}

/// Each case must decode, and what it is encoded as must decode to the same.
fn legal(cases: &[(&str, &str, &str)]) {
    for (allowed, what, notation) in cases {
        let bytes = wire(notation);
        for version in versions(allowed) {
            let packet = read(&bytes, version).unwrap_or_else(|e| panic!("{version:?} {what}: {e}"));
            let mut again = Vec::new();
            packet.encode(version, &mut again);
            assert_eq!(read(&again, version).as_ref(), Ok(&packet), "{version:?} {what}");
        }
    }
}

/// Each case must be refused with this reason and clause.
fn refused(cases: &[(&str, &str, &str, u8, &str)]) {
    for (forbidden, what, notation, reason, clause) in cases {
        let bytes = wire(notation);
        for version in versions(forbidden) {
            match read(&bytes, version) {
                Ok(packet) => panic!("{version:?} {what}: accepted as {packet:?}"),
                Err(error) => assert_eq!(
                    (error.reason.0, error.clause),
                    (*reason, *clause),
                    "{version:?} {what}: {error}"
                ),
            }
        }
    }
}

#[test]
fn fixed_header_refused() {
    refused(&[
        ("345", "type 0", "00 |", 0x81, "2.1.2"),
        ("345", "type 0 with flags", "0F |", 0x81, "2.1.2"),
        ("345", "CONNECT flags", "11 |", 0x81, "MQTT-2.1.3-1"),
        ("345", "CONNACK flags", "28 | 00 00", 0x81, "MQTT-2.1.3-1"),
        ("345", "PUBACK flags", "42 | 0001", 0x81, "MQTT-2.1.3-1"),
        ("345", "PUBREC flags", "54 | 0001", 0x81, "MQTT-2.1.3-1"),
        ("345", "PUBREL flags 0", "60 | 0001", 0x81, "MQTT-2.1.3-1"),
        ("345", "PUBREL flags 3", "63 | 0001", 0x81, "MQTT-2.1.3-1"),
        ("45", "PUBREL repeated as in 3.1", "6A | 0001", 0x81, "MQTT-2.1.3-1"),
        ("345", "PUBCOMP flags", "71 | 0001", 0x81, "MQTT-2.1.3-1"),
        ("345", "SUBSCRIBE flags 0", "80 | 0001 'a' 00", 0x81, "MQTT-2.1.3-1"),
        ("45", "SUBSCRIBE repeated as in 3.1", "8A | 0001 'a' 00", 0x81, "MQTT-2.1.3-1"),
        ("345", "SUBACK flags", "92 | 0001 00", 0x81, "MQTT-2.1.3-1"),
        ("345", "UNSUBSCRIBE flags 0", "A0 | 0001 'a'", 0x81, "MQTT-2.1.3-1"),
        ("45", "UNSUBSCRIBE repeated as in 3.1", "AA | 0001 'a'", 0x81, "MQTT-2.1.3-1"),
        ("345", "UNSUBACK flags", "B1 | 0001", 0x81, "MQTT-2.1.3-1"),
        ("345", "PINGREQ flags", "C2 |", 0x81, "MQTT-2.1.3-1"),
        ("345", "PINGRESP flags", "D1 |", 0x81, "MQTT-2.1.3-1"),
        ("345", "DISCONNECT flags", "E8 |", 0x81, "MQTT-2.1.3-1"),
        ("345", "AUTH flags", "F1 |", 0x81, "MQTT-2.1.3-1"),
        ("34", "AUTH before MQTT 5", "F0 |", 0x82, "3.1.1: 2.2.1"),
        ("345", "PUBLISH QoS 3", "36 | 'a' 0001", 0x81, "MQTT-3.3.1-4"),
        ("345", "PUBLISH QoS 3, DUP, RETAIN", "3F | 'a' 0001", 0x81, "MQTT-3.3.1-4"),
        ("345", "PUBLISH DUP on QoS 0", "38 | 'a'", 0x81, "MQTT-3.3.1-2"),
        ("345", "PUBLISH DUP and RETAIN on QoS 0", "39 | 'a'", 0x81, "MQTT-3.3.1-2"),
        ("345", "a length of five bytes", "30 80808080 01", 0x81, "1.5.5"),
        ("345", "a length of four continued bytes", "30 FFFFFFFF", 0x81, "1.5.5"),
        ("345", "length 0 in two bytes", "C0 8000", 0x81, "MQTT-1.5.5-1"),
        ("345", "length 4 in four bytes", "40 84808000 0001", 0x81, "MQTT-1.5.5-1"),
        ("345", "PINGREQ with a body", "C0 | 00", 0x81, "3.12"),
        ("345", "PINGRESP with a body", "D0 | 00", 0x81, "3.12"),
    ]);
}

#[test]
fn connect() {
    legal(&[
        ("345", "3.1.1, the least", "10 | 'MQTT' 04 02 0000 ''"),
        ("345", "3.1, the least", "10 | 'MQIsdp' 03 02 0000 'a'"),
        ("345", "5, the least", "10 | 'MQTT' 05 02 0000 <> ''"),
        ("345", "an empty identifier without clean session", "10 | 'MQTT' 04 00 0000 ''"),
        ("345", "a long identifier in 3.1", "10 | 'MQIsdp' 03 02 0000 '0123456789012345678901234'"),
        ("345", "an identifier of any characters", "10 | 'MQTT' 04 02 0000 '客服 +#/'"),
        ("345", "user name", "10 | 'MQTT' 04 82 003C 'a' 'u'"),
        ("345", "empty user name", "10 | 'MQTT' 04 82 003C 'a' ''"),
        ("345", "user name and password", "10 | 'MQTT' 04 C2 003C 'a' 'u' 'p'"),
        ("345", "empty user name and password", "10 | 'MQTT' 04 C2 003C 'a' '' ''"),
        ("345", "a password that is no UTF-8", "10 | 'MQTT' 04 C2 003C 'a' 'u' 0004 00FFC080"),
        ("345", "5, a password alone", "10 | 'MQTT' 05 42 003C <> 'a' 'p'"),
        ("345", "a will", "10 | 'MQTT' 04 06 003C 'a' 'w' 'bye'"),
        ("345", "a will with QoS 2, kept", "10 | 'MQTT' 04 36 003C 'a' 'w' 'bye'"),
        ("345", "an empty will of any bytes", "10 | 'MQTT' 04 0E 003C 'a' 'w' ''"),
        ("345", "5, a will", "10 | 'MQTT' 05 06 003C <> 'a' <> 'w' 'bye'"),
        ("345", "3.1, the reserved flag", "10 | 'MQIsdp' 03 03 0000 'a'"),
        ("345", "3.1, will QoS and retain without a will", "10 | 'MQIsdp' 03 3A 0000 'a'"),
        ("345", "3.1, the user name left out", "10 | 'MQIsdp' 03 82 0000 'a'"),
        ("345", "3.1, user name and password left out", "10 | 'MQIsdp' 03 C2 0000 'a'"),
        ("345", "3.1, the password left out", "10 | 'MQIsdp' 03 C2 0000 'a' 'u'"),
        (
            "5",
            "every property",
            "10 | 'MQTT' 05 02 0000 <11 00000000 21 0001 27 00000001 22 0000 19 01 17 00 26 'k' 'v' 15 'm' \
             16 0001 FF 26 'k' 'v'> 'a'",
        ),
        ("5", "a will's every property", CONNECT_WITH_WILL),
    ]);
    refused(&[
        ("345", "another protocol", "10 | 'MQTX' 04 02 0000 ''", 0x84, "MQTT-3.1.2-1"),
        ("345", "the name in lower case", "10 | 'mqtt' 04 02 0000 ''", 0x84, "MQTT-3.1.2-1"),
        ("345", "no name", "10 | '' 04 02 0000 ''", 0x84, "MQTT-3.1.2-1"),
        ("345", "level 3 with the name of 3.1.1", "10 | 'MQTT' 03 02 0000 'a'", 0x84, "MQTT-3.1.2-2"),
        ("345", "level 4 with the name of 3.1", "10 | 'MQIsdp' 04 02 0000 'a'", 0x84, "MQTT-3.1.2-2"),
        ("345", "level 6", "10 | 'MQTT' 06 02 0000 <> 'a'", 0x84, "MQTT-3.1.2-2"),
        ("345", "a bridge's level", "10 | 'MQTT' 84 02 0000 'a'", 0x84, "MQTT-3.1.2-2"),
        ("345", "the reserved flag", "10 | 'MQTT' 04 03 0000 ''", 0x81, "MQTT-3.1.2-3"),
        ("345", "5, the reserved flag", "10 | 'MQTT' 05 03 0000 <> ''", 0x81, "MQTT-3.1.2-3"),
        ("345", "will QoS without a will", "10 | 'MQTT' 04 0A 0000 ''", 0x81, "MQTT-3.1.2-11"),
        ("345", "will retain without a will", "10 | 'MQTT' 05 22 0000 <> ''", 0x81, "MQTT-3.1.2-13"),
        ("345", "will QoS 3", "10 | 'MQTT' 04 1E 0000 '' 'w' ''", 0x81, "MQTT-3.1.2-12"),
        ("345", "3.1, will QoS 3", "10 | 'MQIsdp' 03 1E 0000 'a' 'w' ''", 0x81, "MQTT-3.1.2-12"),
        ("345", "a password alone", "10 | 'MQTT' 04 42 0000 '' 'p'", 0x81, "3.1.1: MQTT-3.1.2-22"),
        ("345", "3.1, a password alone", "10 | 'MQIsdp' 03 42 0000 'a' 'p'", 0x81, "3.1.1: MQTT-3.1.2-22"),
        ("345", "3.1, no identifier", "10 | 'MQIsdp' 03 02 0000 ''", 0x85, "3.1: 3.1"),
        ("345", "no name at all", "10 |", 0x81, "1.5.2"),
        ("345", "cut in the name", "10 | 0004 4D51", 0x81, "2.1.4"),
        ("345", "cut before the level", "10 | 'MQTT'", 0x81, "2.1.4"),
        ("345", "cut in keep alive", "10 | 'MQTT' 04 02 00", 0x81, "1.5.2"),
        ("345", "no properties", "10 | 'MQTT' 05 02 0000", 0x81, "1.5.5"),
        ("345", "no identifier field", "10 | 'MQTT' 04 02 0000", 0x81, "1.5.2"),
        ("345", "no will", "10 | 'MQTT' 04 06 0000 ''", 0x81, "1.5.2"),
        ("345", "no will payload", "10 | 'MQTT' 04 06 0000 '' 'w'", 0x81, "1.5.2"),
        ("345", "no user name", "10 | 'MQTT' 04 82 0000 ''", 0x81, "1.5.2"),
        ("345", "no password", "10 | 'MQTT' 04 C2 0000 '' 'u'", 0x81, "1.5.2"),
        ("345", "bytes after the end", "10 | 'MQTT' 04 02 0000 '' 00", 0x81, "2.1.4"),
        ("345", "an unannounced user name", "10 | 'MQTT' 05 02 0000 <> 'a' 'u'", 0x81, "2.1.4"),
        ("345", "identifier not UTF-8", "10 | 'MQTT' 04 02 0000 0001 FF", 0x81, "MQTT-1.5.4-1"),
        ("345", "identifier with U+0000", "10 | 'MQTT' 04 02 0000 0003 610061", 0x81, "MQTT-1.5.4-2"),
        ("345", "user name with a surrogate", "10 | 'MQTT' 04 82 0000 '' 0003 EDA080", 0x81, "MQTT-1.5.4-1"),
        ("345", "a wildcard in the will topic", "10 | 'MQTT' 04 06 0000 '' 'w/#' ''", 0x81, "MQTT-4.7.1-1"),
        ("345", "an empty will topic", "10 | 'MQTT' 04 06 0000 '' '' ''", 0x81, "MQTT-4.7.3-1"),
        ("345", "U+0000 in the will topic", "10 | 'MQTT' 04 06 0000 '' 0001 00 ''", 0x81, "MQTT-1.5.4-2"),
        ("5", "receive maximum 0", "10 | 'MQTT' 05 02 0000 <21 0000> ''", 0x82, "3.1.2.11.3"),
        ("5", "packet size 0", "10 | 'MQTT' 05 02 0000 <27 00000000> ''", 0x82, "3.1.2.11.4"),
        ("5", "request problem information 2", "10 | 'MQTT' 05 02 0000 <17 02> ''", 0x82, "2.2.2.2"),
        ("5", "request response information 2", "10 | 'MQTT' 05 02 0000 <19 02> ''", 0x82, "2.2.2.2"),
        ("5", "data without a method", "10 | 'MQTT' 05 02 0000 <16 'd'> ''", 0x82, "3.1.2.11.10"),
        ("5", "alias maximum twice", "10 | 'MQTT' 05 02 0000 <22 0001 22 0001> ''", 0x82, "2.2.2.2"),
        ("5", "a will's property before it", "10 | 'MQTT' 05 02 0000 <18 00000001> ''", 0x81, "2.2.2.2"),
        ("5", "an alias in a will", "10 | 'MQTT' 05 06 0000 <> '' <23 0001> 'w' ''", 0x81, "2.2.2.2"),
        (
            "5",
            "a subscription identifier in a will",
            "10 | 'MQTT' 05 06 0000 <> '' <0B 01> 'w' ''",
            0x81,
            "2.2.2.2",
        ),
        (
            "5",
            "will delay twice",
            "10 | 'MQTT' 05 06 0000 <> '' <18 00000001 18 00000002> 'w' ''",
            0x82,
            "2.2.2.2",
        ),
        ("5", "a will's format 2", "10 | 'MQTT' 05 06 0000 <> '' <01 02> 'w' ''", 0x82, "2.2.2.2"),
        ("5", "a will without properties", "10 | 'MQTT' 05 06 0000 <> '' 'w' ''", 0x81, "2.1.4"),
    ]);
}

const CONNECT_WITH_WILL: &str = "10 | 'MQTT' 05 F6 000A <21 0014> 'me' <18 0000001E 01 01 02 0000003C 03 'text' \
    08 'answers' 09 0002 00FF 26 'k' 'v'> 'w' 'bye' 'user' 0002 00FF";

#[test]
fn connack() {
    legal(&[
        ("5", "accepted", "20 | 00 00 <>"),
        ("5", "session present", "20 | 01 00 <>"),
        ("5", "refused", "20 | 00 87 <>"),
        (
            "5",
            "every property",
            "20 | 01 00 <11 00000001 21 0001 24 00 25 00 27 00000001 12 'id' 22 0001 1F 'why' 26 'k' 'v' 28 00 \
             29 01 2A 00 13 0001 1A 'r' 1C 's' 15 'm' 16 'd'>",
        ),
    ]);
    legal(&[
        ("34", "accepted", "20 | 00 00"),
        ("4", "session present", "20 | 01 00"),
        ("34", "return code 5", "20 | 00 05"),
        ("3", "a reserved byte that 3.1 does not look at", "20 | FF 00"),
    ]);
    refused(&[
        ("4", "reserved flags", "20 | 02 00", 0x81, "MQTT-3.2.2-1"),
        ("5", "reserved flags", "20 | 80 00 <>", 0x81, "MQTT-3.2.2-1"),
        ("34", "return code 6", "20 | 00 06", 0x81, "MQTT-3.2.2-8"),
        ("5", "reason 1", "20 | 00 01 <>", 0x81, "MQTT-3.2.2-8"),
        ("5", "reason 0x8B", "20 | 00 8B <>", 0x81, "MQTT-3.2.2-8"),
        ("4", "a session with an error", "20 | 01 05", 0x82, "MQTT-3.2.2-6"),
        ("5", "a session with an error", "20 | 01 87 <>", 0x82, "MQTT-3.2.2-6"),
        ("345", "nothing", "20 |", 0x81, "2.1.4"),
        ("345", "cut", "20 | 00", 0x81, "2.1.4"),
        ("5", "no properties", "20 | 00 00", 0x81, "1.5.5"),
        ("34", "bytes after the end", "20 | 00 00 00", 0x81, "2.1.4"),
        ("5", "bytes after the end", "20 | 00 00 <> 00", 0x81, "2.1.4"),
        ("5", "maximum QoS 2", "20 | 00 00 <24 02>", 0x82, "2.2.2.2"),
        ("5", "retain available 2", "20 | 00 00 <25 02>", 0x82, "2.2.2.2"),
        ("5", "wildcards available 2", "20 | 00 00 <28 02>", 0x82, "2.2.2.2"),
        ("5", "identifiers available 2", "20 | 00 00 <29 02>", 0x82, "2.2.2.2"),
        ("5", "shared available 2", "20 | 00 00 <2A 02>", 0x82, "2.2.2.2"),
        ("5", "receive maximum 0", "20 | 00 00 <21 0000>", 0x82, "3.1.2.11.3"),
        ("5", "packet size 0", "20 | 00 00 <27 00000000>", 0x82, "3.1.2.11.4"),
        ("5", "data without a method", "20 | 00 00 <16 ''>", 0x82, "3.1.2.11.10"),
        ("5", "a reason string twice", "20 | 00 00 <1F 'a' 1F 'b'>", 0x82, "2.2.2.2"),
        ("5", "a property of CONNECT", "20 | 00 00 <17 01>", 0x81, "2.2.2.2"),
    ]);
}

#[test]
fn publish() {
    legal(&[
        ("34", "QoS 0, no payload", "30 | 'a'"),
        ("34", "QoS 0, kept", "31 | 'a' FF00"),
        ("34", "QoS 1", "32 | 'a' 0001 00"),
        ("34", "QoS 1, repeated", "3A | 'a' FFFF"),
        ("34", "QoS 2, repeated, kept", "3D | 'a' 0100"),
        ("34", "any characters", "30 | '/ 客服/\u{1}\u{feff}\u{10ffff}//$'"),
        ("5", "QoS 0, no payload", "30 | 'a' <>"),
        ("5", "QoS 2", "34 | 'a' 0001 <> 00"),
        ("5", "an alias for no topic", "30 | '' <23 0001> 00"),
        ("5", "an alias for a topic", "30 | 'a' <23 FFFF> 00"),
        ("5", "a payload that is not what it says", "30 | 'a' <01 01> FF"),
        ("5", "empty fields", "30 | 'a' <03 '' 09 '' 26 '' ''>"),
        ("5", "many identifiers", "30 | 'a' <0B 01 0B 01 0B FFFFFF7F 26 'k' 'v' 0B 8001> 00"),
        ("5", "user properties between others", "30 | 'a' <26 'a' '1' 02 00000000 26 'a' '1' 03 'x'> 00"),
    ]);
    refused(&[
        ("34", "no topic", "30 | ''", 0x81, "MQTT-4.7.3-1"),
        ("5", "no topic and no alias", "30 | '' <>", 0x82, "3.3.2.1"),
        ("345", "#", "30 | 'a/#' 00", 0x81, "MQTT-3.3.2-2"),
        ("345", "+", "30 | '+' 00", 0x81, "MQTT-3.3.2-2"),
        ("345", "+ far on", "30 | '0123456789/0123456789/+' 00", 0x81, "MQTT-3.3.2-2"),
        ("345", "a wildcard within a level", "30 | 'sport+' 00", 0x81, "MQTT-3.3.2-2"),
        ("345", "U+0000", "30 | 0002 6100 00", 0x81, "MQTT-1.5.4-2"),
        ("345", "U+0000 far on", "30 | 000A 61616161616161616100 00", 0x81, "MQTT-1.5.4-2"),
        ("345", "not UTF-8", "30 | 0002 C328 00", 0x81, "MQTT-1.5.4-1"),
        ("345", "a surrogate", "30 | 0003 EDB080 00", 0x81, "MQTT-1.5.4-1"),
        ("345", "an overlong slash", "30 | 0002 C0AF 00", 0x81, "MQTT-1.5.4-1"),
        ("345", "beyond U+10FFFF", "30 | 0004 F4908080 00", 0x81, "MQTT-1.5.4-1"),
        ("345", "identifier 0", "32 | 'a' 0000 00", 0x81, "MQTT-2.2.1-3"),
        ("345", "nothing", "30 |", 0x81, "1.5.2"),
        ("345", "cut in the topic", "30 | 0002 61", 0x81, "2.1.4"),
        ("345", "cut in the identifier", "32 | 'a' 00", 0x81, "1.5.2"),
        ("5", "no properties", "30 | 'a'", 0x81, "1.5.5"),
        ("5", "properties longer than the packet", "30 | 'a' 05 01 01", 0x81, "2.1.4"),
        ("5", "a property length of five bytes", "30 | 'a' 8080808001", 0x81, "1.5.5"),
        ("5", "a property length longer than needed", "30 | 'a' 8000", 0x81, "MQTT-1.5.5-1"),
        ("5", "a property length cut short", "30 | 'a' 80", 0x81, "1.5.5"),
        ("5", "an unknown property", "30 | 'a' <04 00>", 0x81, "2.2.2.2"),
        ("5", "property 0", "30 | 'a' <00>", 0x81, "2.2.2.2"),
        ("5", "a property number of two bytes", "30 | 'a' <8101 01>", 0x81, "2.2.2.2"),
        ("5", "a property of CONNECT", "30 | 'a' <21 0001>", 0x81, "2.2.2.2"),
        ("5", "will delay", "30 | 'a' <18 00000001>", 0x81, "2.2.2.2"),
        ("5", "a reason string", "30 | 'a' <1F 'r'>", 0x81, "2.2.2.2"),
        ("5", "a number past the block", "30 | 'a' <02 0000>", 0x81, "1.5.3"),
        ("5", "an alias past the block", "30 | 'a' <23 00>", 0x81, "1.5.2"),
        ("5", "a byte past the block", "30 | 'a' <01>", 0x81, "2.1.4"),
        ("5", "a string past the block", "30 | 'a' <03 0002 61> 61", 0x81, "2.1.4"),
        ("5", "half a user property", "30 | 'a' <26 'k'> 'v'", 0x81, "1.5.2"),
        ("5", "an identifier past the block", "30 | 'a' <0B 80> 01", 0x81, "1.5.5"),
        ("5", "format 2", "30 | 'a' <01 02>", 0x82, "2.2.2.2"),
        ("5", "alias 0", "30 | 'a' <23 0000>", 0x94, "MQTT-3.3.2-8"),
        ("5", "subscription identifier 0", "30 | 'a' <0B 00>", 0x82, "3.8.2.1.2"),
        ("5", "subscription identifier of five bytes", "30 | 'a' <0B 8080808001>", 0x81, "1.5.5"),
        ("5", "subscription identifier longer than needed", "30 | 'a' <0B 8100>", 0x81, "MQTT-1.5.5-1"),
        ("5", "format twice", "30 | 'a' <01 01 01 01>", 0x82, "2.2.2.2"),
        ("5", "expiry twice", "30 | 'a' <02 00000001 02 00000001>", 0x82, "2.2.2.2"),
        ("5", "content type twice", "30 | 'a' <03 '' 03 ''>", 0x82, "2.2.2.2"),
        ("5", "response topic twice", "30 | 'a' <08 'a' 08 'a'>", 0x82, "2.2.2.2"),
        ("5", "correlation data twice", "30 | 'a' <09 '' 09 ''>", 0x82, "2.2.2.2"),
        ("5", "alias twice", "30 | 'a' <23 0001 23 0001>", 0x82, "2.2.2.2"),
        ("5", "a wildcard in the response topic", "30 | 'a' <08 'a/+'>", 0x81, "MQTT-3.3.2-14"),
        ("5", "an empty response topic", "30 | 'a' <08 ''>", 0x81, "MQTT-4.7.3-1"),
        ("5", "content type not UTF-8", "30 | 'a' <03 0001 80>", 0x81, "MQTT-1.5.4-1"),
        ("5", "U+0000 in a user property", "30 | 'a' <26 'k' 0001 00>", 0x81, "MQTT-1.5.4-2"),
    ]);
}

#[test]
fn acks() {
    for first in ["40", "50", "62", "70"] {
        let case = |rest: &str| format!("{first} {rest}");
        legal(&[
            ("345", "the short form", &case("| 0001")),
            ("5", "a reason", &case("| FFFF 00")),
            ("5", "a reason and no properties", &case("| 0001 00 <>")),
            ("5", "every property", &case("| 0001 00 <26 'k' 'v' 1F 'why' 26 'k' 'v'>")),
        ]);
        refused(&[
            ("345", "nothing", &case("|"), 0x81, "1.5.2"),
            ("345", "cut", &case("| 00"), 0x81, "1.5.2"),
            ("345", "identifier 0", &case("| 0000"), 0x81, "MQTT-2.2.1-3"),
            ("34", "a reason", &case("| 0001 00"), 0x81, "2.1.4"),
            ("34", "properties", &case("| 0001 00 <>"), 0x81, "2.1.4"),
            ("5", "an unknown reason", &case("| 0001 01"), 0x81, "3.4.2.1"),
            ("5", "a reason of another packet", &case("| 0001 95"), 0x81, "3.4.2.1"),
            ("5", "bytes after the end", &case("| 0001 00 <> 00"), 0x81, "2.1.4"),
            ("5", "properties past the end", &case("| 0001 00 01"), 0x81, "2.1.4"),
            ("5", "a property of another packet", &case("| 0001 00 <23 0001>"), 0x81, "2.2.2.2"),
            ("5", "a reason string twice", &case("| 0001 00 <1F '' 1F ''>"), 0x82, "2.2.2.2"),
        ]);
    }
    legal(&[
        ("5", "no matching subscribers", "40 | 0001 10"),
        ("5", "no matching subscribers", "50 | 0001 10"),
        ("5", "identifier not found", "62 | 0001 92"),
        ("5", "identifier not found", "70 | 0001 92"),
        ("3", "PUBREL repeated", "6A | 0001"),
    ]);
    refused(&[
        ("5", "no matching subscribers", "62 | 0001 10", 0x81, "3.4.2.1"),
        ("5", "no matching subscribers", "70 | 0001 10", 0x81, "3.4.2.1"),
        ("5", "identifier not found", "40 | 0001 92", 0x81, "3.4.2.1"),
        ("5", "identifier not found", "50 | 0001 92", 0x81, "3.4.2.1"),
    ]);
}

#[test]
fn subscribe() {
    legal(&[
        ("34", "one filter", "82 | 0001 'a' 00"),
        ("34", "three filters", "82 | 0001 'a' 00 '+/#' 01 'a' 02"),
        ("3", "repeated", "8A | 0001 'a' 01"),
        ("3", "bits that 3.1 does not use", "82 | 0001 'a' FD"),
        ("5", "one filter", "82 | 0001 <> 'a' 00"),
        ("5", "every option", "82 | 0001 <> 'a' 2E '$share/g/a' 19"),
        ("5", "every property", "82 | 0001 <0B FFFFFF7F 26 'k' 'v' 26 'k' 'v'> 'a' 00"),
        ("5", "a filter whose syntax others judge", "82 | 0001 <> 'a#b' 00"),
    ]);
    refused(&[
        ("345", "identifier 0", "82 | 0000 'a' 00", 0x81, "MQTT-2.2.1-3"),
        ("345", "nothing", "82 |", 0x81, "1.5.2"),
        ("34", "no filter", "82 | 0001", 0x82, "MQTT-3.8.3-2"),
        ("5", "no filter", "82 | 0001 <>", 0x82, "MQTT-3.8.3-2"),
        ("5", "no properties", "82 | 0001", 0x81, "1.5.5"),
        ("34", "no options", "82 | 0001 'a'", 0x81, "2.1.4"),
        ("34", "a second filter without options", "82 | 0001 'a' 00 'b'", 0x81, "2.1.4"),
        ("34", "cut in a filter", "82 | 0001 0002 61", 0x81, "2.1.4"),
        ("34", "an empty filter", "82 | 0001 '' 00", 0x81, "MQTT-4.7.3-1"),
        ("5", "an empty filter", "82 | 0001 <> 'a' 00 '' 00", 0x81, "MQTT-4.7.3-1"),
        ("4", "U+0000", "82 | 0001 0001 00 00", 0x81, "MQTT-1.5.4-2"),
        ("4", "not UTF-8", "82 | 0001 0001 FF 00", 0x81, "MQTT-1.5.4-1"),
        ("34", "QoS 3", "82 | 0001 'a' 03", 0x81, "3.1.1: MQTT-3-8.3-4"),
        ("5", "QoS 3", "82 | 0001 <> 'a' 03", 0x82, "3.8.3.1"),
        ("4", "no local before MQTT 5", "82 | 0001 'a' 04", 0x81, "3.1.1: MQTT-3-8.3-4"),
        ("4", "reserved bit 7", "82 | 0001 'a' 81", 0x81, "3.1.1: MQTT-3-8.3-4"),
        ("5", "reserved bit 6", "82 | 0001 <> 'a' 40", 0x81, "MQTT-3.8.3-5"),
        ("5", "reserved bit 7", "82 | 0001 <> 'a' 80", 0x81, "MQTT-3.8.3-5"),
        ("5", "retain handling 3", "82 | 0001 <> 'a' 30", 0x82, "3.8.3.1"),
        ("5", "no local, shared", "82 | 0001 <> '$share/g/a' 04", 0x82, "MQTT-3.8.3-4"),
        ("5", "subscription identifier 0", "82 | 0001 <0B 00> 'a' 00", 0x82, "3.8.2.1.2"),
        ("5", "subscription identifier twice", "82 | 0001 <0B 01 0B 02> 'a' 00", 0x82, "2.2.2.2"),
        ("5", "a reason string", "82 | 0001 <1F ''> 'a' 00", 0x81, "2.2.2.2"),
    ]);
}

#[test]
fn suback() {
    legal(&[
        ("34", "every code", "90 | 0001 00 01 02 80"),
        ("5", "every code", "90 | 0001 <> 00 01 02 80 83 87 8F 91 97 9E A1 A2"),
        ("5", "every property", "90 | 0001 <1F 'why' 26 'k' 'v'> 00"),
    ]);
    refused(&[
        ("345", "identifier 0", "90 | 0000 00", 0x81, "MQTT-2.2.1-3"),
        ("34", "no code", "90 | 0001", 0x82, "MQTT-3.8.4-6"),
        ("5", "no code", "90 | 0001 <>", 0x82, "MQTT-3.8.4-6"),
        ("34", "a code of MQTT 5", "90 | 0001 87", 0x81, "3.9.3"),
        ("34", "code 3", "90 | 0001 00 03", 0x81, "3.9.3"),
        ("5", "code 3", "90 | 0001 <> 00 03", 0x81, "3.9.3"),
        ("5", "a code of UNSUBACK", "90 | 0001 <> 11", 0x81, "3.9.3"),
        ("5", "a property of SUBSCRIBE", "90 | 0001 <0B 01> 00", 0x81, "2.2.2.2"),
    ]);
}

#[test]
fn unsubscribe() {
    legal(&[
        ("34", "one filter", "A2 | 0001 'a'"),
        ("34", "two filters", "A2 | 0001 '#' '+/b'"),
        ("3", "repeated", "AA | 0001 'a'"),
        ("5", "one filter", "A2 | 0001 <> 'a'"),
        ("5", "every property", "A2 | 0001 <26 'k' 'v' 26 '' ''> 'a' 'b'"),
    ]);
    refused(&[
        ("345", "identifier 0", "A2 | 0000 'a'", 0x81, "MQTT-2.2.1-3"),
        ("34", "no filter", "A2 | 0001", 0x82, "MQTT-3.10.3-2"),
        ("5", "no filter", "A2 | 0001 <>", 0x82, "MQTT-3.10.3-2"),
        ("34", "an empty filter", "A2 | 0001 'a' ''", 0x81, "MQTT-4.7.3-1"),
        ("34", "cut in a length", "A2 | 0001 'a' 00", 0x81, "1.5.2"),
        ("34", "cut in a filter", "A2 | 0001 0002 61", 0x81, "2.1.4"),
        ("4", "not UTF-8", "A2 | 0001 0001 FF", 0x81, "MQTT-1.5.4-1"),
        ("5", "a subscription identifier", "A2 | 0001 <0B 01> 'a'", 0x81, "2.2.2.2"),
    ]);
}

#[test]
fn unsuback() {
    legal(&[
        ("34", "no codes", "B0 | 0001"),
        ("5", "every code", "B0 | 0001 <> 00 11 80 83 87 8F 91"),
        ("5", "every property", "B0 | 0001 <1F 'why' 26 'k' 'v'> 00"),
    ]);
    refused(&[
        ("345", "identifier 0", "B0 | 0000", 0x81, "MQTT-2.2.1-3"),
        ("34", "a code", "B0 | 0001 00", 0x81, "2.1.4"),
        ("5", "no code", "B0 | 0001 <>", 0x82, "MQTT-3.11.3-1"),
        ("5", "a code of SUBACK", "B0 | 0001 <> 01", 0x81, "3.11.3"),
    ]);
}

#[test]
fn disconnect() {
    legal(&[
        ("345", "the short form", "E0 |"),
        ("5", "a reason", "E0 | 8E"),
        ("5", "with the will", "E0 | 04"),
        ("5", "a reason and no properties", "E0 | 00 <>"),
        ("5", "every property", "E0 | 9C <11 FFFFFFFF 1C 'other' 1F 'why' 26 'k' 'v'>"),
    ]);
    refused(&[
        ("34", "a reason", "E0 | 00", 0x81, "2.1.4"),
        ("5", "an unknown reason", "E0 | 01", 0x81, "MQTT-3.14.2-1"),
        ("5", "a reason of CONNACK", "E0 | 86", 0x81, "MQTT-3.14.2-1"),
        ("5", "properties past the end", "E0 | 00 01", 0x81, "2.1.4"),
        ("5", "bytes after the end", "E0 | 00 <> 00", 0x81, "2.1.4"),
        ("5", "session expiry twice", "E0 | 00 <11 00000000 11 00000000>", 0x82, "2.2.2.2"),
        ("5", "a property of AUTH", "E0 | 00 <15 'm'>", 0x81, "2.2.2.2"),
    ]);
}

#[test]
fn auth() {
    legal(&[
        ("5", "the short form", "F0 |"),
        ("5", "success", "F0 | 00"),
        ("5", "success and no properties", "F0 | 00 <>"),
        ("5", "one step", "F0 | 18 <15 'm'>"),
        ("5", "every property", "F0 | 19 <15 'm' 16 0002 00FF 1F 'why' 26 'k' 'v'>"),
    ]);
    refused(&[
        ("5", "an unknown reason", "F0 | 01", 0x81, "MQTT-3.15.2-1"),
        ("5", "no method", "F0 | 18", 0x82, "3.15.2.2.2"),
        ("5", "no method in properties", "F0 | 18 <1F 'why'>", 0x82, "3.15.2.2.2"),
        ("5", "data without a method", "F0 | 00 <16 ''>", 0x82, "3.1.2.11.10"),
        ("5", "a method twice", "F0 | 18 <15 'm' 15 'm'>", 0x82, "2.2.2.2"),
        ("5", "a property of DISCONNECT", "F0 | 00 <11 00000000>", 0x81, "2.2.2.2"),
        ("5", "bytes after the end", "F0 | 18 <15 'm'> 00", 0x81, "2.1.4"),
    ]);
}

/// Fields that no second codec can confirm: `mqttbytes` knows neither AUTH nor MQTT 3.1.
#[test]
fn fields_are_where_the_standard_puts_them() {
    let mut block = Vec::new();
    put_user_property(&mut block, "k", "v");
    let user = UserProperties::encoded(&block).unwrap();
    let auth = Auth {
        reason: ReasonCode::RE_AUTHENTICATE,
        properties: AuthProperties {
            authentication_method: Some("SCRAM"),
            authentication_data: Some(&[0x00, 0xFF]),
            reason_string: Some("why"),
            user,
        },
    };
    let bytes = wire("F0 | 19 <15 'SCRAM' 16 0002 00FF 1F 'why' 26 'k' 'v'>");
    assert_eq!(read(&bytes, Version::V5), Ok(Packet::Auth(auth)));
    let mut written = Vec::new();
    auth.encode(&mut written);
    assert_eq!(written, bytes);

    let connect = Connect {
        version: Version::V31,
        clean_start: true,
        keep_alive: 60,
        client_id: "id",
        username: Some("user"),
        password: Some(b"password"),
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "topic",
            payload: b"payload",
            delay_interval: 0,
            properties: PublishProperties::EMPTY,
        }),
        properties: ConnectProperties::default(),
    };
    let bytes = wire("10 | 'MQIsdp' 03 EE 003C 'id' 'topic' 'payload' 'user' 'password'");
    assert_eq!(read(&bytes, Version::V311), Ok(Packet::Connect(Box::new(connect))));
    let mut written = Vec::new();
    connect.encode(&mut written);
    assert_eq!(written, bytes);
}

#[test]
fn a_will_keeps_its_properties_for_forwarding() {
    let bytes = wire(CONNECT_WITH_WILL);
    let Ok(Packet::Connect(connect)) = read(&bytes, Version::V5) else { panic!("refused") };
    let will = connect.will.unwrap();
    assert_eq!(will.delay_interval, 30);
    assert_eq!(will.properties.message_expiry, Some(60));
    let mut forwarded = Vec::new();
    forwarded_properties(will.properties.raw, &mut forwarded);
    assert_eq!(forwarded, wire("01 01 03 'text' 08 'answers' 09 0002 00FF 26 'k' 'v'"));
}

#[test]
fn the_version_of_a_refused_connect_can_be_told() {
    for (notation, version) in [
        ("'MQTT' 05 03", Some(Version::V5)),
        ("'MQTT' 04", Some(Version::V311)),
        ("'MQIsdp' 03 00 00", Some(Version::V31)),
        ("'MQTT' 06", None),
        ("'HTTP' 04", None),
        ("'MQTT'", None),
    ] {
        assert_eq!(connect_version(&wire(notation)).ok(), version, "{notation}");
    }
}
