//! Packets built byte by byte: what `mqttbytes` cannot write, and what nobody should.

use std::fmt::Write as _;

/// Up to 64 bytes as hexadecimal digits, and how many more there are.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes.iter().take(64) {
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > 64 {
        let _ = write!(text, "… {} bytes", bytes.len());
    }
    text
}

/// Builds packets byte by byte: what `mqttbytes` cannot write, and what nobody should.
#[derive(Clone, Debug, Default)]
pub struct Raw(pub Vec<u8>);

impl Raw {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    #[must_use]
    pub fn two(mut self, number: u16) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    #[must_use]
    pub fn four(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// Two bytes of length, then the bytes: a string or binary data.
    #[must_use]
    pub fn field(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.two(u16::try_from(bytes.len()).expect("a field of at most 65,535 bytes")).bytes(bytes)
    }

    #[must_use]
    pub fn varint(mut self, mut number: usize) -> Self {
        loop {
            let low = (number & 0x7F) as u8;
            number >>= 7;
            self.0.push(if number > 0 { low | 0x80 } else { low });
            if number == 0 {
                return self;
            }
        }
    }

    /// A property block: its length, then its bytes.
    #[must_use]
    pub fn properties(self, block: &Raw) -> Self {
        self.varint(block.0.len()).bytes(&block.0)
    }

    /// The bytes as the body of a packet with this first byte.
    pub fn packet(self, first: u8) -> Vec<u8> {
        Raw::new().byte(first).varint(self.0.len()).bytes(&self.0).0
    }
}
