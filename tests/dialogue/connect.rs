//! CONNECT and its will, written by `mqttbytes`; by hand what that cannot write (MQTT 3.1, a binary password).

use std::net::SocketAddr;

use bytes::Bytes;
use mqttbytes::{v4, v5};

use super::client::Client;
use super::packets::{bytes, qos};
use super::raw::Raw;
use super::wire::Version;

/// A CONNECT in the making; `open` sends it.
#[derive(Clone, Debug)]
pub struct Connect {
    pub version: Version,
    pub id: String,
    at: Option<SocketAddr>,
    clean: bool,
    keep_alive: u16,
    will: Option<Will>,
    login: Option<(String, Vec<u8>)>,
    properties: v5::ConnectProperties,
}

impl Connect {
    pub fn new(version: Version, id: &str) -> Self {
        let properties = v5::ConnectProperties {
            session_expiry_interval: None,
            receive_maximum: None,
            max_packet_size: None,
            topic_alias_max: None,
            request_response_info: None,
            request_problem_info: None,
            user_properties: Vec::new(),
            authentication_method: None,
            authentication_data: None,
        };
        Self {
            version,
            id: id.to_owned(),
            at: None,
            clean: true,
            keep_alive: 60,
            will: None,
            login: None,
            properties,
        }
    }

    /// To another broker than the one that all tests share.
    #[must_use]
    pub fn at(mut self, addr: SocketAddr) -> Self {
        self.at = Some(addr);
        self
    }

    /// Clean Start of MQTT 5, Clean Session of MQTT 3.
    #[must_use]
    pub fn clean(mut self, clean: bool) -> Self {
        self.clean = clean;
        self
    }

    /// Resumes the session and keeps it for an hour, in the words of either version.
    #[must_use]
    pub fn persistent(self) -> Self {
        if self.version.is_v5() { self.clean(false).session_expiry(3600) } else { self.clean(false) }
    }

    /// Seconds.
    #[must_use]
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    #[must_use]
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// The password may be any bytes.
    #[must_use]
    pub fn login(mut self, name: &str, password: impl AsRef<[u8]>) -> Self {
        self.login = Some((name.to_owned(), password.as_ref().to_vec()));
        self
    }

    /// Seconds.
    #[must_use]
    pub fn session_expiry(mut self, seconds: u32) -> Self {
        self.properties.session_expiry_interval = Some(seconds);
        self
    }

    #[must_use]
    pub fn receive_maximum(mut self, packets: u16) -> Self {
        self.properties.receive_maximum = Some(packets);
        self
    }

    /// Bytes.
    #[must_use]
    pub fn maximum_packet(mut self, size: u32) -> Self {
        self.properties.max_packet_size = Some(size);
        self
    }

    #[must_use]
    pub fn topic_alias_maximum(mut self, aliases: u16) -> Self {
        self.properties.topic_alias_max = Some(aliases);
        self
    }

    #[must_use]
    pub fn request_response_information(mut self, wanted: bool) -> Self {
        self.properties.request_response_info = Some(u8::from(wanted));
        self
    }

    #[must_use]
    pub fn request_problem_information(mut self, wanted: bool) -> Self {
        self.properties.request_problem_info = Some(u8::from(wanted));
        self
    }

    #[must_use]
    pub fn user(mut self, name: &str, value: &str) -> Self {
        self.properties.user_properties.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn authentication(mut self, method: &str, data: &[u8]) -> Self {
        self.properties.authentication_method = Some(method.to_owned());
        self.properties.authentication_data = Some(Bytes::copy_from_slice(data));
        self
    }

    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        let by_hand = self.login.as_ref().is_some_and(|(_, password)| std::str::from_utf8(password).is_err());
        if self.version == Version::V31 || by_hand {
            return self.encode_by_hand();
        }
        let login = self
            .login
            .as_ref()
            .map(|(name, password)| (name.clone(), String::from_utf8_lossy(password).into_owned()));
        if self.version.is_v5() {
            let mut packet = v5::Connect::new(&self.id);
            packet.clean_session = self.clean;
            packet.keep_alive = self.keep_alive;
            packet.last_will = self.will.as_ref().map(Will::for_v5);
            packet.login = login.map(|(name, password)| v5::Login::new(name, password));
            packet.properties = Some(self.properties.clone());
            bytes(|buffer| packet.write(buffer))
        } else {
            let mut packet = v4::Connect::new(&self.id);
            packet.clean_session = self.clean;
            packet.keep_alive = self.keep_alive;
            packet.last_will = self
                .will
                .as_ref()
                .map(|w| v4::LastWill::new(&w.topic, w.payload.clone(), qos(w.qos), w.retain));
            packet.login = login.map(|(name, password)| v4::Login::new(name, password));
            bytes(|buffer| packet.write(buffer))
        }
    }

    fn encode_by_hand(&self) -> Vec<u8> {
        assert!(self.will.is_none(), "wills are written by mqttbytes");
        let (name, level) = match self.version {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        let login = if self.login.is_some() { 0b1100_0000 } else { 0 };
        let mut packet = Raw::new()
            .field(name)
            .byte(level)
            .byte(login | if self.clean { 0b10 } else { 0 })
            .two(self.keep_alive);
        if self.version.is_v5() {
            packet = packet.byte(0);
        }
        packet = packet.field(&self.id);
        if let Some((name, password)) = &self.login {
            packet = packet.field(name).field(password);
        }
        packet.packet(0x10)
    }

    /// Connects, and is accepted.
    #[track_caller]
    pub fn open(self) -> Client {
        let mut client = self.start();
        client.connack = client.expect_connack();
        assert!(client.connack.code == 0, "refused with {:#04x}\n{}", client.connack.code, client.dialogue());
        client
    }

    /// Connects and does not look at the answer.
    #[track_caller]
    pub fn start(self) -> Client {
        let mut client = match self.at {
            Some(addr) => Client::dial_at(addr, self.version),
            None => Client::dial(self.version),
        };
        client.id.clone_from(&self.id);
        client.maximum_packet = self.properties.max_packet_size.map_or(usize::MAX, |size| size as usize);
        client.send(&self.encode());
        client
    }

    /// Connects, is refused with this code, and the connection is closed.
    #[track_caller]
    pub fn refused(self, code: u8) {
        let mut client = self.start();
        let connack = client.expect_connack();
        assert!(
            connack.code == code,
            "CONNACK {:#04x}, not {code:#04x}\n{}",
            connack.code,
            client.dialogue()
        );
        client.expect_closed();
    }
}

/// A will in the making.
#[derive(Clone, Debug)]
pub struct Will {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    properties: v5::WillProperties,
}

/// A will at QoS 0, not retained, without delay.
pub fn will(topic: &str, payload: impl AsRef<[u8]>) -> Will {
    let properties = v5::WillProperties {
        delay_interval: None,
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    Will { topic: topic.to_owned(), payload: payload.as_ref().to_vec(), qos: 0, retain: false, properties }
}

impl Will {
    #[must_use]
    pub fn qos(mut self, level: u8) -> Self {
        self.qos = level;
        self
    }

    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Seconds.
    #[must_use]
    pub fn delay(mut self, seconds: u32) -> Self {
        self.properties.delay_interval = Some(seconds);
        self
    }

    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut v5::WillProperties)) -> Self {
        change(&mut self.properties);
        self
    }

    fn for_v5(&self) -> v5::LastWill {
        v5::LastWill {
            topic: self.topic.clone(),
            message: Bytes::from(self.payload.clone()),
            qos: qos(self.qos),
            retain: self.retain,
            properties: Some(self.properties.clone()),
        }
    }
}
