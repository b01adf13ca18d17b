//! What a client sends, well formed, written by `mqttbytes`; by hand only what that cannot write
//! (DISCONNECT of MQTT 5). CONNECT is in `connect`.

use bytes::{Bytes, BytesMut};
use mqttbytes::{v4, v5};

use super::raw::Raw;
use super::wire::Version;

pub fn qos(level: u8) -> mqttbytes::QoS {
    mqttbytes::qos(level).expect("a QoS of 0, 1 or 2")
}

pub fn bytes(write: impl FnOnce(&mut BytesMut) -> Result<usize, mqttbytes::Error>) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    write(&mut buffer).expect("mqttbytes writes this packet");
    buffer.to_vec()
}

/// A PUBLISH in the making.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub id: Option<u16>,
    retain: bool,
    dup: bool,
    properties: v5::PublishProperties,
}

/// A message at QoS 0.
pub fn message(topic: &str, payload: impl AsRef<[u8]>) -> Message {
    let properties = v5::PublishProperties {
        payload_format_indicator: None,
        message_expiry_interval: None,
        topic_alias: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
        subscription_identifiers: Vec::new(),
        content_type: None,
    };
    Message {
        topic: topic.to_owned(),
        payload: payload.as_ref().to_vec(),
        qos: 0,
        id: None,
        retain: false,
        dup: false,
        properties,
    }
}

impl Message {
    #[must_use]
    pub fn qos(mut self, level: u8) -> Self {
        self.qos = level;
        self
    }

    /// The packet identifier; without it the client takes its next.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = Some(id);
        self
    }

    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    #[must_use]
    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    /// Seconds.
    #[must_use]
    pub fn expiry(mut self, seconds: u32) -> Self {
        self.properties.message_expiry_interval = Some(seconds);
        self
    }

    #[must_use]
    pub fn alias(mut self, alias: u16) -> Self {
        self.properties.topic_alias = Some(alias);
        self
    }

    #[must_use]
    pub fn user(mut self, name: &str, value: &str) -> Self {
        self.properties.user_properties.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn utf8(mut self) -> Self {
        self.properties.payload_format_indicator = Some(1);
        self
    }

    #[must_use]
    pub fn content_type(mut self, name: &str) -> Self {
        self.properties.content_type = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn response_topic(mut self, topic: &str) -> Self {
        self.properties.response_topic = Some(topic.to_owned());
        self
    }

    #[must_use]
    pub fn correlation(mut self, data: &[u8]) -> Self {
        self.properties.correlation_data = Some(Bytes::copy_from_slice(data));
        self
    }

    /// What no client may send [MQTT-3.3.4-6].
    #[must_use]
    pub fn subscription_id(mut self, id: usize) -> Self {
        self.properties.subscription_identifiers.push(id);
        self
    }

    pub fn encode(&self, version: Version) -> Vec<u8> {
        let id = self.id.unwrap_or(0);
        if version.is_v5() {
            let mut packet = v5::Publish::new(&self.topic, qos(self.qos), self.payload.clone());
            (packet.dup, packet.retain, packet.pkid) = (self.dup, self.retain, id);
            packet.properties = Some(self.properties.clone());
            bytes(|buffer| packet.write(buffer))
        } else {
            let mut packet = v4::Publish::new(&self.topic, qos(self.qos), self.payload.clone());
            (packet.dup, packet.retain, packet.pkid) = (self.dup, self.retain, id);
            bytes(|buffer| packet.write(buffer))
        }
    }
}

/// A SUBSCRIBE in the making.
#[derive(Clone, Debug, Default)]
pub struct Subscribe {
    filters: Vec<Filter>,
    id: Option<usize>,
    user: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct Filter {
    text: String,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: u8,
}

/// A SUBSCRIBE of one filter; the options that follow are those of the last filter.
pub fn subscription(filter: &str, level: u8) -> Subscribe {
    Subscribe::default().and(filter, level)
}

impl Subscribe {
    /// One more filter.
    #[must_use]
    pub fn and(mut self, filter: &str, level: u8) -> Self {
        self.filters.push(Filter {
            text: filter.to_owned(),
            qos: level,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
        });
        self
    }

    fn last(&mut self) -> &mut Filter {
        self.filters.last_mut().expect("a filter")
    }

    #[must_use]
    pub fn no_local(mut self) -> Self {
        self.last().no_local = true;
        self
    }

    #[must_use]
    pub fn retain_as_published(mut self) -> Self {
        self.last().retain_as_published = true;
        self
    }

    #[must_use]
    pub fn retain_handling(mut self, rule: u8) -> Self {
        self.last().retain_handling = rule;
        self
    }

    /// The subscription identifier, for all filters of the packet.
    #[must_use]
    pub fn id(mut self, id: usize) -> Self {
        self.id = Some(id);
        self
    }

    #[must_use]
    pub fn user(mut self, name: &str, value: &str) -> Self {
        self.user.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn levels(&self) -> Vec<u8> {
        self.filters.iter().map(|filter| filter.qos).collect()
    }

    pub fn encode(&self, version: Version, packet_id: u16) -> Vec<u8> {
        if version.is_v5() {
            let mut packet = v5::Subscribe::empty_subscribe();
            packet.pkid = packet_id;
            packet.properties =
                Some(v5::SubscribeProperties { id: self.id, user_properties: self.user.clone() });
            for filter in &self.filters {
                let mut entry = v5::SubscribeFilter::new(filter.text.clone(), qos(filter.qos));
                entry.set_nolocal(filter.no_local).set_preserve_retain(filter.retain_as_published);
                entry.set_retain_forward_rule(match filter.retain_handling {
                    0 => v5::RetainForwardRule::OnEverySubscribe,
                    1 => v5::RetainForwardRule::OnNewSubscribe,
                    _ => v5::RetainForwardRule::Never,
                });
                packet.filters.push(entry);
            }
            bytes(|buffer| packet.write(buffer))
        } else {
            let mut packet = v4::Subscribe::empty_subscribe();
            packet.pkid = packet_id;
            for filter in &self.filters {
                packet.add(filter.text.clone(), qos(filter.qos));
            }
            bytes(|buffer| packet.write(buffer))
        }
    }
}

/// An UNSUBSCRIBE.
pub fn unsubscribe(version: Version, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
    if version.is_v5() {
        let packet = v5::Unsubscribe { pkid: packet_id, filters, properties: None };
        bytes(|buffer| packet.write(buffer))
    } else {
        let packet = v4::Unsubscribe { pkid: packet_id, topics: filters };
        bytes(|buffer| packet.write(buffer))
    }
}

/// A DISCONNECT; reason and session expiry are those of MQTT 5 alone.
pub fn disconnect(version: Version, reason: u8, session_expiry: Option<u32>) -> Vec<u8> {
    if !version.is_v5() || (reason == 0 && session_expiry.is_none()) {
        return vec![0xE0, 0x00];
    }
    let mut block = Raw::new();
    if let Some(seconds) = session_expiry {
        block = block.byte(0x11).four(seconds);
    }
    Raw::new().byte(reason).properties(&block).packet(0xE0)
}
