//! The codec against itself: what is encoded is decoded to the same, wherever the stream is cut.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod packets;

use packets::{encoded, packet, read, version};
use proptest::collection::vec;
use proptest::prelude::*;
use switchboard::protocol::{Framed, Packet, Version, decode, forwarded_properties, frame};

/// What a connection does: keeps what is incomplete, hands over what is whole.
#[derive(Default)]
struct Stream {
    pending: Vec<u8>,
    decoded: Vec<String>,
}

impl Stream {
    fn feed(&mut self, bytes: &[u8], version: Version) {
        self.pending.extend_from_slice(bytes);
        let mut rest = &self.pending[..];
        while let Framed::Frame(frame) = frame(rest, u32::MAX).unwrap() {
            self.decoded.push(format!("{:?}", decode(frame, version).unwrap()));
            rest = &rest[frame.len..];
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
    }
}

fn stream() -> impl Strategy<Value = (Version, Vec<Packet<'static>>)> {
    version().prop_flat_map(|version| (Just(version), vec(packet(version), 1..5)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_packet_is_decoded_as_it_was_encoded(
        (version, packet) in version().prop_flat_map(|version| (Just(version), packet(version)))
    ) {
        let bytes = encoded(&packet, version);
        let again = read(&bytes, version).unwrap();
        prop_assert_eq!(&again, &packet);
        prop_assert_eq!(encoded(&again, version), bytes, "one packet has one encoding");
    }

    #[test]
    fn every_prefix_is_partial_and_asks_for_no_more_than_the_packet(
        (version, packet) in version().prop_flat_map(|version| (Just(version), packet(version)))
    ) {
        let bytes = encoded(&packet, version);
        for cut in 0..bytes.len() {
            match frame(&bytes[..cut], u32::MAX).unwrap() {
                Framed::Partial { need } => {
                    prop_assert!(cut < need && need <= bytes.len(), "{} of {} at {cut}", need, bytes.len());
                }
                Framed::Frame(frame) => prop_assert!(false, "{frame:?} at {cut}"),
            }
        }
    }

    #[test]
    fn forwarded_properties_are_a_block_that_means_the_same(publish in packets::publish(Version::V5)) {
        let bytes = encoded(&Packet::Publish(publish), Version::V5);
        let Packet::Publish(received) = read(&bytes, Version::V5).unwrap() else { unreachable!() };
        let mut block = Vec::new();
        forwarded_properties(received.properties.raw, &mut block);

        let mut body = vec![0, 1, b'a'];
        switchboard::protocol::put_varint(&mut body, u32::try_from(block.len()).unwrap());
        body.extend_from_slice(&block);
        let forwarded = switchboard::protocol::Frame { first: 0x30, len: 0, body: &body };
        let Packet::Publish(forwarded) = decode(forwarded, Version::V5).unwrap() else { unreachable!() };
        let mut expected = publish.properties;
        expected.topic_alias = None;
        expected.message_expiry = None;
        expected.subscription_ids = switchboard::protocol::SubscriptionIds::EMPTY;
        prop_assert_eq!(forwarded.properties, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut(
        (version, packets) in stream(),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| encoded(packet, version)).collect();
        let expected: Vec<String> = packets.iter().map(|packet| format!("{:?}", read_back(packet, version))).collect();

        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let mut in_pieces = Stream::default();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            in_pieces.feed(&bytes[from..cut], version);
            from = cut;
        }
        prop_assert_eq!(&in_pieces.decoded, &expected);
        prop_assert!(in_pieces.pending.is_empty());
    }

    #[test]
    fn a_short_stream_means_the_same_at_every_cut((version, packets) in stream()) {
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| encoded(packet, version)).collect();
        prop_assume!(bytes.len() <= 600);
        let expected: Vec<String> = packets.iter().map(|packet| format!("{:?}", read_back(packet, version))).collect();
        for cut in 0..=bytes.len() {
            let mut stream = Stream::default();
            stream.feed(&bytes[..cut], version);
            stream.feed(&bytes[cut..], version);
            prop_assert_eq!(&stream.decoded, &expected, "cut at {}", cut);
        }
        let mut byte_by_byte = Stream::default();
        for byte in bytes.chunks(1) {
            byte_by_byte.feed(byte, version);
        }
        prop_assert_eq!(&byte_by_byte.decoded, &expected);
    }
}

/// The packet with `raw` filled in as decoding does, so that its debug form can be compared.
fn read_back(packet: &Packet<'_>, version: Version) -> Packet<'static> {
    read(encoded(packet, version).leak(), version).unwrap()
}
