//! A connection of blocking bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{PATIENCE, PREFIX, World};
use crate::dialogue::{Connect, Packet, Raw, Subscribe, message, take};

/// A client that connects again whenever it must.
pub struct Peer {
    pub world: Arc<World>,
    pub hello: Connect,
    pub stream: Option<TcpStream>,
    pub unread: Vec<u8>,
    pub unsent: Vec<u8>,
    /// The broker has promised something in this session.
    pub promised: bool,
    pub last_id: u16,
    pub rng: fastrand::Rng,
}

impl Peer {
    pub fn new(world: &Arc<World>, hello: Connect, seed: u64) -> Self {
        Self {
            world: world.clone(),
            hello: hello.keep_alive(0),
            stream: None,
            unread: Vec::new(),
            unsent: Vec::new(),
            promised: false,
            last_id: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    pub fn lose(&mut self) {
        self.stream = None;
        self.unread.clear();
        self.unsent.clear();
    }

    /// Connects, as soon as somebody listens. Says whether it did, and whether the session was there.
    pub fn connect(&mut self, lasts: bool) -> Option<bool> {
        let up = self.world.up.lock().unwrap();
        let listens = self.world.rises.wait_timeout_while(up, PATIENCE, |up| !*up).unwrap();
        drop(listens);
        let stream = TcpStream::connect_timeout(&self.world.address, Duration::from_millis(200)).ok()?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        self.stream = Some(stream);
        self.send(&self.hello.encode());
        self.flush();
        let begun = Instant::now();
        while self.stream.is_some() && begun.elapsed() < Duration::from_secs(5) {
            if let Some(Packet::ConnAck(connack)) = self.packet() {
                let id = &self.hello.id;
                assert_eq!(connack.code, 0, "{id} is refused");
                assert!(!lasts || connack.session_present || !self.promised, "{id}: the session is gone");
                return Some(connack.session_present);
            }
        }
        self.lose();
        None
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    pub fn say(&mut self, topic: &str, payload: &str, id: u16) {
        let publish = message(&format!("{PREFIX}{topic}"), payload).qos(1).id(id);
        self.send(&publish.encode(self.hello.version));
    }

    pub fn subscribe(&mut self, filters: &[&str]) {
        let filters = filters.iter().map(|filter| format!("{PREFIX}{filter}"));
        let packet = filters.fold(Subscribe::default(), |packet, filter| packet.and(&filter, 1));
        self.send(&packet.encode(self.hello.version, 65_535));
    }

    pub fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.unsent);
        if let Some(stream) = &mut self.stream
            && stream.write_all(&bytes).is_err()
        {
            self.lose();
        }
    }

    /// The next packet, if one comes within a moment. A message is acknowledged.
    pub fn packet(&mut self) -> Option<Packet> {
        loop {
            if let Some((packet, _)) = take(&mut self.unread, self.hello.version).unwrap() {
                if let Packet::Publish(publish) = &packet
                    && publish.qos == 1
                {
                    self.send(&Raw::new().two(publish.id).packet(0x40));
                }
                return Some(packet);
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.as_mut()?.read(&mut chunk) {
                Ok(count) if count > 0 => self.unread.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                _ => {
                    self.lose();
                    return None;
                }
            }
        }
    }

    pub fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id % 60_000 + 1;
        self.last_id
    }

    pub fn ulid(&mut self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        ulid::Ulid::from_parts(now.as_millis() as u64, self.rng.u128(..)).to_string()
    }
}
