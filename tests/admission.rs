//! Who is let in: by address, by listener, and how fast. Over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod dialogue;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dialogue::{Own, message, own};
use socket2::{Domain, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(10);

/// A connection from this address of the machine, of which there are many.
fn from(own: &Own, last: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
    socket.connect(&own.socket_address().into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Says CONNECT; what comes back, nothing if the broker closes without a word.
fn enter(stream: &mut TcpStream, own: &Own, id: &str) -> Vec<u8> {
    let _ = stream.write_all(&own.v311(id).encode()); // it may be closed already
    answer(stream)
}

fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut connack = [0; 4];
    match stream.read_exact(&mut connack) {
        Ok(()) => connack.to_vec(),
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "neither answered nor closed");
            Vec::new()
        }
    }
}

const WELCOME: [u8; 4] = [0x20, 2, 0, 0];

#[test]
fn an_address_has_so_many_connections_and_others_have_theirs() {
    let own = own(None, |s| s.limits.guard.connections = 3);
    let mut inside: Vec<TcpStream> = (0..3).map(|_| from(&own, 7)).collect();
    for (n, stream) in inside.iter_mut().enumerate() {
        assert_eq!(enter(stream, &own, &format!("inside-{n}")), WELCOME);
    }
    for _ in 0..5 {
        assert!(enter(&mut from(&own, 7), &own, "outside").is_empty());
    }
    assert_eq!(enter(&mut from(&own, 8), &own, "elsewhere"), WELCOME);
    own.metric_until("switchboard_connects_refused_total", r#"reason="address_limit""#, |n| n == 5);
    // However they go, they make room: with the client id's home on either shard.
    inside.clear();
    own.metric_until("switchboard_connections", "", |n| n == 0);
    for n in 0..20 {
        let mut again: Vec<TcpStream> = (0..3).map(|_| from(&own, 7)).collect();
        for (m, stream) in again.iter_mut().enumerate() {
            assert_eq!(enter(stream, &own, &format!("again-{n}-{m}")), WELCOME);
        }
        again.clear();
        own.metric_until("switchboard_connections", "", |n| n == 0);
    }
    own.close();
}

#[test]
fn an_address_makes_so_many_connections_in_a_minute() {
    let own = own(None, |s| s.limits.guard.connects = 5);
    for n in 0..5 {
        assert_eq!(enter(&mut from(&own, 7), &own, &format!("quick-{n}")), WELCOME);
    }
    assert!(enter(&mut from(&own, 7), &own, "quick-5").is_empty());
    assert_eq!(enter(&mut from(&own, 8), &own, "elsewhere"), WELCOME);
    own.metric_until("switchboard_connects_refused_total", r#"reason="address_rate""#, |n| n == 1);
    own.close();
}

#[test]
fn wrong_logins_close_the_door_to_their_address() {
    let own = own(None, |s| {
        s.listeners[0].allow_anonymous = false;
        s.limits.guard.failed_logins = 3;
        s.limits.guard.ban = Duration::from_secs(2);
    });
    let begun = Instant::now();
    for n in 0..4 {
        assert_eq!(enter(&mut from(&own, 7), &own, &format!("guess-{n}")), [0x20, 2, 0, 5], "{n}");
    }
    assert!(enter(&mut from(&own, 7), &own, "guess-4").is_empty());
    assert_eq!(enter(&mut from(&own, 8), &own, "elsewhere"), [0x20, 2, 0, 5]);
    while enter(&mut from(&own, 7), &own, "guess").is_empty() {
        assert!(begun.elapsed() < PATIENCE, "banned for ever");
    }
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    own.metric_until("switchboard_address_bans_total", "", |n| n == 1);
    own.metric_until("switchboard_connects_refused_total", r#"reason="address_banned""#, |n| n > 0);
    own.close();
}

#[test]
fn a_listener_accepts_so_many_in_a_second_and_refuses_nobody() {
    let own = own(None, |s| s.listeners[0].accept_rate = 20);
    let begun = Instant::now();
    let mut crowd: Vec<TcpStream> = (0..40).map(|_| from(&own, 7)).collect();
    for (n, stream) in crowd.iter_mut().enumerate() {
        stream.write_all(&own.v311(&format!("crowd-{n}")).encode()).unwrap();
    }
    for stream in &mut crowd {
        assert_eq!(answer(stream), WELCOME);
    }
    let took = begun.elapsed();
    println!("40 came in {took:?}");
    assert!(took >= Duration::from_millis(1750), "{took:?}: 4 at once, and 20 a second");
    own.metric_until("switchboard_accept_pauses_total", "", |n| n > 0);
    assert_eq!(own.metric("switchboard_connects_refused_total", ""), 0);
    own.close();
}

#[test]
fn those_beyond_the_handshakes_that_may_be_wait_and_are_served_as_soon_as_one_ends() {
    let own = own(None, |s| {
        s.shards = 1;
        s.listeners[0].max_handshakes = 4;
        s.listeners[0].connect_timeout = Duration::from_secs(2);
    });
    let mut silent: Vec<TcpStream> = (0..4).map(|_| from(&own, 7)).collect();
    own.metric_until("switchboard_handshakes", "", |n| n == 4);
    let mut next = from(&own, 7);
    next.write_all(&own.v311("next").encode()).unwrap();
    own.metric_until("switchboard_accept_pauses_total", "", |n| n > 0);
    assert_eq!(own.metric("switchboard_connections", ""), 4, "the fifth is not let in");
    // One says CONNECT at last.
    assert_eq!(enter(&mut silent[0], &own, "late"), WELCOME);
    assert_eq!(answer(&mut next), WELCOME);
    // The others say nothing, and their time is up.
    let mut crowd: Vec<TcpStream> = (0..10).map(|_| from(&own, 7)).collect();
    for (n, stream) in crowd.iter_mut().enumerate() {
        stream.write_all(&own.v311(&format!("crowd-{n}")).encode()).unwrap();
    }
    for stream in &mut crowd {
        assert_eq!(answer(stream), WELCOME);
    }
    for silent in &mut silent[1..] {
        assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0, "closed");
    }
    own.metric_until("switchboard_connections_closed_total", r#"reason="connect_timeout""#, |n| n == 3);
    own.metric_until("switchboard_handshakes", "", |n| n == 0);
    own.close();
}

/// All of it at once: four hundred come at the same moment, through few handshakes.
#[test]
fn a_crowd_comes_through_a_narrow_door() {
    let own = own(None, |s| s.listeners[0].max_handshakes = 8);
    let others = own.others();
    let mut crowd: Vec<TcpStream> = (0..400u16).map(|n| from(&own, 10 + (n % 100) as u8)).collect();
    for (n, stream) in crowd.iter_mut().enumerate() {
        stream.write_all(&own.v311(&format!("crowd-{n}")).encode()).unwrap();
    }
    for stream in &mut crowd {
        assert_eq!(answer(stream), WELCOME);
    }
    others.went_on(Duration::from_secs(2));
    let mut guest = own.v5("guest").open();
    guest.expect_quiet();
    own.close();
}

/// Stops others also when a test fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// More work than a shard can do within the bound: publishers that write as fast as they are read.
#[test]
#[ignore = "loads the machine until a shard cannot keep up, and wants it to itself: cargo test --test admission -- --ignored"]
fn a_broker_that_cannot_keep_up_says_so_and_lets_nobody_new_in_until_it_can() {
    let own = own(None, |s| {
        s.shards = 1;
        s.limits.overload.drift = Duration::from_millis(200);
        s.sys.interval = Duration::from_hours(1); // it does not wait for that
    });
    let mut watcher = own.v5("watcher").open();
    watcher.subscribe("$SYS/broker/overload", 0);
    let mut inside = own.v5("inside").open();
    let stop = AtomicBool::new(false);
    // As many packets as one read can bring, from as many clients as it takes in either kind of build.
    let flood = [0x30, 3, 0, 1, b't'].repeat(13_107);
    thread::scope(|scope| {
        let _stopping = Stopping(&stop);
        let count = if cfg!(debug_assertions) { 64 } else { 256 };
        let mut crowd: Vec<TcpStream> = (0..count).map(|_| from(&own, 7)).collect();
        for (n, stream) in crowd.iter_mut().enumerate() {
            assert_eq!(enter(stream, &own, &format!("flood-{n}")), WELCOME);
        }
        for mut stream in crowd {
            let (flood, stop) = (&flood, &stop);
            scope.spawn(move || {
                stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let _ = stream.write(flood); // it is not read for long
                }
                // What was not read is not to be read any more.
                Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
            });
        }
        own.metric_until("switchboard_overload", "", |n| n == 1);
        own.v5("late").refused(0x97);
        own.v311("late").refused(3);
        inside.deliver(message("still/served", "yes").qos(1));
    });
    let mut said = Vec::new();
    while said.last().is_none_or(|last| last != "1") {
        said.push(String::from_utf8(watcher.expect_publish().payload.clone()).unwrap());
    }
    assert!(said.iter().all(|one| one == "0" || one == "1"), "{said:?}");
    // Everything has to go well for three seconds, which takes longer on a machine that does something else.
    let begun = Instant::now();
    while own.metric("switchboard_overload", "") > 0 {
        assert!(begun.elapsed() < Duration::from_mins(2), "overloaded for ever");
        thread::sleep(Duration::from_millis(100));
    }
    println!("no longer overloaded after {:?}", begun.elapsed());
    assert_eq!(watcher.expect_publish().payload, b"0");
    own.v5("late").open().expect_quiet();
    own.metric_until("switchboard_overloads_total", "", |n| n == 1);
    own.metric_until("switchboard_connects_refused_total", r#"reason="overload""#, |n| n == 2);
    own.close();
}
