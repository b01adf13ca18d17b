//! Packets that were right once: seeded mutations of valid packets, most of them with a remaining length that is
//! right again, so that they get past the framing.

use fastrand::Rng;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use switchboard::protocol::{Version, put_varint};

use super::{encoded, packet};

/// How many mutants to try: `SWITCHBOARD_MUTATIONS`, or `default`.
pub(crate) fn mutations(default: u64) -> u64 {
    number("SWITCHBOARD_MUTATIONS").unwrap_or(default)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// An endless sequence of mutants of one version; the same for the same seed.
pub(crate) struct Mutants {
    rng: Rng,
    valid: Vec<Vec<u8>>,
    mutant: Vec<u8>,
}

impl Mutants {
    /// Seeded by `SWITCHBOARD_SEED`, or always the same.
    pub(crate) fn new(version: Version) -> Mutants {
        let mut runner = TestRunner::deterministic();
        let packets = packet(version);
        let valid =
            std::iter::repeat_with(|| encoded(&packets.new_tree(&mut runner).unwrap().current(), version))
                .filter(|bytes| bytes.len() <= 2_000)
                .take(3_000)
                .collect();
        Mutants { rng: Rng::with_seed(number("SWITCHBOARD_SEED").unwrap_or(1)), valid, mutant: Vec::new() }
    }

    /// The next mutant. Not an `Iterator`: it lends its buffer.
    pub(crate) fn next(&mut self) -> &[u8] {
        let source = &self.valid[self.rng.usize(..self.valid.len())];
        self.mutant.clear();
        self.mutant.extend_from_slice(source);
        for _ in 0..self.rng.usize(1..4) {
            self.mutate();
        }
        if self.rng.u8(..4) != 0 {
            self.repair_length();
        }
        &self.mutant
    }

    fn mutate(&mut self) {
        const EDGES: [u8; 16] =
            [0, 1, 2, 3, 0x0B, 0x1F, 0x23, 0x26, b'#', b'+', 0x7F, 0x80, 0x81, 0xC0, 0xED, 0xFF];
        let (rng, bytes) = (&mut self.rng, &mut self.mutant);
        if bytes.is_empty() {
            return bytes.push(rng.u8(..));
        }
        // Half of the mutations fall on the first 24 bytes, where the lengths and flags are.
        let end = if rng.bool() { bytes.len().min(24) } else { bytes.len() };
        let at = rng.usize(..end);
        match rng.u8(..9) {
            0 => bytes[at] ^= 1 << rng.u8(..8),
            1 => bytes[at] = rng.u8(..),
            2 => bytes[at] = EDGES[rng.usize(..EDGES.len())],
            3 => bytes[at] = bytes[at].wrapping_add(if rng.bool() { 1 } else { 0xFF }),
            4 => bytes.insert(at, EDGES[rng.usize(..EDGES.len())]),
            5 => drop(bytes.remove(at)),
            6 => bytes.truncate(at.max(1)),
            7 => {
                // Something that is there already, once more: a property, a filter, half a string.
                let len = rng.usize(1..=(bytes.len() - at).min(12));
                let again = bytes[at..at + len].to_vec();
                let to = rng.usize(at..=bytes.len());
                bytes.splice(to..to, again);
            }
            _ => {
                let other = &self.valid[rng.usize(..self.valid.len())];
                let from = rng.usize(..other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }

    /// Makes the remaining length that of what follows it.
    fn repair_length(&mut self) {
        let header = self.mutant.iter().skip(1).take(4).take_while(|byte| **byte & 0x80 != 0).count() + 2;
        if self.mutant.len() < header {
            return;
        }
        let mut repaired = vec![self.mutant[0]];
        put_varint(&mut repaired, u32::try_from(self.mutant.len() - header).unwrap());
        self.mutant.splice(..header, repaired);
    }
}
