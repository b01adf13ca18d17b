//! PROXY protocol headers, versions 1 and 2: who a connection that comes through a proxy really is.
//!
//! As haproxy.org describes it in `proxy-protocol.txt`. Nothing is guessed: what is not wholly right is refused. Whose
//! headers are believed is for the listener to say.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Version 1: `PROXY UNKNOWN` with two of the longest addresses, and the end of the line.
const LONGEST_LINE: usize = 107;
/// Version 2: what begins every header.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and further values of a version 2 header.
const MOST_BEHIND: usize = 4096;

/// A header, or what there is of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It has come whole.
    Whole {
        /// Who is behind the proxy; `None`: the proxy itself, or somebody it does not know.
        source: Option<SocketAddr>,
        /// Its bytes.
        length: usize,
    },
    /// More has to come.
    Partial,
    /// It is none.
    Malformed,
}

/// Reads the header at the front of what has come.
pub fn header(bytes: &[u8]) -> Header {
    let begins = |with: &[u8]| {
        let length = bytes.len().min(with.len());
        bytes.get(..length) == with.get(..length)
    };
    let found = if bytes.is_empty() {
        Some(Header::Partial)
    } else if begins(&SIGNATURE) {
        version_2(bytes)
    } else if begins(b"PROXY ") {
        version_1(bytes)
    } else {
        None
    };
    found.unwrap_or(Header::Malformed)
}

/// One line of text.
fn version_1(bytes: &[u8]) -> Option<Header> {
    let seen = bytes.get(..LONGEST_LINE).unwrap_or(bytes);
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return (bytes.len() < LONGEST_LINE).then_some(Header::Partial);
    };
    let line = std::str::from_utf8(seen.get(..end)?).ok()?;
    let length = end + 2;
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Header::Whole { source: None, length });
    }
    let (source, to) = (words.next()?, words.next()?);
    let (port, _to_port) = (number(words.next()?)?, number(words.next()?)?);
    let source = address(family, source)?;
    address(family, to)?;
    words.next().is_none().then_some(Header::Whole { source: Some((source, port).into()), length })
}

fn address(family: &str, text: &str) -> Option<IpAddr> {
    let address = IpAddr::from_str(text).ok()?;
    (address.is_ipv4() == (family == "TCP4") && matches!(family, "TCP4" | "TCP6")).then_some(address)
}

/// A port without a sign or zeros in front.
fn number(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| plain)
}

/// Binary.
fn version_2(bytes: &[u8]) -> Option<Header> {
    let Some((head, behind)) = bytes.split_first_chunk::<16>() else { return Some(Header::Partial) };
    let &[.., command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MOST_BEHIND {
        return None;
    }
    let Some(behind) = behind.get(..length) else { return Some(Header::Partial) };
    // Whatever is said of addresses, a LOCAL connection is the proxy's own.
    let known = match command {
        0x20 => false,
        0x21 => true,
        _ => return None,
    };
    let source = match family {
        0x11 => Some(source(behind, 4)?),
        0x21 => Some(source(behind, 16)?),
        // Not known, or no address of IP.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => None,
        _ => return None,
    };
    let size = match family {
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => 0,
    };
    if known || length >= size {
        values(behind.get(size..)?)?;
    }
    Some(Header::Whole { source: source.filter(|_| known), length: 16 + length })
}

/// Two addresses of so many bytes, then two ports.
fn source(bytes: &[u8], size: usize) -> Option<SocketAddr> {
    let port = bytes.get(2 * size..2 * size + 2)?.try_into().ok().map(u16::from_be_bytes)?;
    let address = bytes.get(..size)?;
    let address = <[u8; 4]>::try_from(address).map(IpAddr::from).ok();
    let address = address.or_else(|| <[u8; 16]>::try_from(bytes.get(..size)?).map(IpAddr::from).ok())?;
    Some((address, port).into())
}

/// Walks the values behind the addresses: type, length, value.
fn values(mut bytes: &[u8]) -> Option<()> {
    while let Some((&[_, high, low], rest)) = bytes.split_first_chunk::<3>() {
        bytes = rest.get(usize::from(u16::from_be_bytes([high, low]))..)?;
    }
    bytes.is_empty().then_some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn whole(source: Option<&str>, length: usize) -> Header {
        Header::Whole { source: source.map(|source| source.parse().unwrap()), length }
    }

    #[test]
    fn lines_of_version_1() {
        let longest =
            format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", "ffff:f...f:ffff:ffff:ffff:ffff:ffff:fff");
        assert_eq!(longest.len(), LONGEST_LINE);
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", whole(Some("192.0.2.1:56324"), 45)),
            ("PROXY TCP6 2001:db8::1 ::1 1 65535\r\nrest", whole(Some("[2001:db8::1]:1"), 36)),
            ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", whole(Some("0.0.0.0:0"), 32)),
            ("PROXY UNKNOWN\r\n", whole(None, 15)),
            ("PROXY UNKNOWN what ever\r\n", whole(None, 25)),
            (&longest, whole(None, 107)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n", Header::Partial),
            ("PRO", Header::Partial),
            ("", Header::Partial),
        ] {
            assert_eq!(header(line.as_bytes()), expected, "{line}");
        }
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 +56324 443\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.7 56324 443\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n",
            "PROXY TCP5 192.0.2.1 198.51.100.7 1 2\r\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n",
            "PROXY\r\n",
            "proxy TCP4",
            "GET /mqtt HTTP/1.1\r\n",
            "\x10\x0c\0\x04MQTT",
            &("PROXY UNKNOWN ".to_owned() + &"x".repeat(100)),
        ] {
            assert_eq!(header(line.as_bytes()), Header::Malformed, "{line}");
        }
    }

    fn binary(command: u8, family: u8, behind: &[u8]) -> Vec<u8> {
        let length = (behind.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, behind].concat()
    }

    #[test]
    fn headers_of_version_2() {
        let four = [192, 0, 2, 1, 198, 51, 100, 7, 0xDC, 4, 1, 0xBB];
        let six = [&[0x20, 1, 0xD, 0xB8], &[0; 11][..], &[1], &[0; 15], &[1], &[0, 1, 0, 2]].concat();
        let with = |extra: &[u8]| [&four, extra].concat();
        let good = "192.0.2.1:56324";
        for (bytes, expected) in [
            (binary(0x21, 0x11, &four), whole(Some(good), 28)),
            (binary(0x21, 0x11, &with(&[4, 0, 2, 9, 9])), whole(Some(good), 33)),
            (binary(0x21, 0x21, &six), whole(Some("[2001:db8::1]:1"), 52)),
            (binary(0x20, 0, &[]), whole(None, 16)),
            (binary(0x20, 0x11, &four), whole(None, 28)),
            (binary(0x21, 0, &[]), whole(None, 16)),
            (binary(0x21, 0x31, &[0; 216]), whole(None, 232)),
            (binary(0x21, 0x12, &four), whole(None, 28)),
        ] {
            assert_eq!(header(&bytes), expected, "{bytes:?}");
            for cut in 0..bytes.len() {
                assert_eq!(header(&bytes[..cut]), Header::Partial, "{bytes:?} cut at {cut}");
            }
        }
        for bytes in [
            binary(0x11, 0x11, &four),
            binary(0x22, 0x11, &four),
            binary(0x21, 0x13, &four),
            binary(0x21, 0x41, &four),
            binary(0x21, 0x11, &four[..11]),
            binary(0x21, 0x21, &four),
            binary(0x21, 0x11, &with(&[4, 0, 3, 9, 9])),
            binary(0x21, 0x11, &with(&[4, 0])),
            binary(0x21, 0x11, &[0; 5000]),
        ] {
            assert_eq!(header(&bytes), Header::Malformed, "{bytes:?}");
        }
    }

    #[test]
    fn noise_is_read_without_harm() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..rng.usize(..80)).map(|_| rng.u8(..)).collect();
            if rng.bool() {
                bytes.splice(..0, binary(0x20 | rng.u8(..2), 0x11 * rng.u8(1..3), &[])[..14].to_vec());
            }
            if let Header::Whole { length, .. } = header(&bytes) {
                assert!(length <= bytes.len());
            }
        }
    }
}
