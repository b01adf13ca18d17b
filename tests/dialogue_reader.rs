//! The reader of the dialogues is a judge of every packet the broker sends: it must refuse what a server may not send.

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

fn read(version: Version, bytes: &[u8]) -> Result<Option<Packet>, String> {
    take(&mut bytes.to_vec(), version).map(|found| found.map(|(packet, _)| packet))
}

fn properties(first: u8, head: Raw, block: &[u8]) -> Vec<u8> {
    head.properties(&Raw::new().bytes(block)).packet(first)
}

#[test]
fn what_a_server_may_send_is_read() {
    let good: [&[u8]; 14] = [
        &[0x20, 3, 0, 0, 0],
        &[0x20, 6, 1, 0, 3, 0x21, 0, 9],
        &[0x30, 4, 0, 1, b'a', 0],
        &[0x3D, 6, 0, 1, b'a', 0, 7, 0],
        &[0x31, 9, 0, 1, b'a', 5, 0x02, 0, 0, 0, 1],
        &[0x40, 2, 0, 1],
        &[0x50, 3, 0, 1, 0x97],
        &[0x62, 4, 0, 1, 0x92, 0],
        &[0x70, 2, 0, 1],
        &[0x90, 5, 0, 1, 0, 2, 0x8F],
        &[0xB0, 4, 0, 1, 0, 0x11],
        &[0xD0, 0],
        &[0xE0, 1, 0x8E],
        &[0xE0, 0],
    ];
    for bytes in good {
        assert!(
            matches!(read(Version::V5, bytes), Ok(Some(_))),
            "{}: {:?}",
            hex(bytes),
            read(Version::V5, bytes)
        );
        for end in 0..bytes.len() {
            assert_eq!(read(Version::V5, &bytes[..end]), Ok(None), "the first {end} bytes of {}", hex(bytes));
        }
    }
}

#[test]
fn three_subscription_identifiers_are_read() {
    let packet = properties(0x30, Raw::new().field("a"), &[0x0B, 3, 0x0B, 1, 0x0B, 0x80, 1]);
    let Ok(Some(Packet::Publish(publish))) = read(Version::V5, &packet) else { panic!("{}", hex(&packet)) };
    assert_eq!((publish.properties.subscription_ids(), publish.payload), (vec![1, 3, 128], vec![]));
}

#[test]
fn what_no_server_may_send_is_refused_in_5() {
    let topic = || Raw::new().field("a");
    let bad = [
        ("CONNACK flags", vec![0x20, 3, 2, 0, 0]),
        ("CONNACK code", vec![0x20, 3, 0, 0x8E, 0]),
        ("session present in a refusal", vec![0x20, 3, 1, 0x87, 0]),
        ("receive maximum 0", vec![0x20, 6, 0, 0, 3, 0x21, 0, 0]),
        ("maximum QoS 2", vec![0x20, 5, 0, 0, 2, 0x24, 2]),
        ("property twice", vec![0x20, 9, 0, 0, 6, 0x21, 0, 1, 0x21, 0, 1]),
        ("property of another packet", vec![0x20, 5, 0, 0, 2, 0x01, 1]),
        ("no property length", vec![0x20, 2, 0, 0]),
        ("properties cut short", vec![0x20, 4, 0, 0, 3, 0x21]),
        ("QoS 3", vec![0x36, 6, 0, 1, b'a', 0, 1, 0]),
        ("DUP at QoS 0", vec![0x38, 4, 0, 1, b'a', 0]),
        ("packet id 0", vec![0x32, 6, 0, 1, b'a', 0, 0, 0]),
        ("wildcard in a name", Raw::new().field("a/#").byte(0).packet(0x30)),
        ("no name and no alias", Raw::new().field("").byte(0).packet(0x30)),
        ("name that is not UTF-8", Raw::new().field([0xFF]).byte(0).packet(0x30)),
        ("name with U+0000", Raw::new().field([0]).byte(0).packet(0x30)),
        ("alias 0", properties(0x30, topic(), &[0x23, 0, 0])),
        ("subscription identifier 0", properties(0x30, topic(), &[0x0B, 0])),
        ("payload format 2", properties(0x30, topic(), &[0x01, 2])),
        ("long varint", Raw::new().field("a").bytes(&[0x80, 0]).packet(0x30)),
        ("long remaining length", vec![0xD0, 0x80, 0]),
        ("PUBACK flags", vec![0x42, 2, 0, 1]),
        ("PUBACK code", vec![0x40, 3, 0, 1, 0x92]),
        ("PUBREL flags", vec![0x60, 2, 0, 1]),
        ("PUBREL code", vec![0x62, 3, 0, 1, 0x80]),
        ("SUBACK code", vec![0x90, 4, 0, 1, 0, 3]),
        ("UNSUBACK code", vec![0xB0, 4, 0, 1, 0, 1]),
        ("PINGRESP with a body", vec![0xD0, 1, 0]),
        ("DISCONNECT of a client", vec![0xE0, 1, 0x04]),
        ("session expiry from a server", vec![0xE0, 7, 0, 5, 0x11, 0, 0, 0, 1]),
        ("AUTH to start again", vec![0xF0, 2, 0x19, 0]),
        ("SUBSCRIBE", vec![0x82, 7, 0, 1, 0, 0, 1, b'a', 0]),
        ("bytes after an acknowledgement", vec![0x40, 5, 0, 1, 0, 0, 0]),
    ];
    for (name, bytes) in bad {
        let found = read(Version::V5, &bytes);
        assert!(found.is_err(), "{name}: {found:?}");
    }
}

#[test]
fn what_no_server_may_send_is_refused_in_3_1_1() {
    let bad: [(&str, &[u8]); 6] = [
        ("return code 6", &[0x20, 2, 0, 6]),
        ("property length", &[0x20, 3, 0, 0, 0]),
        ("SUBACK code", &[0x90, 3, 0, 1, 0x8F]),
        ("reason in PUBACK", &[0x40, 3, 0, 1, 0]),
        ("DISCONNECT", &[0xE0, 0]),
        ("AUTH", &[0xF0, 0]),
    ];
    for (name, bytes) in bad {
        let found = read(Version::V311, bytes);
        assert!(found.is_err(), "{name}: {found:?}");
    }
}
