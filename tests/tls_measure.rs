//! What TLS and WebSocket cost: memory of an idle connection, processor time of a handshake and of a message.
//!
//! `cargo test --release --test tls_measure -- --ignored --nocapture`, with `MOSQUITTO=1` beside mosquitto on the same
//! certificate. `COUNT` says how many connections.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod dialogue;
mod secure;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use secure::{Authority, client};

/// Pings over each connection.
const ROUNDS: usize = 20;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

struct Peer {
    child: Child,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    fn start(mut command: Command, address: SocketAddr) -> Self {
        let child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("it is installed");
        let peer = Self { child };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "it does not start");
            std::thread::yield_now();
        }
        peer
    }

    /// Microseconds.
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) * 10_000.0
    }

    /// Bytes.
    fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn open(address: SocketAddr, tls: Option<&Arc<ClientConfig>>, web: bool, id: &str) -> Box<dyn Stream> {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(config) => {
            let name = "localhost".try_into().unwrap();
            Box::new(StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), tcp))
        }
    };
    let connect = dialogue::v311(id).keep_alive(0).encode();
    if web {
        let hello = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Protocol: mqtt\r\n\r\n";
        stream.write_all(hello.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        let frame = [&[0x82, 0x80 | connect.len() as u8, 0, 0, 0, 0], &connect[..]].concat();
        stream.write_all(&frame).unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
    } else {
        stream.write_all(&connect).unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
    }
    stream
}

fn switchboard(folder: &Path, address: SocketAddr, tls: bool, web: bool) -> Peer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.current_dir(folder).args(["serve", "--set", "http.enabled=false", "--set", "shards=1"]);
    command.args(["--set", "log.level=warn", "--set", &format!("listener.a.bind={address}")]);
    if tls {
        command.args(["--set", "listener.a.tls={ certificate = 'server.pem', key = 'server.key' }"]);
    }
    if web {
        command.args(["--set", "listener.a.websocket={}"]);
    }
    Peer::start(command, address)
}

fn mosquitto(folder: &Path, address: SocketAddr, tls: bool) -> Peer {
    let port = address.port();
    let mut text =
        format!("listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest none\nset_tcp_nodelay true\n");
    if tls {
        let file = |name: &str| folder.join(name).display().to_string();
        text = format!("{text}certfile {}\nkeyfile {}\n", file("server.pem"), file("server.key"));
    }
    let file = folder.join("mosquitto.conf");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(file);
    Peer::start(command, address)
}

#[test]
#[ignore = "measures: for a release build"]
fn what_doors_cost() {
    let count: usize = std::env::var("COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test Root");
    authority.issue("broker", &["localhost"], 1).write(folder.path(), "server");
    let beside = std::env::var("MOSQUITTO").is_ok();
    for (who, tls, web) in [
        ("switchboard", false, false),
        ("switchboard", true, false),
        ("switchboard", false, true),
        ("switchboard", true, true),
        ("mosquitto", false, false),
        ("mosquitto", true, false),
    ] {
        if who == "mosquitto" && !beside {
            continue;
        }
        let address = free();
        let peer = match who {
            "mosquitto" => mosquitto(folder.path(), address, tls),
            _ => switchboard(folder.path(), address, tls, web),
        };
        // Without a place for tickets every handshake is a full one.
        let mut full = (*client(&authority, None, &[&TLS13])).clone();
        full.resumption = rustls::client::Resumption::disabled();
        let (full, resumes) = (Arc::new(full), client(&authority, None, &[&TLS13]));
        let full = tls.then_some(&full);
        drop((0..50).map(|n| open(address, full, web, &format!("warm-{n}"))).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(500));
        let (before, began, cpu) = (peer.resident(), Instant::now(), peer.cpu());
        let mut idle: Vec<_> = (0..count).map(|n| open(address, full, web, &format!("idle-{n}"))).collect();
        let (seconds, handshakes) = (began.elapsed().as_secs_f64(), peer.cpu() - cpu);
        std::thread::sleep(Duration::from_secs(1));
        let each = (peer.resident() - before) / count as f64;
        // A PINGREQ and its answer: what a small message costs the transport both ways.
        let cpu = peer.cpu();
        for _ in 0..ROUNDS {
            for stream in &mut idle {
                let ping: &[u8] = if web { &[0x82, 0x82, 0, 0, 0, 0, 0xC0, 0] } else { &[0xC0, 0] };
                stream.write_all(ping).unwrap();
                let mut answer = [0; 4];
                stream.read_exact(&mut answer[..if web { 4 } else { 2 }]).unwrap();
            }
        }
        let pings = (peer.cpu() - cpu) / (ROUNDS * count) as f64;
        drop(idle);
        let mut resumed = 0.0;
        if tls {
            let resumes = Some(&resumes);
            drop(open(address, resumes, web, "first"));
            let cpu = peer.cpu();
            (0..count).for_each(|n| drop(open(address, resumes, web, &format!("again-{n}"))));
            resumed = (peer.cpu() - cpu) / count as f64;
        }
        println!(
            "{who:11} tls {tls:5} websocket {web:5}: {each:6.0} bytes each idle; connect {:5.0} us of the broker, {resumed:4.0} \
             resumed ({:.0}/s from one thread); PINGREQ to PINGRESP {pings:.2} us",
            handshakes / count as f64,
            count as f64 / seconds,
        );
    }
}
