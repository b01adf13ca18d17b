//! What a server must refuse: each wrong packet ends its connection, MQTT 5 clients are told why, and nobody else is
//! disturbed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_imports,
    clippy::doc_markdown,
    reason = "tests"
)]

mod dialogue;

use dialogue::*;

const MALFORMED: &[u8] = &[0x81];
const PROTOCOL: &[u8] = &[0x82];
const EITHER: &[u8] = &[0x81, 0x82];

/// A wrong packet, and the reasons that may be given for refusing it.
type Case = (&'static str, Vec<u8>, &'static [u8]);

fn props(block: &[u8]) -> Raw {
    Raw::new().bytes(block)
}

/// Wrong in every version.
fn wrong_anywhere() -> Vec<Case> {
    let name = |bytes: &[u8]| Raw::new().field(bytes);
    vec![
        ("type 0", vec![0x00, 0], EITHER),
        ("remaining length of five bytes", vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01], MALFORMED),
        ("QoS 3", name(b"a").two(1).byte(0).packet(0x36), MALFORMED),
        ("DUP at QoS 0", name(b"a").byte(0).packet(0x38), EITHER),
        ("PUBLISH without a topic", Raw::new().packet(0x30), MALFORMED),
        ("topic cut short", Raw::new().two(9).byte(b'a').packet(0x30), MALFORMED),
        ("packet id cut short", name(b"a").byte(0).packet(0x32), MALFORMED),
        ("topic with +", name(b"a/+").byte(0).packet(0x30), &[0x81, 0x82, 0x90]),
        ("topic with #", name(b"#").byte(0).packet(0x30), &[0x81, 0x82, 0x90]),
        ("topic with U+0000", name(b"a\0b").byte(0).packet(0x30), &[0x81, 0x90]),
        ("topic that is not UTF-8", name(b"a\xFF").byte(0).packet(0x30), &[0x81, 0x90]),
        ("topic with a surrogate", name(b"\xED\xA0\x80").byte(0).packet(0x30), &[0x81, 0x90]),
        ("topic in overlong UTF-8", name(b"\xC0\xAF").byte(0).packet(0x30), &[0x81, 0x90]),
        ("PUBACK flags", Raw::new().two(1).packet(0x41), MALFORMED),
        ("PUBREC flags", Raw::new().two(1).packet(0x52), MALFORMED),
        ("PUBREL flags", Raw::new().two(1).packet(0x60), MALFORMED),
        ("PUBCOMP flags", Raw::new().two(1).packet(0x7F), MALFORMED),
        ("PUBACK too short", Raw::new().byte(1).packet(0x40), MALFORMED),
        ("PUBREL too short", Raw::new().packet(0x62), MALFORMED),
        ("PUBACK of packet 0", Raw::new().two(0).packet(0x40), EITHER),
        ("PUBREL of packet 0", Raw::new().two(0).packet(0x62), EITHER),
        ("PINGREQ flags", vec![0xC1, 0], MALFORMED),
        ("PINGREQ with a body", vec![0xC0, 1, 0], MALFORMED),
        ("DISCONNECT flags", vec![0xE1, 0], MALFORMED),
        ("CONNACK from a client", vec![0x20, 2, 0, 0], EITHER),
        ("SUBACK from a client", Raw::new().two(1).byte(0).packet(0x90), EITHER),
        ("UNSUBACK from a client", Raw::new().two(1).packet(0xB0), EITHER),
        ("PINGRESP from a client", vec![0xD0, 0], EITHER),
        ("SUBSCRIBE flags", subscribe_body(false, b"a", 0).packet(0x80), MALFORMED),
        ("UNSUBSCRIBE flags", Raw::new().two(1).field("a").packet(0xA0), MALFORMED),
        ("SUBSCRIBE cut short", Raw::new().byte(0).packet(0x82), MALFORMED),
        ("UNSUBSCRIBE cut short", Raw::new().byte(0).packet(0xA2), MALFORMED),
    ]
}

/// Packet id 1, no properties where `v5`, one filter with its options.
fn subscribe_body(v5: bool, filter: &[u8], options: u8) -> Raw {
    let body = Raw::new().two(1);
    let body = if v5 { body.byte(0) } else { body };
    body.field(filter).byte(options)
}

fn wrong_in_3() -> Vec<Case> {
    vec![
        ("QoS 1 with packet id 0", Raw::new().field("a").two(0).packet(0x32), MALFORMED),
        ("empty topic", Raw::new().field("").packet(0x30), MALFORMED),
        ("PUBACK too long", Raw::new().two(1).byte(0).packet(0x40), MALFORMED),
        ("SUBSCRIBE of packet 0", Raw::new().two(0).field("a").byte(0).packet(0x82), MALFORMED),
        ("SUBSCRIBE of nothing", Raw::new().two(1).packet(0x82), MALFORMED),
        ("SUBSCRIBE without QoS", Raw::new().two(1).field("a").packet(0x82), MALFORMED),
        ("SUBSCRIBE at QoS 3", subscribe_body(false, b"a", 3).packet(0x82), MALFORMED),
        ("SUBSCRIBE with reserved bits", subscribe_body(false, b"a", 4).packet(0x82), MALFORMED),
        ("SUBSCRIBE to U+0000", subscribe_body(false, b"a\0", 0).packet(0x82), MALFORMED),
        ("SUBSCRIBE to what is not UTF-8", subscribe_body(false, b"\xFF", 0).packet(0x82), MALFORMED),
        ("SUBSCRIBE to an empty filter", subscribe_body(false, b"", 0).packet(0x82), MALFORMED),
        ("UNSUBSCRIBE of packet 0", Raw::new().two(0).field("a").packet(0xA2), MALFORMED),
        ("UNSUBSCRIBE of nothing", Raw::new().two(1).packet(0xA2), MALFORMED),
        ("UNSUBSCRIBE of what is not UTF-8", Raw::new().two(1).field([0xFF]).packet(0xA2), MALFORMED),
        ("DISCONNECT with a body", vec![0xE0, 1, 0], MALFORMED),
        ("AUTH", vec![0xF0, 0], MALFORMED),
    ]
}

fn wrong_in_5() -> Vec<Case> {
    let publish = |block: &[u8]| Raw::new().field("a").properties(&props(block)).packet(0x30);
    let subscribe =
        |block: &[u8]| Raw::new().two(1).properties(&props(block)).field("a").byte(0).packet(0x82);
    let disconnect = |block: &[u8]| Raw::new().byte(0).properties(&props(block)).packet(0xE0);
    vec![
        ("remaining length longer than need be", vec![0xC0, 0x80, 0x00], MALFORMED),
        ("QoS 1 with packet id 0", Raw::new().field("a").two(0).byte(0).packet(0x32), EITHER),
        ("empty topic without an alias", Raw::new().field("").byte(0).packet(0x30), EITHER),
        ("properties longer than the packet", Raw::new().field("a").byte(9).byte(1).packet(0x30), MALFORMED),
        ("no property length", Raw::new().field("a").packet(0x30), MALFORMED),
        (
            "property length longer than need be",
            Raw::new().field("a").bytes(&[0x80, 0]).packet(0x30),
            MALFORMED,
        ),
        (
            "property length of five bytes",
            Raw::new().field("a").bytes(&[0x80, 0x80, 0x80, 0x80, 1]).packet(0x30),
            MALFORMED,
        ),
        ("unknown property", publish(&[0x7E, 0]), EITHER),
        ("property of another packet", publish(&[0x11, 0, 0, 0, 1]), EITHER),
        ("payload format 2", publish(&[0x01, 2]), EITHER),
        ("payload format twice", publish(&[0x01, 1, 0x01, 1]), EITHER),
        ("message expiry cut short", publish(&[0x02, 0, 0]), MALFORMED),
        ("message expiry twice", publish(&[0x02, 0, 0, 0, 9, 0x02, 0, 0, 0, 9]), EITHER),
        ("content type twice", publish(&[0x03, 0, 1, b'a', 0x03, 0, 1, b'a']), EITHER),
        ("content type that is not UTF-8", publish(&[0x03, 0, 1, 0xFF]), MALFORMED),
        ("response topic with a wildcard", publish(&[0x08, 0, 1, b'#']), &[0x81, 0x82, 0x90]),
        ("response topic with U+0000", publish(&[0x08, 0, 1, 0]), &[0x81, 0x90]),
        ("response topic twice", publish(&[0x08, 0, 1, b'a', 0x08, 0, 1, b'a']), EITHER),
        ("correlation data twice", publish(&[0x09, 0, 0, 0x09, 0, 0]), EITHER),
        ("correlation data cut short", publish(&[0x09, 0, 9, 1]), MALFORMED),
        ("topic alias twice", publish(&[0x23, 0, 1, 0x23, 0, 1]), EITHER),
        ("subscription identifier", publish(&[0x0B, 1]), PROTOCOL),
        ("user property without a value", publish(&[0x26, 0, 1, b'a']), MALFORMED),
        ("user property that is not UTF-8", publish(&[0x26, 0, 1, b'a', 0, 1, 0xFF]), MALFORMED),
        ("unknown reason code in PUBACK", Raw::new().two(1).byte(0x01).packet(0x40), EITHER),
        (
            "property of another packet in PUBACK",
            Raw::new().two(1).byte(0).properties(&props(&[0x01, 1])).packet(0x40),
            EITHER,
        ),
        (
            "reason string twice in PUBACK",
            Raw::new().two(1).byte(0).properties(&props(&[0x1F, 0, 0, 0x1F, 0, 0])).packet(0x40),
            EITHER,
        ),
        ("PUBREL too long", Raw::new().two(1).byte(0).byte(0).byte(0).packet(0x62), MALFORMED),
        ("unknown reason code in PUBREL", Raw::new().two(1).byte(0x80).packet(0x62), EITHER),
        ("SUBSCRIBE of packet 0", Raw::new().two(0).byte(0).field("a").byte(0).packet(0x82), EITHER),
        ("SUBSCRIBE of nothing", Raw::new().two(1).byte(0).packet(0x82), EITHER),
        ("SUBSCRIBE without options", Raw::new().two(1).byte(0).field("a").packet(0x82), MALFORMED),
        ("SUBSCRIBE at QoS 3", subscribe_body(true, b"a", 3).packet(0x82), EITHER),
        ("SUBSCRIBE with reserved bit 6", subscribe_body(true, b"a", 0x40).packet(0x82), MALFORMED),
        ("SUBSCRIBE with reserved bit 7", subscribe_body(true, b"a", 0x80).packet(0x82), MALFORMED),
        ("SUBSCRIBE with retain handling 3", subscribe_body(true, b"a", 0x30).packet(0x82), EITHER),
        ("SUBSCRIBE to U+0000", subscribe_body(true, b"a\0", 0).packet(0x82), &[0x81, 0x8F]),
        ("SUBSCRIBE to what is not UTF-8", subscribe_body(true, b"\xFF", 0).packet(0x82), &[0x81, 0x8F]),
        ("SUBSCRIBE to an empty filter", subscribe_body(true, b"", 0).packet(0x82), &[0x81, 0x82, 0x8F]),
        ("subscription identifier 0", subscribe(&[0x0B, 0]), EITHER),
        ("subscription identifier twice", subscribe(&[0x0B, 1, 0x0B, 2]), EITHER),
        ("subscription identifier of five bytes", subscribe(&[0x0B, 0x80, 0x80, 0x80, 0x80, 1]), EITHER),
        ("property of another packet in SUBSCRIBE", subscribe(&[0x01, 1]), EITHER),
        ("UNSUBSCRIBE of packet 0", Raw::new().two(0).byte(0).field("a").packet(0xA2), EITHER),
        ("UNSUBSCRIBE of nothing", Raw::new().two(1).byte(0).packet(0xA2), EITHER),
        (
            "UNSUBSCRIBE of what is not UTF-8",
            Raw::new().two(1).byte(0).field([0xFF]).packet(0xA2),
            &[0x81, 0x8F],
        ),
        ("unknown reason code in DISCONNECT", vec![0xE0, 1, 0x01], EITHER),
        ("property of another packet in DISCONNECT", disconnect(&[0x01, 1]), EITHER),
        ("session expiry twice in DISCONNECT", disconnect(&[0x11, 0, 0, 0, 0, 0x11, 0, 0, 0, 0]), EITHER),
        ("AUTH flags", vec![0xF1, 2, 0x18, 0], MALFORMED),
        ("unknown reason code in AUTH", vec![0xF0, 2, 0x55, 0], EITHER),
    ]
}

#[track_caller]
fn each_ends_its_connection(version: Version, cases: Vec<Case>) {
    let topic = unique("bystander");
    let mut bystander = connect(version, &unique("bystander")).open();
    bystander.subscribe(&topic, 1);
    let mut wrong = Vec::new();
    for (name, packet, reasons) in cases {
        let mut client = connect(version, &unique("wrong")).open();
        client.send_while_open(&packet);
        // All wrong answers are told at once.
        if let Err(found) = client.ended_for(reasons) {
            wrong.push(format!("{name} ({}): {found}", hex(&packet)));
        }
    }
    assert!(wrong.is_empty(), "{} wrong in {version:?}:\n{}", wrong.len(), wrong.join("\n"));
    publisher().deliver(message(&topic, "undisturbed").qos(1));
    bystander.receive(&topic, "undisturbed");
}

#[test]
fn malformed_packets_end_the_connection_in_3_1_1() {
    let mut cases = wrong_in_3();
    // A trailing property length is payload here, so these are wrong as they are in both versions.
    cases.extend(wrong_anywhere());
    each_ends_its_connection(Version::V311, cases);
}

#[test]
fn malformed_packets_end_the_connection_in_5() {
    let mut cases = wrong_in_5();
    cases.extend(wrong_anywhere());
    each_ends_its_connection(Version::V5, cases);
}

/// A CONNECT up to its client id: name, level, flags, keep alive, properties in MQTT 5.
fn connect_head(version: Version, flags: u8, block: &[u8]) -> Raw {
    let level = if version.is_v5() { 5 } else { 4 };
    let head = Raw::new().field("MQTT").byte(level).byte(flags).two(60);
    if version.is_v5() { head.properties(&props(block)) } else { head }
}

fn wrong_connects(version: Version) -> Vec<(&'static str, Vec<u8>)> {
    let head = |flags| connect_head(version, flags, &[]);
    let will = |body: Raw| if version.is_v5() { body.byte(0) } else { body };
    vec![
        ("fixed header flags", head(2).field("id").packet(0x11)),
        ("reserved connect flag", head(3).field("id").packet(0x10)),
        ("no client id", head(2).packet(0x10)),
        ("client id cut short", head(2).two(9).byte(b'a').packet(0x10)),
        ("client id that is not UTF-8", head(2).field([0xFF, 0xFE]).packet(0x10)),
        ("client id with U+0000", head(2).field("a\0b").packet(0x10)),
        ("client id with a surrogate", head(2).field([0xED, 0xA0, 0x80]).packet(0x10)),
        ("bytes after the end", head(2).field("id").byte(0).packet(0x10)),
        ("will QoS without a will", head(0b0000_1010).field("id").packet(0x10)),
        ("will retain without a will", head(0b0010_0010).field("id").packet(0x10)),
        ("will QoS 3", will(head(0b0001_1110).field("id")).field("t").field("p").packet(0x10)),
        ("will without a topic", will(head(0b0000_0110).field("id")).packet(0x10)),
        ("will without a payload", will(head(0b0000_0110).field("id")).field("t").packet(0x10)),
        ("will to a wildcard", will(head(0b0000_0110).field("id")).field("t/#").field("p").packet(0x10)),
        ("will to an empty topic", will(head(0b0000_0110).field("id")).field("").field("p").packet(0x10)),
        (
            "will topic that is not UTF-8",
            will(head(0b0000_0110).field("id")).field([0xFF]).field("p").packet(0x10),
        ),
        ("user name announced, not there", head(0b1000_0010).field("id").packet(0x10)),
        ("user name that is not UTF-8", head(0b1000_0010).field("id").field([0xFF]).packet(0x10)),
        ("user name there, not announced", head(2).field("id").field("user").packet(0x10)),
        ("password announced, not there", head(0b1100_0010).field("id").field("user").packet(0x10)),
        (
            "password there, not announced",
            head(0b1000_0010).field("id").field("user").field("pass").packet(0x10),
        ),
        ("no flags", Raw::new().field("MQTT").byte(if version.is_v5() { 5 } else { 4 }).packet(0x10)),
    ]
}

fn wrong_connects_of_5() -> Vec<(&'static str, Vec<u8>)> {
    let with = |block: &[u8]| connect_head(Version::V5, 2, block).field("id").packet(0x10);
    let will = |block: &[u8]| {
        let head = connect_head(Version::V5, 0b0000_0110, &[]).field("id");
        head.properties(&props(block)).field("t").field("p").packet(0x10)
    };
    vec![
        ("session expiry twice", with(&[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1])),
        ("receive maximum 0", with(&[0x21, 0, 0])),
        ("receive maximum twice", with(&[0x21, 0, 1, 0x21, 0, 1])),
        ("maximum packet size 0", with(&[0x27, 0, 0, 0, 0])),
        ("maximum packet size twice", with(&[0x27, 0, 0, 1, 0, 0x27, 0, 0, 1, 0])),
        ("topic alias maximum twice", with(&[0x22, 0, 1, 0x22, 0, 1])),
        ("request response information 2", with(&[0x19, 2])),
        ("request problem information 2", with(&[0x17, 2])),
        ("authentication method twice", with(&[0x15, 0, 1, b'a', 0x15, 0, 1, b'a'])),
        ("authentication data without a method", with(&[0x16, 0, 1, b'a'])),
        ("property of another packet", with(&[0x01, 1])),
        ("unknown property", with(&[0x7F, 1])),
        ("property cut short", with(&[0x11, 0])),
        ("user property that is not UTF-8", with(&[0x26, 0, 1, 0xFF, 0, 0])),
        (
            "properties longer than the packet",
            Raw::new().field("MQTT").byte(5).byte(2).two(0).byte(99).packet(0x10),
        ),
        ("will delay twice", will(&[0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1])),
        ("will payload format 2", will(&[0x01, 2])),
        ("will response topic with a wildcard", will(&[0x08, 0, 1, b'+'])),
        ("will property of another packet", will(&[0x11, 0, 0, 0, 1])),
        ("topic alias in a will", will(&[0x23, 0, 1])),
    ]
}

#[track_caller]
fn each_connect_is_refused(version: Version, cases: Vec<(&str, Vec<u8>)>) {
    let mut wrong = Vec::new();
    for (name, packet) in cases {
        let mut client = Client::dial(version);
        client.send_while_open(&packet);
        // MQTT 3.1.1: no CONNACK at all [MQTT-3.1.4-1]. MQTT 5: none, or one that refuses.
        let found = match client.bytes_to_end() {
            Ok(answer) if answer.is_empty() => continue,
            Ok(answer) if version.is_v5() && answer[0] == 0x20 && answer[3] >= 0x80 => continue,
            Ok(answer) => hex(&answer),
            Err(found) => found,
        };
        wrong.push(format!("{name} ({}): {found}", hex(&packet)));
    }
    assert!(wrong.is_empty(), "{} wrong in {version:?}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn malformed_connects_are_refused_in_3_1_1() {
    let mut cases = wrong_connects(Version::V311);
    let nameless = Raw::new().field("MQTT").byte(4).byte(0b0100_0010).two(60).field("id").field("pass");
    cases.push(("password without a user name", nameless.packet(0x10)));
    each_connect_is_refused(Version::V311, cases);
}

#[test]
fn malformed_connects_are_refused_in_5() {
    let mut cases = wrong_connects(Version::V5);
    cases.extend(wrong_connects_of_5());
    each_connect_is_refused(Version::V5, cases);
}

#[test]
fn nothing_of_a_malformed_packet_is_acted_on() {
    for version in VERSIONS {
        let topic = unique("acted");
        let mut watcher = connect(version, &unique("watcher")).open();
        watcher.subscribe(&topic, 1);
        let mut client = connect(version, &unique("wrong")).open();
        let mut bytes = vec![0xC1, 0];
        bytes.extend(message(&topic, "after the error").encode(version));
        client.send(&bytes);
        client.expect_ended(0x81);
        publisher().deliver(message(&topic, "marker").qos(1));
        watcher.receive(&topic, "marker");
    }
}

#[test]
fn packets_before_the_malformed_one_are_acted_on() {
    for version in VERSIONS {
        let topic = unique("before");
        let mut watcher = connect(version, &unique("watcher")).open();
        watcher.subscribe(&topic, 1);
        let mut client = connect(version, &unique("wrong")).open();
        let mut bytes = message(&topic, "before the error").encode(version);
        bytes.extend([0xC1, 0]);
        client.send(&bytes);
        client.expect_ended(0x81);
        watcher.receive(&topic, "before the error");
    }
}
