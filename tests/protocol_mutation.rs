//! No input panics: mutated packets and plain noise through the decoder, in every version.
//!
//! 200,000 mutants a version in an ordinary run. `SWITCHBOARD_MUTATIONS` sets another number and `SWITCHBOARD_SEED`
//! another sequence; ten million, as a release is tried with (ten seconds):
//!
//! ```sh
//! SWITCHBOARD_MUTATIONS=10000000 cargo test --release --test protocol_mutation -- --nocapture
//! ```

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod packets;

use packets::VERSIONS;
use packets::mutants::{Mutants, mutations};
use switchboard::protocol::{
    Framed, Malformed, Packet, ReasonCode, Version, decode, forwarded_properties, frame,
};

/// Prints the input if the decoder panics on it.
struct OnPanic<'a>(&'a [u8], Version);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}: {:02x?}", self.1, self.0);
        }
    }
}

/// What became of all inputs.
#[derive(Debug, Default)]
struct Tally {
    partial: u64,
    accepted: u64,
    refused: u64,
}

impl Tally {
    fn count(&mut self, bytes: &[u8], version: Version) {
        let _on_panic = OnPanic(bytes, version);
        match frame(bytes, u32::MAX) {
            Ok(Framed::Partial { need }) => {
                assert!(need > bytes.len());
                self.partial += 1;
            }
            Ok(Framed::Frame(frame)) => {
                assert!(frame.len <= bytes.len() && frame.body.len() < frame.len);
                match decode(frame, version) {
                    Ok(packet) => {
                        self.accepted += 1;
                        check(&packet, version);
                    }
                    Err(error) => self.refuse(error),
                }
            }
            Err(error) => self.refuse(error),
        }
    }

    fn refuse(&mut self, error: Malformed) {
        let known = [
            ReasonCode::MALFORMED_PACKET,
            ReasonCode::PROTOCOL_ERROR,
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
            ReasonCode::TOPIC_ALIAS_INVALID,
        ];
        assert!(known.contains(&error.reason), "{error}");
        self.refused += 1;
    }
}

/// What holds for every accepted packet: its views end, and what it is written as is read as the same.
fn check(packet: &Packet<'_>, version: Version) {
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    if let Packet::Publish(publish) = packet {
        assert!(!publish.topic.contains(['+', '#', '\0']));
        let mut forwarded = Vec::new();
        forwarded_properties(publish.properties.raw, &mut forwarded);
        assert!(forwarded.len() <= publish.properties.raw.len());
    }
    let again = packets::encoded(packet, version);
    assert_eq!(packets::read(&again, version).as_ref(), Ok(packet), "written as {again:02x?}");
}

#[test]
fn mutated_packets_are_read_or_refused() {
    for version in VERSIONS {
        let mut tally = Tally::default();
        let mut mutants = Mutants::new(version);
        let count = mutations(200_000);
        for _ in 0..count {
            tally.count(mutants.next(), version);
        }
        eprintln!("{version:?}, {count} mutants: {tally:?}");
        assert!(
            tally.accepted > count / 20 && tally.refused > count / 20,
            "the mutants test too little: {tally:?}"
        );
    }
}

#[test]
fn noise_is_read_or_refused() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut bytes = Vec::new();
    for version in VERSIONS {
        for _ in 0..mutations(200_000) / 4 {
            bytes.clear();
            let len = rng.u8(..64);
            // A first byte that framing lets through and a length that is there, or else nothing is seen.
            bytes.extend([rng.u8(1..=15) << 4 | [0, 2, 4][rng.usize(..3)], len]);
            bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(usize::from(len)));
            Tally::default().count(&bytes, version);
        }
    }
}

/// A decoder reads what it is given and no further: the same packet at the very end of its memory and with more
/// behind it gives the same.
#[test]
fn bytes_behind_a_packet_do_not_matter() {
    for version in VERSIONS {
        let mut mutants = Mutants::new(version);
        for _ in 0..mutations(200_000) / 10 {
            let bytes = mutants.next();
            let Ok(Framed::Frame(alone)) = frame(bytes, u32::MAX) else { continue };
            let mut longer = bytes[..alone.len].to_vec();
            longer.extend_from_slice(&[0xFF; 64]);
            let Ok(Framed::Frame(followed)) = frame(&longer, u32::MAX) else { panic!("{bytes:02x?}") };
            assert_eq!(alone, followed);
            assert_eq!(decode(alone, version), decode(followed, version));
        }
    }
}
