//! MQTT over WebSocket, and behind a proxy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod dialogue;
mod secure;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use dialogue::{Client, message, unique, v5, v311};
use rustls::version::TLS13;
use secure::{Authority, Relay, client};
use switchboard::Server;
use switchboard::config::settings::{
    ClientCertificate, ListenerSettings, ProxySettings, Settings, TlsSettings, TlsVersion, WebSocketSettings,
};

const HELLO: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Protocol: mqtt\r\n\r\n";

fn listener(name: &str) -> ListenerSettings {
    ListenerSettings { name: name.into(), bind: ([127, 0, 0, 1], 0).into(), ..ListenerSettings::default() }
}

/// A broker of two shards with these listeners.
fn serve(listeners: Vec<ListenerSettings>) -> (Server, Vec<SocketAddr>) {
    let settings = Settings { shards: 2, http: None, listeners, ..Settings::default() };
    let server = Server::start(settings, None).expect("the broker starts");
    let addresses = server.addresses().iter().map(|(_, address)| *address).collect();
    (server, addresses)
}

/// Carries plain TCP within WebSocket frames of odd sizes; what a server writes has to come in frames, too.
fn frames(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for plain in listener.incoming() {
            let plain = plain.unwrap();
            let framed = TcpStream::connect(to).unwrap();
            let (up, down) = (plain.try_clone().unwrap(), framed.try_clone().unwrap());
            (&framed).write_all(HELLO.as_bytes()).unwrap();
            thread::spawn(move || wrap(up, framed));
            thread::spawn(move || unwrap(down, &plain));
        }
    });
    address
}

fn wrap(mut from: TcpStream, mut to: TcpStream) {
    let (mut buffer, mut size) = (vec![0; 70_000], 1);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        for piece in buffer[..count].chunks(size) {
            let mut frame = vec![0x82];
            match piece.len() {
                length @ 0..126 => frame.push(0x80 | length as u8),
                length => {
                    frame.push(0x80 | 0x7E);
                    frame.extend((length as u16).to_be_bytes());
                }
            }
            let mask = [size as u8, 2, 3, 4];
            frame.extend(mask);
            frame.extend(piece.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
            if to.write_all(&frame).is_err() {
                return;
            }
            // From a byte a frame to many packets in one.
            size = (size * 3) % 60_013 + 1;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

fn unwrap(mut from: TcpStream, mut to: &TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    let mut two = [0; 2];
    while from.read_exact(&mut two).is_ok() {
        if two[0] == 0x88 {
            break;
        }
        assert_eq!(two[0], 0x82, "whole binary frames without a mask");
        let length = match two[1] {
            126 => {
                let mut length = [0; 2];
                from.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            length => usize::from(length),
        };
        let mut carried = vec![0; length];
        from.read_exact(&mut carried).unwrap();
        if to.write_all(&carried).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Messages of many sizes to several clients, so that some live on either shard.
fn messages_come_through(address: SocketAddr) {
    let topic = unique("topic");
    let mut readers: Vec<Client> = (0..6).map(|_| v5(&unique("reader")).at(address).open()).collect();
    for reader in &mut readers {
        reader.subscribe(&topic, 2);
    }
    let mut writer = v311(&unique("writer")).at(address).open();
    for size in [0, 1, 100, 125, 126, 16_383, 16_385, 65_536, 300_000] {
        let text: String = (0..size).map(|at: u32| char::from(b'a' + (at % 26) as u8)).collect();
        writer.deliver(message(&topic, &text).qos(2));
        for reader in &mut readers {
            reader.receive(&topic, &text);
        }
    }
    readers.into_iter().for_each(Client::disconnect);
    writer.disconnect();
}

#[test]
fn messages_come_through_frames() {
    let web = ListenerSettings { websocket: Some(WebSocketSettings::default()), ..listener("web") };
    let (_server, addresses) = serve(vec![web]);
    messages_come_through(frames(addresses[0]));
}

#[test]
fn messages_come_through_frames_within_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test Root");
    let certificate = authority.issue("broker", &["localhost"], 1).write(folder.path(), "server");
    let tls = TlsSettings {
        certificate,
        further: vec![],
        oldest: TlsVersion::V12,
        client_certificate: ClientCertificate::None,
        client_ca: None,
        client_crl: None,
    };
    let web = WebSocketSettings::default();
    let (_server, addresses) =
        serve(vec![ListenerSettings { websocket: Some(web), tls: Some(tls), ..listener("wss") }]);
    let relay = Relay::start(addresses[0], client(&authority, None, &[&TLS13]), "localhost");
    messages_come_through(frames(relay.address));
}

/// A short frame with a mask of zeros.
fn masked(first: u8, carries: &[u8]) -> Vec<u8> {
    assert!(carries.len() < 126);
    [&[first, 0x80 | carries.len() as u8, 0, 0, 0, 0], carries].concat()
}

/// Sends these bytes over a new connection; all that comes back until the broker closes.
fn answer(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    said
}

#[test]
fn who_does_not_keep_the_rules_is_told_and_closed() {
    let web = ListenerSettings { websocket: Some(WebSocketSettings::default()), ..listener("web") };
    let (_server, addresses) = serve(vec![web]);
    let said = answer(addresses[0], HELLO.replace("/mqtt", "/other").as_bytes());
    assert!(said.starts_with(b"HTTP/1.1 404 "), "{}", String::from_utf8_lossy(&said));
    let connect = v5(&unique("within")).encode();
    let masked =
        |first: u8, carries: &[u8]| [&[first, 0x80 | carries.len() as u8, 0, 0, 0, 0], carries].concat();
    // A text frame, before CONNECT and behind it in one read.
    for before in [vec![], masked(0x82, &connect)] {
        let said = answer(addresses[0], &[HELLO.as_bytes(), &before, &masked(0x81, b"x")].concat());
        assert!(said.ends_with(&[0x88, 2, 0x03, 0xEB]), "{said:?}");
    }
    let said = answer(addresses[0], &[HELLO.as_bytes(), &masked(0x88, &1000u16.to_be_bytes())].concat());
    assert!(said.ends_with(&[0x88, 2, 0x03, 0xE8]), "{said:?}");
}

#[test]
fn a_will_is_published_when_a_page_is_closed() {
    let web = ListenerSettings { websocket: Some(WebSocketSettings::default()), ..listener("web") };
    let (_server, addresses) = serve(vec![web, listener("tcp")]);
    let topic = unique("will");
    let mut watcher = v5(&unique("watcher")).at(addresses[1]).open();
    watcher.subscribe(&topic, 0);
    // Enough pages that some live on either shard.
    for _ in 0..6 {
        let connect = v5(&unique("page")).will(dialogue::will(&topic, "gone")).encode();
        answer(addresses[0], &[HELLO.as_bytes(), &masked(0x82, &connect), &masked(0x88, &[])].concat());
        watcher.expect(&topic, "gone");
    }
}

#[test]
fn who_pings_and_does_not_read_is_not_read_either() {
    let web = ListenerSettings { websocket: Some(WebSocketSettings::default()), ..listener("web") };
    let (_server, addresses) = serve(vec![web]);
    let mut stream = TcpStream::connect(addresses[0]).unwrap();
    stream.write_all(HELLO.as_bytes()).unwrap();
    stream.write_all(&masked(0x82, &v5(&unique("pinger")).encode())).unwrap();
    let pings = masked(0x89, &[7; 125]).repeat(500);
    stream.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    // What the buffers of both systems take, and what the broker keeps for one client.
    while stream.write_all(&pings).is_ok() {
        sent += pings.len();
        assert!(sent < 100_000_000, "all of it is kept");
    }
    // It is read on as soon as it reads.
    let mut pongs = vec![0; 1 << 20];
    let mut read = 0;
    while read < sent / 2 {
        read += stream.read(&mut pongs).unwrap();
    }
}

#[test]
fn proxies_say_who_comes_and_nobody_else_may() {
    let from = |net: &str| Some(ProxySettings { from: vec![net.parse().unwrap()] });
    let (_server, addresses) = serve(vec![
        ListenerSettings { proxy: from("127.0.0.0/8"), ..listener("proxied") },
        ListenerSettings { proxy: from("10.0.0.0/8"), ..listener("far") },
        ListenerSettings {
            websocket: Some(WebSocketSettings::default()),
            proxy: from("127.0.0.1/32"),
            ..listener("web")
        },
    ]);
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n";
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\xC0\0\x02\x01\xC6\x33\x64\x07\xDC\x04\x01\xBB";
    let connect = v311(&unique("proxied")).encode();
    let accepted = [0x20, 2, 0, 0];
    for header in [&line[..], &binary[..]] {
        let said = answer(addresses[0], &[header, &connect, &[0xE0, 0]].concat());
        assert_eq!(said, accepted);
        // Byte by byte.
        let mut stream = TcpStream::connect(addresses[0]).unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in [header, &connect].concat() {
            stream.write_all(&[byte]).unwrap();
        }
        let mut said = [0; 4];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(said, accepted);
    }
    assert_eq!(answer(addresses[0], &connect), b"", "no header");
    assert_eq!(answer(addresses[0], &line.repeat(4)), b"", "several");
    let mut refused = TcpStream::connect(addresses[1]).unwrap();
    let _ = refused.write_all(&[&line[..], &connect].concat());
    let mut said = Vec::new();
    let _ = refused.read_to_end(&mut said);
    assert!(said.is_empty(), "no proxy");
    let said = answer(addresses[2], &[&line[..], HELLO.as_bytes(), &[0x88, 0x80, 0, 0, 0, 0]].concat());
    assert!(said.starts_with(b"HTTP/1.1 101 ") && said.ends_with(&[0x88, 0]));
}
