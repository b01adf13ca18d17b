//! Every rule of RFC 6455 that binds a server without extensions, in the order of the Autobahn test suite's groups.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use proptest::prelude::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn terms() -> Terms {
    Terms { path: "/mqtt".into(), origins: vec!["https://desk.example.com".into()], max_frame: 100_000 }
}

/// A good request, with each of these lines in place of the one that begins like it, or beside the others.
fn request(changes: &[&str]) -> String {
    let good = [
        "GET /mqtt HTTP/1.1",
        "Host: broker.example.com",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        &format!("Sec-WebSocket-Key: {KEY}"),
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: chat, mqtt",
    ];
    let name = |line: &str| line.split([':', ' ']).next().unwrap().to_owned();
    let mut lines: Vec<String> = good.iter().map(|line| (*line).to_owned()).collect();
    for change in changes {
        let begins = if change.contains("HTTP/") { "GET".to_owned() } else { name(change) };
        match lines.iter_mut().find(|line| name(line) == begins) {
            Some(line) => (*change).clone_into(line),
            None => lines.push((*change).to_owned()),
        }
    }
    lines.retain(|line| !line.ends_with(": -"));
    lines.join("\r\n") + "\r\n\r\n"
}

/// What a connection makes of bytes: MQTT, answer, how it goes on.
fn say(socket: &mut WebSocket, bytes: &[u8]) -> (Vec<u8>, Vec<u8>, Then) {
    let (mut mqtt, mut wire) = (vec![], vec![]);
    let then = socket.receive(&mut bytes.to_vec(), &terms(), &mut mqtt, &mut wire);
    (mqtt, wire, then)
}

fn open() -> WebSocket {
    let mut socket = WebSocket::new();
    let (_, answer, then) = say(&mut socket, request(&[]).as_bytes());
    assert!(then == Then::GoOn && answer.starts_with(b"HTTP/1.1 101 "));
    socket
}

/// A masked frame.
fn frame(first: u8, carries: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match carries.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65_536 => {
            bytes.push(0x80 | 0x7E);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 0x7F);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    bytes.extend(mask);
    bytes.extend(carries.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn closed(code: u16) -> Vec<u8> {
    let mut bytes = vec![0x88, 2];
    bytes.extend(code.to_be_bytes());
    bytes
}

#[test]
fn the_key_is_answered_as_the_standard_shows() {
    let mut socket = WebSocket::new();
    let (_, answer, _) = say(&mut socket, request(&[]).as_bytes());
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
}

#[test]
fn requests_are_judged() {
    for (changes, status) in [
        (&[][..], 101),
        (&["GET /mqtt?token=x HTTP/1.1"], 101),
        (&["Connection: UPGRADE", "Upgrade: h2c, WebSocket"], 101),
        (&["Sec-WebSocket-Protocol: mqttv3.1"], 101),
        (&["Origin: https://desk.example.com"], 101),
        (&["Sec-WebSocket-Extensions: permessage-deflate"], 101),
        (&["Origin: https://evil.example.com"], 403),
        (&["Origin: null"], 403),
        (&["POST /mqtt HTTP/1.1"], 405),
        (&["GET / HTTP/1.1"], 404),
        (&["GET /mqtt/ HTTP/1.1"], 404),
        (&["GET /mqtt HTTP/1.0"], 400),
        (&["Host: -"], 400),
        (&["Upgrade: -"], 426),
        (&["Connection: close"], 426),
        (&["Sec-WebSocket-Version: 8"], 426),
        (&["Sec-WebSocket-Version: -"], 426),
        (&["Sec-WebSocket-Key: -"], 400),
        (&["Sec-WebSocket-Key: AAAA"], 400),
        (&["Sec-WebSocket-Key: no base64 at all!!!!!!"], 400),
        (&["Sec-WebSocket-Protocol: -"], 400),
        (&["Sec-WebSocket-Protocol: MQTT"], 400),
        (&["X: \u{1}"], 400),
    ] {
        let mut socket = WebSocket::new();
        let (mqtt, answer, then) = say(&mut socket, request(changes).as_bytes());
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{changes:?}: {answer}");
        assert_eq!(then == Then::GoOn, status == 101, "{changes:?}");
        assert_eq!(socket.is_open(), status == 101);
        assert!(mqtt.is_empty() && !answer.contains("Extensions"));
        assert_eq!(answer.contains("Sec-WebSocket-Version: 13"), status == 426);
    }
}

#[test]
fn a_request_has_a_bound() {
    let long = request(&[&format!("Cookie: {}", "x".repeat(9000))]);
    let many: Vec<String> = (0..70).map(|n| format!("X-{n}: 1")).collect();
    let many = request(&many.iter().map(String::as_str).collect::<Vec<_>>());
    for request in [&long[..8192], &long, &many] {
        let mut socket = WebSocket::new();
        let (_, answer, then) = say(&mut socket, request.as_bytes());
        assert!(then == Then::Close && answer.starts_with(b"HTTP/1.1 431 "));
    }
    let (_, answer, then) = say(&mut WebSocket::new(), &[0x10, 0x10, 0, 4, b'M', b'Q', b'T', b'T']);
    assert!(then == Then::Close && answer.starts_with(b"HTTP/1.1 400 "), "MQTT itself is not spoken");
}

/// What it is, the frames, and what comes of them: MQTT, answers, how it goes on.
type Case = (&'static str, Vec<Vec<u8>>, (Vec<u8>, Vec<u8>, Then));

#[test]
fn frames_are_judged() {
    let ok = |mqtt: &[u8], wire: &[u8]| (mqtt.to_vec(), wire.to_vec(), Then::GoOn);
    let ends = |mqtt: &[u8], code| (mqtt.to_vec(), closed(code), Then::Close);
    let pong = |carries: &[u8]| [&[0x8A, carries.len() as u8], carries].concat();
    let big = vec![7; 70_000];
    let unmasked = vec![0x82, 1, b'a'];
    let overlong_16 = [vec![0x82, 0x80 | 0x7E, 0, 5], frame(0x82, b"hello")[2..].to_vec()].concat();
    let overlong_64 =
        [vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 5], frame(0x82, b"hello")[2..].to_vec()].concat();
    let negative = [vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], vec![0; 4]].concat();
    let close = |carries: &[u8]| frame(0x88, carries);
    let reason = |code: u16, text: &[u8]| [&code.to_be_bytes(), text].concat();
    let mut cases: Vec<Case> = vec![
        // 1: framing
        ("empty", vec![frame(0x82, b"")], ok(b"", b"")),
        ("125", vec![frame(0x82, &big[..125])], ok(&big[..125], b"")),
        ("126", vec![frame(0x82, &big[..126])], ok(&big[..126], b"")),
        ("65535", vec![frame(0x82, &big[..65_535])], ok(&big[..65_535], b"")),
        ("65536", vec![frame(0x82, &big[..65_536])], ok(&big[..65_536], b"")),
        ("text", vec![frame(0x81, b"a")], ends(b"", 1003)),
        ("not masked", vec![unmasked], ends(b"", 1002)),
        ("five in 16 bits", vec![overlong_16], ends(b"", 1002)),
        ("five in 64 bits", vec![overlong_64], ends(b"", 1002)),
        ("the highest bit", vec![negative], ends(b"", 1002)),
        ("too large", vec![frame(0x82, &vec![0; 100_001])[..20].to_vec()], ends(b"", 1009)),
        // 2: pings and pongs
        ("ping", vec![frame(0x89, b"")], ok(b"", &pong(b""))),
        ("ping with something", vec![frame(0x89, &big[..125])], ok(b"", &pong(&big[..125]))),
        ("ping of 126", vec![frame(0x89, &big[..126])], ends(b"", 1002)),
        ("pong nobody asked for", vec![frame(0x8A, b"x"), frame(0x89, b"y")], ok(b"", &pong(b"y"))),
        ("ten pings", vec![frame(0x89, b"z"); 10], ok(b"", &pong(b"z").repeat(10))),
        // 5: fragments
        ("two fragments", vec![frame(0x02, b"a"), frame(0x80, b"b")], ok(b"ab", b"")),
        (
            "ping between fragments",
            vec![frame(0x02, b"a"), frame(0x89, b"p"), frame(0x00, b"b"), frame(0x80, b"c")],
            ok(b"abc", &pong(b"p")),
        ),
        ("fragmented ping", vec![frame(0x09, b"a")], ends(b"", 1002)),
        ("fragmented close", vec![frame(0x08, b"")], ends(b"", 1002)),
        ("continuation of nothing", vec![frame(0x80, b"a")], ends(b"", 1002)),
        ("and once more", vec![frame(0x82, b"a"), frame(0x00, b"b")], ends(b"a", 1002)),
        ("a message within one", vec![frame(0x02, b"a"), frame(0x82, b"b")], ends(b"a", 1002)),
        ("text within one", vec![frame(0x02, b"a"), frame(0x81, b"b")], ends(b"a", 1002)),
        // 7: closing
        ("close", vec![close(b"")], (vec![], vec![0x88, 0], Then::Close)),
        ("close with half a code", vec![close(b"\x03")], ends(b"", 1002)),
        ("close with a reason", vec![close(&reason(1000, b"bye"))], ends(b"", 1000)),
        ("close with a long reason", vec![close(&reason(1000, &[b'*'; 123]))], ends(b"", 1000)),
        ("close with too long a reason", vec![close(&reason(1000, &[b'*'; 124]))], ends(b"", 1002)),
        ("close with no UTF-8", vec![close(&reason(1000, b"\xCE\xBA\xED\xA0\x80"))], ends(b"", 1007)),
        ("what follows a close", vec![close(&reason(1000, b"")), frame(0x82, b"a")], ends(b"", 1000)),
        ("data before a close", vec![frame(0x82, b"a"), close(&reason(1001, b""))], ends(b"a", 1001)),
    ];
    // 3: reserved bits; 4: opcodes
    for bits in [0x40, 0x20, 0x10, 0x70] {
        cases.push(("a reserved bit", vec![frame(0x82 | bits, b"a")], ends(b"", 1002)));
        cases.push(("a reserved bit of a ping", vec![frame(0x89 | bits, b"")], ends(b"", 1002)));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        cases.push(("a reserved opcode", vec![frame(0x80 | opcode, b"")], ends(b"", 1002)));
    }
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        cases.push(("a code", vec![close(&reason(code, b""))], ends(b"", code)));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        cases.push(("no code", vec![close(&reason(code, b""))], ends(b"", 1002)));
    }
    for (what, frames, expected) in cases {
        let bytes = frames.concat();
        let found = say(&mut open(), &bytes);
        assert!(found == expected, "{what}");
        if bytes.len() > 1000 {
            continue;
        }
        // Byte by byte, and cut once anywhere.
        for cut in 1..=bytes.len() {
            let mut socket = open();
            let (mut mqtt, mut wire, mut last) = (vec![], vec![], Then::GoOn);
            let pieces: Vec<&[u8]> = if cut == bytes.len() {
                bytes.chunks(1).collect()
            } else {
                vec![&bytes[..cut], &bytes[cut..]]
            };
            for piece in pieces {
                last = socket.receive(&mut piece.to_vec(), &terms(), &mut mqtt, &mut wire);
            }
            assert!((mqtt, wire, last) == expected, "{what}, cut at {cut}");
        }
    }
}

#[test]
fn frames_may_come_with_the_request() {
    let bytes = [request(&[]).as_bytes(), &frame(0x82, b"early")].concat();
    for cut in 1..bytes.len() {
        let mut socket = WebSocket::new();
        let (first, _, _) = say(&mut socket, &bytes[..cut]);
        let (second, _, then) = say(&mut socket, &bytes[cut..]);
        assert!([first, second].concat() == b"early" && then == Then::GoOn, "cut at {cut}");
    }
}

#[test]
fn our_good_bye_is_said_once() {
    let mut socket = open();
    let mut wire = vec![];
    socket.close(CloseCode::Normal, &mut wire);
    socket.close(CloseCode::Normal, &mut wire);
    assert_eq!(wire, closed(1000));
    let mut before = WebSocket::new();
    let mut nothing = vec![];
    before.close(CloseCode::Normal, &mut nothing);
    assert!(nothing.is_empty(), "before the request is answered there is nobody to say it to");
}

#[test]
fn our_heads_are_the_shortest() {
    for (length, head) in [
        (0, vec![0x82, 0]),
        (125, vec![0x82, 125]),
        (126, vec![0x82, 126, 0, 126]),
        (65_535, vec![0x82, 126, 0xFF, 0xFF]),
        (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut wire = vec![];
        WebSocket::put_head(length, &mut wire);
        assert_eq!(wire, head);
    }
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<WebSocket>() <= 48, "{}", size_of::<WebSocket>());
}

proptest! {
    #[test]
    fn whatever_comes_is_bounded_and_cuts_do_not_matter(
        bytes in prop::collection::vec(prop_oneof![Just(0x82u8), Just(0x80), Just(0x02), Just(0x89), Just(0xFE), any::<u8>()], 0..300),
        cuts in prop::collection::vec(1usize..40, 0..40),
    ) {
        let whole = say(&mut open(), &bytes);
        let mut socket = open();
        let (mut mqtt, mut wire, mut then) = (vec![], vec![], Then::GoOn);
        let mut rest = &bytes[..];
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            rest = behind;
            if !piece.is_empty() {
                then = socket.receive(&mut piece.to_vec(), &terms(), &mut mqtt, &mut wire);
            }
        }
        prop_assert!(mqtt.len() <= bytes.len() && wire.len() <= bytes.len() + 4);
        prop_assert_eq!((mqtt, wire, then), whole);
    }
}
