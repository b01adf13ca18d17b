//! One client's side of a dialogue: a blocking socket, what was said on it, and what is expected next.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::broker::broker;
use super::packets::{self, Message, Subscribe};
use super::raw::{Raw, hex};
use super::wire::{self, Ack, Codes, ConnAck, Ended, Packet, Publish, Version};

/// How long an expected packet may take. Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to the broker.
pub struct Client {
    pub version: Version,
    pub id: String,
    /// The largest packet this client takes; every packet that arrives is held to it.
    pub maximum_packet: usize,
    /// The answer to CONNECT, once `open` has read it.
    pub connack: ConnAck,
    stream: TcpStream,
    unread: Vec<u8>,
    /// Packets that came while a PUBREL was awaited; read next.
    held: VecDeque<Packet>,
    last_id: u16,
    said: Vec<String>,
}

/// What came of waiting for a packet.
enum Heard {
    Packet(Packet),
    Closed,
    Silence,
}

impl Client {
    /// Opens the network connection and sends nothing. `version` says how answers are read.
    #[track_caller]
    pub fn dial(version: Version) -> Self {
        Self::dial_at(broker().addr, version)
    }

    /// The same to another broker than the one that all tests share.
    #[track_caller]
    pub fn dial_at(addr: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("the broker accepts connections");
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            version,
            id: String::new(),
            maximum_packet: usize::MAX,
            connack: ConnAck::default(),
            stream,
            unread: Vec::new(),
            held: VecDeque::new(),
            last_id: 0,
            said: Vec::new(),
        }
    }

    /// What was sent and received so far, for a failing assertion.
    pub fn dialogue(&self) -> String {
        let mut lines = format!("the dialogue of {:?} client {}:", self.version, self.id);
        for line in &self.said {
            lines.push_str("\n  ");
            lines.push_str(line);
        }
        lines
    }

    #[track_caller]
    pub fn fail(&self, what: &str) -> ! {
        panic!("{what}\n{}", self.dialogue())
    }

    /// Sends these bytes, whatever they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.said.push(format!("> {}", hex(bytes)));
        if let Err(error) = self.stream.write_all(bytes) {
            self.fail(&format!("cannot send: {error}"));
        }
    }

    /// Sends as far as the broker reads: it may close in the middle of what it refuses.
    pub fn send_while_open(&mut self, bytes: &[u8]) {
        self.said.push(format!("> {}", hex(bytes)));
        if let Err(error) = self.stream.write_all(bytes) {
            self.said.push(format!("! {error}"));
        }
    }

    /// A packet identifier not used on this connection before.
    pub fn next_id(&mut self) -> u16 {
        self.last_id += 1;
        self.last_id
    }

    fn hear(&mut self, patience: Duration) -> Heard {
        match self.held.pop_front() {
            Some(packet) => Heard::Packet(packet),
            None => self.hear_from_the_wire(patience),
        }
    }

    fn hear_from_the_wire(&mut self, patience: Duration) -> Heard {
        let until = Instant::now() + patience;
        loop {
            match wire::take(&mut self.unread, self.version) {
                Ok(Some((packet, frame))) => {
                    self.said.push(format!("< {} {packet:?}", hex(&frame)).chars().take(400).collect());
                    if frame.len() > self.maximum_packet {
                        self.fail(&format!("a packet of {} bytes [MQTT-3.1.2-24]", frame.len()));
                    }
                    return Heard::Packet(packet);
                }
                Ok(None) => {}
                Err(error) => {
                    self.fail(&format!("the broker sent what it must not: {error}, in {}", hex(&self.unread)))
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Silence;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.said.push("< closed".to_owned());
                    return Heard::Closed;
                }
                Ok(count) => self.unread.extend(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.said.push(format!("< {error}"));
                    return Heard::Closed;
                }
            }
        }
    }

    /// The next packet, whatever it is.
    #[track_caller]
    pub fn next(&mut self) -> Packet {
        match self.hear(PATIENCE) {
            Heard::Packet(packet) => packet,
            Heard::Closed => self.fail("the connection was closed where a packet was expected"),
            Heard::Silence => self.fail("nothing came where a packet was expected"),
        }
    }

    /// The next packet, or `None` if the connection is closed instead.
    #[track_caller]
    pub fn next_or_closed(&mut self) -> Option<Packet> {
        match self.hear(PATIENCE) {
            Heard::Packet(packet) => Some(packet),
            Heard::Closed => None,
            Heard::Silence => self.fail("nothing came where an answer was expected"),
        }
    }

    /// The broker closes the connection, and says nothing more before.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        self.expect_closed_within(PATIENCE);
    }

    #[track_caller]
    pub fn expect_closed_within(&mut self, patience: Duration) {
        match self.hear(patience) {
            Heard::Closed => {}
            Heard::Packet(packet) => self.fail(&format!("{packet:?} where the connection should be closed")),
            Heard::Silence => self.fail("the connection is still open"),
        }
    }

    /// Nothing comes for this long, and the connection stays open.
    #[track_caller]
    pub fn expect_silence_for(&mut self, time: Duration) {
        match self.hear(time) {
            Heard::Silence => {}
            Heard::Closed => self.fail("the connection was closed"),
            Heard::Packet(packet) => self.fail(&format!("{packet:?} where nothing should come")),
        }
    }

    /// The connection is ended for this reason: MQTT 5 clients are told it, MQTT 3 clients find it closed.
    #[track_caller]
    pub fn expect_ended(&mut self, reason: u8) {
        self.expect_ended_one_of(&[reason]);
    }

    /// As `expect_ended`, where the standard leaves a choice.
    #[track_caller]
    pub fn expect_ended_one_of(&mut self, reasons: &[u8]) {
        if let Err(found) = self.ended_for(reasons) {
            self.fail(&found);
        }
    }

    /// Whether the connection is ended for one of these reasons, or what happened instead.
    pub fn ended_for(&mut self, reasons: &[u8]) -> Result<(), String> {
        match self.hear(PATIENCE) {
            Heard::Packet(Packet::Disconnect(ended)) if reasons.contains(&ended.reason) => {
                match self.hear(PATIENCE) {
                    Heard::Closed => Ok(()),
                    Heard::Packet(other) => Err(format!("{other:?} after DISCONNECT")),
                    Heard::Silence => Err("still open after DISCONNECT".to_owned()),
                }
            }
            // The standard asks for the close alone; telling why is Switchboard's promise.
            Heard::Closed if !self.version.is_v5() || broker().foreign => Ok(()),
            Heard::Closed => Err(format!("closed without a DISCONNECT of {reasons:02x?}")),
            Heard::Packet(other) => Err(format!("{other:?}, not DISCONNECT with one of {reasons:02x?}")),
            Heard::Silence => Err("the connection is still open".to_owned()),
        }
    }

    /// A CONNECT is answered by closing, with or (only in MQTT 5) without a CONNACK that says one of these before it.
    #[track_caller]
    pub fn expect_connect_refused(&mut self, codes: &[u8]) {
        match self.hear(PATIENCE) {
            Heard::Closed => {}
            Heard::Packet(Packet::ConnAck(connack)) if codes.contains(&connack.code) => self.expect_closed(),
            Heard::Packet(other) => self.fail(&format!("{other:?}, not a refusal with one of {codes:02x?}")),
            Heard::Silence => self.fail("the connection is still open"),
        }
    }

    /// All bytes up to the close, not read as packets.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        match self.bytes_to_end() {
            Ok(bytes) => bytes,
            Err(found) => self.fail(&found),
        }
    }

    /// The same, or why there is no end.
    pub fn bytes_to_end(&mut self) -> Result<Vec<u8>, String> {
        let mut bytes = std::mem::take(&mut self.unread);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(bytes),
                Ok(count) => bytes.extend(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Ok(bytes);
                }
                Err(_) => return Err(format!("the broker did not close, and said {}", hex(&bytes))),
            }
        }
    }

    /// All messages until none has come for this long, acknowledged as they come.
    #[track_caller]
    pub fn receive_until_quiet_for(&mut self, time: Duration) -> Vec<Publish> {
        let mut messages = Vec::new();
        loop {
            match self.hear(time) {
                Heard::Packet(Packet::Publish(packet)) => {
                    self.acknowledge(&packet);
                    messages.push(packet);
                }
                Heard::Silence => return messages,
                Heard::Closed => self.fail("the connection was closed"),
                Heard::Packet(other) => self.fail(&format!("{other:?}, not PUBLISH")),
            }
        }
    }

    /// All messages up to the one that says `marker`, acknowledged as they come; the marker is not among them.
    #[track_caller]
    pub fn receive_until(&mut self, marker: &str) -> Vec<Publish> {
        let mut messages = Vec::new();
        loop {
            let packet = self.expect_publish();
            self.acknowledge(&packet);
            if packet.payload == marker.as_bytes() {
                return messages;
            }
            messages.push(packet);
        }
    }

    #[track_caller]
    pub fn expect_connack(&mut self) -> ConnAck {
        match self.next() {
            Packet::ConnAck(packet) => packet,
            other => self.fail(&format!("{other:?}, not CONNACK")),
        }
    }

    #[track_caller]
    pub fn expect_disconnect(&mut self) -> Ended {
        match self.next() {
            Packet::Disconnect(packet) => packet,
            other => self.fail(&format!("{other:?}, not DISCONNECT")),
        }
    }

    #[track_caller]
    pub fn expect_publish(&mut self) -> Publish {
        match self.next() {
            Packet::Publish(packet) => packet,
            other => self.fail(&format!("{other:?}, not PUBLISH")),
        }
    }

    /// A PUBLISH of this topic and payload; not acknowledged yet.
    #[track_caller]
    pub fn expect(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> Publish {
        let packet = self.expect_publish();
        if packet.topic != topic || packet.payload != payload.as_ref() {
            self.fail(&format!("another message than {topic} {}", hex(payload.as_ref())));
        }
        packet
    }

    /// The same, and acknowledges it as its QoS asks.
    #[track_caller]
    pub fn receive(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> Publish {
        let packet = self.expect(topic, payload);
        self.acknowledge(&packet);
        packet
    }

    /// Reads one PUBLISH and says whether it is of this topic.
    #[track_caller]
    pub fn next_publish_of(&mut self, topic: &str) -> bool {
        self.expect_publish().topic == topic
    }

    /// PUBACK, or PUBREC and, after PUBREL, PUBCOMP. What comes before the PUBREL is kept for the next step.
    #[track_caller]
    pub fn acknowledge(&mut self, packet: &Publish) {
        match packet.qos {
            0 => return,
            1 => return self.puback(packet.id),
            _ => self.pubrec(packet.id),
        }
        let mut before = VecDeque::new();
        loop {
            match self.next() {
                Packet::PubRel(ack) if ack.id == packet.id => break,
                Packet::Publish(other) => before.push_back(Packet::Publish(other)),
                other => self.fail(&format!("{other:?}, not PUBREL {}", packet.id)),
            }
        }
        self.pubcomp(packet.id);
        before.append(&mut self.held);
        self.held = before;
    }

    #[track_caller]
    fn expect_ack(&mut self, id: u16, name: &str, pick: impl FnOnce(Packet) -> Result<Ack, Packet>) -> Ack {
        match pick(self.next()) {
            Ok(ack) if ack.id == id => ack,
            Ok(ack) => self.fail(&format!("{name} {}, not of {id}", ack.id)),
            Err(other) => self.fail(&format!("{other:?}, not {name} {id}")),
        }
    }

    #[track_caller]
    pub fn expect_puback(&mut self, id: u16) -> Ack {
        self.expect_ack(id, "PUBACK", |p| if let Packet::PubAck(ack) = p { Ok(ack) } else { Err(p) })
    }

    #[track_caller]
    pub fn expect_pubrec(&mut self, id: u16) -> Ack {
        self.expect_ack(id, "PUBREC", |p| if let Packet::PubRec(ack) = p { Ok(ack) } else { Err(p) })
    }

    #[track_caller]
    pub fn expect_pubrel(&mut self, id: u16) -> Ack {
        self.expect_ack(id, "PUBREL", |p| if let Packet::PubRel(ack) = p { Ok(ack) } else { Err(p) })
    }

    #[track_caller]
    pub fn expect_pubcomp(&mut self, id: u16) -> Ack {
        self.expect_ack(id, "PUBCOMP", |p| if let Packet::PubComp(ack) = p { Ok(ack) } else { Err(p) })
    }

    #[track_caller]
    pub fn puback(&mut self, id: u16) {
        self.send(&Raw::new().two(id).packet(0x40));
    }

    #[track_caller]
    pub fn pubrec(&mut self, id: u16) {
        self.send(&Raw::new().two(id).packet(0x50));
    }

    #[track_caller]
    pub fn pubrel(&mut self, id: u16) {
        self.send(&Raw::new().two(id).packet(0x62));
    }

    #[track_caller]
    pub fn pubcomp(&mut self, id: u16) {
        self.send(&Raw::new().two(id).packet(0x70));
    }

    /// PUBACK (0x40) or PUBREC (0x50) of MQTT 5 with a reason code.
    #[track_caller]
    pub fn refuse(&mut self, first: u8, id: u16, reason: u8) {
        self.send(&Raw::new().two(id).byte(reason).packet(first));
    }

    /// Sends a PUBLISH and waits for nothing. Returns its packet identifier, 0 at QoS 0.
    #[track_caller]
    pub fn publish(&mut self, mut message: Message) -> u16 {
        if message.qos > 0 && message.id.is_none() {
            message.id = Some(self.next_id());
        }
        self.send(&message.encode(self.version));
        message.id.unwrap_or(0)
    }

    /// Sends a PUBLISH and carries its acknowledgement through: the broker has taken it.
    #[track_caller]
    pub fn deliver(&mut self, message: Message) {
        let qos = message.qos;
        let id = self.publish(message);
        let taken = match qos {
            0 => return,
            1 => self.expect_puback(id).reason,
            _ => self.expect_pubrec(id).reason,
        };
        if taken >= 0x80 {
            self.fail(&format!("the message was refused with {taken:#04x}"));
        }
        if qos == 2 {
            self.pubrel(id);
            self.expect_pubcomp(id);
        }
    }

    /// Sends a SUBSCRIBE and reads its SUBACK.
    #[track_caller]
    pub fn subscribe_with(&mut self, packet: &Subscribe) -> Codes {
        let id = self.next_id();
        self.send(&packet.encode(self.version, id));
        self.expect_suback(id)
    }

    #[track_caller]
    pub fn expect_suback(&mut self, id: u16) -> Codes {
        match self.next() {
            Packet::SubAck(codes) if codes.id == id => codes,
            other => self.fail(&format!("{other:?}, not SUBACK {id}")),
        }
    }

    /// Subscribes at QoS 0 where others' messages may come at any time; those before the SUBACK are dropped.
    #[track_caller]
    pub fn subscribe_amid_traffic(&mut self, filters: &[&str]) {
        let id = self.next_id();
        let packet = filters.iter().fold(Subscribe::default(), |packet, filter| packet.and(filter, 0));
        self.send(&packet.encode(self.version, id));
        loop {
            match self.next() {
                Packet::SubAck(answer) if answer.codes == packet.levels() => return,
                Packet::Publish(_) => {}
                other => self.fail(&format!("{other:?}, not SUBACK {id}")),
            }
        }
    }

    /// Subscribes to one filter, granted as asked.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        self.subscribed(&packets::subscription(filter, qos));
    }

    /// Subscribes to one filter; messages that come before the SUBACK, as they may [3.8.4], are kept for the next step.
    #[track_caller]
    pub fn subscribe_to_what_waits(&mut self, filter: &str, qos: u8) {
        let id = self.next_id();
        self.send(&packets::subscription(filter, qos).encode(self.version, id));
        let mut early = VecDeque::new();
        loop {
            match self.next() {
                Packet::SubAck(answer) if answer.id == id && answer.codes == [qos] => break,
                Packet::Publish(packet) => early.push_back(Packet::Publish(packet)),
                other => self.fail(&format!("{other:?}, not SUBACK {id}")),
            }
        }
        early.append(&mut self.held);
        self.held = early;
    }

    /// Subscribes, granted as asked.
    #[track_caller]
    pub fn subscribed(&mut self, packet: &Subscribe) {
        let codes = self.subscribe_with(packet).codes;
        if codes != packet.levels() {
            self.fail(&format!("granted {codes:02x?}, not {:02x?}", packet.levels()));
        }
    }

    /// Sends an UNSUBSCRIBE and reads its UNSUBACK.
    #[track_caller]
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Codes {
        let id = self.next_id();
        self.send(&packets::unsubscribe(self.version, id, filters));
        match self.next() {
            Packet::UnsubAck(codes) if codes.id == id => codes,
            other => self.fail(&format!("{other:?}, not UNSUBACK {id}")),
        }
    }

    /// PINGREQ is answered, and nothing comes before the answer.
    #[track_caller]
    pub fn expect_quiet(&mut self) {
        self.send(&[0xC0, 0x00]);
        match self.next() {
            Packet::PingResp => {}
            other => self.fail(&format!("{other:?}, where only a PINGRESP should come")),
        }
    }

    /// Says DISCONNECT and waits until the broker has closed: its side of the session is at rest.
    #[track_caller]
    pub fn disconnect(self) {
        self.disconnect_with(0, None);
    }

    #[track_caller]
    pub fn disconnect_with(mut self, reason: u8, session_expiry: Option<u32>) {
        self.send(&packets::disconnect(self.version, reason, session_expiry));
        self.drain();
    }

    /// Ends the connection without a DISCONNECT and waits until the broker has noticed.
    #[track_caller]
    pub fn vanish(mut self) {
        self.said.push("> end of stream".to_owned());
        let _ = self.stream.shutdown(Shutdown::Write);
        self.drain();
    }

    /// Reads until the broker closes, whatever comes before.
    #[track_caller]
    pub fn drain(&mut self) {
        loop {
            match self.hear(PATIENCE) {
                Heard::Closed => return,
                Heard::Packet(_) => {}
                Heard::Silence => self.fail("the broker did not close the connection"),
            }
        }
    }
}
