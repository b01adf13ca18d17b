//! A disk that fills up: refusals instead of lies, everybody else unharmed, and all well again when there is room.
//!
//! Needs a file system of its own, mounted in a namespace of its own. Where that is not allowed the test says so and
//! does nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod dialogue;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dialogue::{Version, connect, message, own, unique};

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_store_that_holds_all_it_may_refuses_more_until_it_holds_less() {
    let folder = std::env::temp_dir().join(unique("switchboard-most"));
    let directory = folder.clone();
    let broker = own(None, |settings| {
        settings.store.directory = Some(directory);
        settings.store.max_bytes = 2 << 20;
    });
    let mut writer = broker.v5("writer").open();
    let mut answer = |topic: &str, payload: &[u8]| {
        let id = writer.publish(message(topic, payload).qos(1).retain());
        writer.expect_puback(id).reason
    };
    let payload = vec![7; 60_000];
    let mut kept = Vec::new();
    // It looks at what it holds when the view is brought up to date, after some 4 MiB or a while.
    for n in (0..1000).cycle() {
        let topic = format!("r/{n}");
        match answer(&topic, &payload) {
            0x97 => break,
            reason => assert!(reason < 0x80, "{reason:#x}"),
        }
        kept.push(topic);
    }
    assert!(kept.len() > 30, "{}", kept.len());
    assert_eq!(answer("r/0", &payload), 0x97);
    for topic in &kept {
        assert!(answer(topic, b"") < 0x80, "what makes room is taken");
    }
    let begun = Instant::now();
    while answer("r/again", b"small") == 0x97 {
        assert!(begun.elapsed() < 4 * PATIENCE, "it stays full");
    }
    broker.close();
    let _ = fs::remove_dir_all(folder);
}

struct Broker {
    child: Child,
    folder: PathBuf,
    mqtt: SocketAddr,
    http: SocketAddr,
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn in_a_namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-ec"]);
    command
}

/// Whether this machine lets us mount a file system.
fn may_mount() -> bool {
    let tried = in_a_namespace().arg("mount -t tmpfs -o size=1m tmpfs /mnt").output();
    tried.is_ok_and(|output| output.status.success())
}

impl Broker {
    /// A broker whose store has 24 MiB, 16 of which a file takes.
    fn start() -> Self {
        let folder = std::env::temp_dir().join(unique("switchboard-full"));
        fs::create_dir_all(&folder).unwrap();
        let (mqtt, http) = (free(), free());
        let script = "mount -t tmpfs -o size=24m tmpfs \"$1\"; head -c 16M /dev/zero >\"$1/filler\"; \
                      cd \"$1\"; shift; exec \"$@\"";
        let child = in_a_namespace()
            .args([script, "sh", folder.to_str().unwrap(), env!("CARGO_BIN_EXE_switchboard"), "serve"])
            .args(["--set", "store.directory=data", "--set", "session.queue_messages=1000000"])
            .args(["--set", "session.queue_bytes=1GiB", "--set", "log.level=error"])
            .args(["--set", &format!("listener.tcp.bind={mqtt}"), "--set", &format!("http.bind={http}")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let broker = Self { child, folder, mqtt, http };
        broker.until(|broker| TcpStream::connect(broker.mqtt).is_ok(), "it listens");
        broker
    }

    fn until(&self, is: impl Fn(&Self) -> bool, what: &str) {
        let begun = Instant::now();
        while !is(self) {
            assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
            thread::yield_now();
        }
    }

    /// What `/readyz` says.
    fn ready(&self) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Its own file system, seen from here.
    fn inside(&self, file: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        root.join(self.folder.strip_prefix("/").unwrap()).join(file)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A client whose answers may be long in coming.
struct Writer(TcpStream);

impl Writer {
    fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&connect(Version::V5, "writer").at(address).encode()).unwrap();
        let mut connack = [0; 2];
        stream.read_exact(&mut connack).unwrap();
        stream.read_exact(&mut vec![0; usize::from(connack[1])]).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self(stream)
    }

    fn publish(&mut self, payload: &str) {
        self.0.write_all(&message("kept", payload).qos(1).id(1).encode(Version::V5)).unwrap();
    }

    /// The reason code of PUBACK; `None` if none has come when `over` says that none will.
    fn answer(&mut self, over: impl Fn() -> bool) -> Option<u8> {
        let begun = Instant::now();
        let mut head = [0; 2];
        loop {
            match self.0.read(&mut head) {
                Ok(2) => break,
                Ok(other) => panic!("{other} bytes"),
                Err(_) if over() => return None,
                Err(_) => assert!(begun.elapsed() < PATIENCE, "no answer"),
            }
        }
        let mut rest = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut rest).unwrap();
        assert_eq!((head[0], &rest[..2]), (0x40, &[0, 1][..]));
        Some(rest.get(2).copied().unwrap_or(0))
    }
}

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_and_nothing_else() {
    if !may_mount() {
        println!("left out: nothing can be mounted here");
        return;
    }
    let broker = Broker::start();
    let mut away = connect(Version::V5, "away").at(broker.mqtt).persistent().open();
    away.subscribe("kept", 1);
    away.disconnect();
    let payload = "x".repeat(20_000);
    let mut writer = Writer::connect(broker.mqtt);
    // One after the other, so that it is known which were taken. The last waits for room, or is refused already.
    let mut taken = 0;
    let waits = loop {
        assert!(taken < 2_000, "the disk is never full");
        writer.publish(&format!("{taken}:{payload}"));
        match writer.answer(|| broker.ready().contains("503")) {
            Some(0) => taken += 1,
            Some(0x97) => break false,
            Some(other) => panic!("{other:#04x}"),
            None => break true,
        }
    };
    broker.until(|broker| broker.ready().contains("503"), "it says so");
    assert!(broker.ready().contains("store: no room"), "{}", broker.ready());

    let mut late = connect(Version::V5, "late").at(broker.mqtt).open();
    late.publish(message("kept", "refused").qos(1).id(9));
    assert_eq!(late.expect_puback(9).reason, 0x97);
    late.publish(message("retained", "refused").qos(1).id(10).retain());
    assert_eq!(late.expect_puback(10).reason, 0x97);
    let mut old = connect(Version::V311, "old").at(broker.mqtt).open();
    old.publish(message("kept", "refused").qos(1).id(9));
    old.expect_closed();
    connect(Version::V5, "new").at(broker.mqtt).persistent().refused(0x97);
    // Whoever needs no disk notices nothing.
    let mut reader = connect(Version::V5, "reader").at(broker.mqtt).open();
    reader.subscribe("fleeting", 1);
    for n in 0..100 {
        late.deliver(message("fleeting", n.to_string()).qos(1));
        reader.receive("fleeting", n.to_string());
    }

    fs::remove_file(broker.inside("filler")).unwrap();
    broker.until(|broker| broker.ready().contains("200 OK"), "it is well again");
    // What was under way is acknowledged now; nothing that was refused is there.
    if waits {
        assert_eq!(writer.answer(|| false), Some(0));
        taken += 1;
    }
    late.deliver(message("kept", "last").qos(1));
    let mut away = connect(Version::V5, "away").at(broker.mqtt).persistent().open();
    for n in 0..taken {
        away.receive("kept", format!("{n}:{payload}"));
    }
    away.receive("kept", "last");
    away.expect_quiet();
}
