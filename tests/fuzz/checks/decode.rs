//! What must hold for any bytes that arrive as a stream of packets. Shared by the fuzz target and the replay of
//! its corpus.

use switchboard::protocol::{Framed, Malformed, Packet, Version, decode, forwarded_properties, frame};

/// Reads `data` as a connection of each version would, and panics where the codec breaks a promise.
pub(crate) fn decode_stream(data: &[u8]) {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut rest = data;
        while let Some((packet, len)) = next(rest, version) {
            // A prefix of a packet is never a packet.
            for cut in [1, len / 2, len - 1] {
                assert!(
                    next(&rest[..cut], version).is_none(),
                    "{version:?}: {packet:?} cut at {cut} of {len}"
                );
            }
            if let Ok(packet) = packet {
                check_packet(&packet, version);
            }
            rest = &rest[len..];
        }
    }
}

/// The packet at the front and its length; `None` where a stream would wait for more or end.
fn next(stream: &[u8], version: Version) -> Option<(Result<Packet<'_>, Malformed>, usize)> {
    match frame(stream, u32::MAX).ok()? {
        Framed::Frame(frame) => {
            assert!((2..=stream.len()).contains(&frame.len));
            Some((decode(frame, version), frame.len))
        }
        Framed::Partial { need } => {
            assert!(need > stream.len());
            None
        }
    }
}

/// An accepted packet is written as one that is read as the same.
fn check_packet(packet: &Packet<'_>, version: Version) {
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let mut written = Vec::new();
    packet.encode(version, &mut written);
    let read = next(&written, version);
    assert!(
        matches!(&read, Some((Ok(again), len)) if again == packet && *len == written.len()),
        "{version:?}: {packet:?} is written as {written:02x?} and read as {read:?}"
    );
    if let Packet::Publish(publish) = packet {
        let mut forwarded = Vec::new();
        forwarded_properties(publish.properties.raw, &mut forwarded);
        assert!(forwarded.len() <= publish.properties.raw.len());
    }
}
