//! The `$SYS` topics, with the names, payloads and meaning that users of mosquitto know from mosquitto(8). Pure:
//! totals and the time come in, the topics whose payload changed go out. Publishing them (retained, so that a new
//! subscriber gets the last value) is the caller's.

use crate::metrics::{Counters, Gauges, Packet};

/// Totals of all shards at one moment. Counts are since the broker started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Clients that are connected.
    pub clients_connected: u64,
    /// Sessions whose client is not connected.
    pub clients_disconnected: u64,
    /// Sessions that expired.
    pub clients_expired: u64,
    /// Subscriptions, without the shared ones.
    pub subscriptions: u64,
    /// Shared subscriptions.
    pub shared_subscriptions: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Messages that are retained or queued.
    pub stored_messages: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Messages whose acknowledgement is due.
    pub inflight_messages: u64,
    /// Shards that let nobody new in, because they cannot serve in time those who are there.
    pub overloaded: u64,
    /// Packets of every type received.
    pub packets_received: u64,
    /// Packets of every type sent.
    pub packets_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// PUBLISH packets received.
    pub publishes_received: u64,
    /// PUBLISH packets sent.
    pub publishes_sent: u64,
    /// Deliveries dropped.
    pub publishes_dropped: u64,
    /// Payload bytes of PUBLISH packets received.
    pub payload_bytes_received: u64,
    /// Payload bytes of PUBLISH packets sent.
    pub payload_bytes_sent: u64,
    /// CONNECT packets received.
    pub connects_received: u64,
    /// Network connections accepted.
    pub sockets_accepted: u64,
}

impl Snapshot {
    /// From the merged counts of all shards.
    pub fn of(counters: &Counters, gauges: &Gauges) -> Self {
        Self {
            clients_connected: gauges.clients_connected,
            clients_disconnected: gauges.sessions.saturating_sub(gauges.clients_connected),
            clients_expired: counters.sessions_expired,
            subscriptions: gauges.subscriptions,
            shared_subscriptions: gauges.shared_subscriptions,
            retained_messages: gauges.retained_messages,
            stored_messages: gauges.retained_messages + gauges.queued_messages,
            stored_bytes: gauges.retained_bytes + gauges.queued_bytes,
            inflight_messages: gauges.inflight_messages,
            overloaded: gauges.overload,
            packets_received: counters.packets_received.total(),
            packets_sent: counters.packets_sent.total(),
            bytes_received: counters.bytes_received,
            bytes_sent: counters.bytes_sent,
            publishes_received: counters.packets_received.count(Packet::Publish),
            publishes_sent: counters.packets_sent.count(Packet::Publish),
            publishes_dropped: counters.messages_dropped.total(),
            payload_bytes_received: counters.payload_bytes_received,
            payload_bytes_sent: counters.payload_bytes_sent,
            connects_received: counters.packets_received.count(Packet::Connect),
            sockets_accepted: counters.connections_accepted,
        }
    }
}

/// A topic and its new payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Topic name.
    pub topic: &'static str,
    /// Payload, plain text.
    pub payload: String,
}

/// What was published last, and the load averages.
#[derive(Debug)]
pub struct Sys {
    started_ms: u64,
    updated_ms: u64,
    /// False until the first update, which has every topic.
    begun: bool,
    last: Snapshot,
    clients_maximum: u64,
    values: [Option<u64>; VALUES.len()],
    loads: [[f64; 3]; LOADS.len()],
}

impl Sys {
    /// A broker that started at `now_ms`, by any clock that does not go back.
    pub fn new(now_ms: u64) -> Self {
        Self {
            started_ms: now_ms,
            updated_ms: now_ms,
            begun: false,
            last: Snapshot::default(),
            clients_maximum: 0,
            values: [None; VALUES.len()],
            loads: [[0.0; 3]; LOADS.len()],
        }
    }

    /// Takes the totals at `now_ms` and returns the topics whose payload is new: all of them the first time,
    /// later the uptime and what changed.
    pub fn update(&mut self, now_ms: u64, now: &Snapshot) -> Vec<Update> {
        let mut updates = Vec::new();
        if !self.begun {
            let payload = concat!("switchboard version ", env!("CARGO_PKG_VERSION")).to_owned();
            updates.push(Update { topic: "$SYS/broker/version", payload });
        }
        let uptime_s = now_ms.saturating_sub(self.started_ms) / 1000;
        updates.push(Update { topic: "$SYS/broker/uptime", payload: format!("{uptime_s} seconds") });
        self.update_loads(now_ms, now, &mut updates);
        self.update_values(now, &mut updates);
        self.updated_ms = now_ms.max(self.updated_ms);
        self.begun = true;
        self.last = now.clone();
        updates
    }

    /// Exponentially weighted averages of the rate per minute, over 1, 5 and 15 minutes. A change of less than
    /// 0.01 is kept but not published.
    fn update_loads(&mut self, now_ms: u64, now: &Snapshot, updates: &mut Vec<Update>) {
        let elapsed_s = to_f64(now_ms.saturating_sub(self.updated_ms)) / 1000.0;
        for ((topics, total), averages) in LOADS.iter().zip(&mut self.loads) {
            let per_minute = if elapsed_s > 0.0 {
                to_f64(total(now).saturating_sub(total(&self.last))) * 60.0 / elapsed_s
            } else {
                0.0
            };
            for ((topic, average), period_s) in topics.iter().zip(averages).zip([60.0, 300.0, 900.0]) {
                let next = per_minute + (-elapsed_s / period_s).exp() * (*average - per_minute);
                if !self.begun || (next - *average).abs() >= 0.01 {
                    updates.push(Update { topic, payload: format!("{next:.2}") });
                }
                *average = next;
            }
        }
    }

    fn update_values(&mut self, now: &Snapshot, updates: &mut Vec<Update>) {
        self.clients_maximum = self.clients_maximum.max(now.clients_connected);
        for ((topic, value), last) in VALUES.iter().zip(&mut self.values) {
            let value = value(now, self.clients_maximum);
            if *last != Some(value) {
                updates.push(Update { topic, payload: value.to_string() });
                *last = Some(value);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and printed with two decimals")]
fn to_f64(n: u64) -> f64 {
    n as f64
}

/// A value, by the present and the most clients that were ever connected at a time.
type Value = fn(&Snapshot, u64) -> u64;

/// Every topic that is a number, and where it comes from. `active`, `inactive` and `messages/stored` are
/// deprecated names that dashboards still use.
const VALUES: [(&str, Value); 25] = [
    ("$SYS/broker/clients/total", |now, _| now.clients_connected + now.clients_disconnected),
    ("$SYS/broker/clients/maximum", |_, most| most),
    ("$SYS/broker/clients/connected", |now, _| now.clients_connected),
    ("$SYS/broker/clients/active", |now, _| now.clients_connected),
    ("$SYS/broker/clients/disconnected", |now, _| now.clients_disconnected),
    ("$SYS/broker/clients/inactive", |now, _| now.clients_disconnected),
    ("$SYS/broker/clients/expired", |now, _| now.clients_expired),
    ("$SYS/broker/subscriptions/count", |now, _| now.subscriptions),
    ("$SYS/broker/shared_subscriptions/count", |now, _| now.shared_subscriptions),
    ("$SYS/broker/retained messages/count", |now, _| now.retained_messages),
    ("$SYS/broker/store/messages/count", |now, _| now.stored_messages),
    ("$SYS/broker/messages/stored", |now, _| now.stored_messages),
    ("$SYS/broker/store/messages/bytes", |now, _| now.stored_bytes),
    ("$SYS/broker/messages/inflight", |now, _| now.inflight_messages),
    ("$SYS/broker/messages/received", |now, _| now.packets_received),
    ("$SYS/broker/messages/sent", |now, _| now.packets_sent),
    ("$SYS/broker/bytes/received", |now, _| now.bytes_received),
    ("$SYS/broker/bytes/sent", |now, _| now.bytes_sent),
    ("$SYS/broker/publish/messages/received", |now, _| now.publishes_received),
    ("$SYS/broker/publish/messages/sent", |now, _| now.publishes_sent),
    ("$SYS/broker/publish/messages/dropped", |now, _| now.publishes_dropped),
    ("$SYS/broker/publish/bytes/received", |now, _| now.payload_bytes_received),
    ("$SYS/broker/publish/bytes/sent", |now, _| now.payload_bytes_sent),
    ("$SYS/broker/connections/socket/count", |now, _| now.sockets_accepted),
    ("$SYS/broker/overload", |now, _| now.overloaded),
];

type Total = fn(&Snapshot) -> u64;

macro_rules! load {
    ($what:literal) => {
        [
            concat!("$SYS/broker/load/", $what, "/1min"),
            concat!("$SYS/broker/load/", $what, "/5min"),
            concat!("$SYS/broker/load/", $what, "/15min"),
        ]
    };
}

/// The load averages and the totals they follow.
const LOADS: [([&str; 3], Total); 9] = [
    (load!("messages/received"), |now| now.packets_received),
    (load!("messages/sent"), |now| now.packets_sent),
    (load!("publish/received"), |now| now.publishes_received),
    (load!("publish/sent"), |now| now.publishes_sent),
    (load!("publish/dropped"), |now| now.publishes_dropped),
    (load!("bytes/received"), |now| now.bytes_received),
    (load!("bytes/sent"), |now| now.bytes_sent),
    (load!("connections"), |now| now.connects_received),
    (load!("sockets"), |now| now.sockets_accepted),
];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metrics::{DropReason, Qos};

    fn payload<'a>(updates: &'a [Update], topic: &str) -> Option<&'a str> {
        let mut found = updates.iter().filter(|update| update.topic == topic);
        let payload = found.next()?.payload.as_str();
        assert!(found.next().is_none(), "{topic} twice");
        Some(payload)
    }

    #[test]
    fn the_first_update_has_every_topic_once_and_the_next_only_what_changed() {
        let mut sys = Sys::new(500);
        let snapshot = Snapshot::default();
        let first = sys.update(500, &snapshot);
        let topics: BTreeSet<_> = first.iter().map(|update| update.topic).collect();
        assert_eq!(topics.len(), first.len());
        assert_eq!(first.len(), 2 + VALUES.len() + 3 * LOADS.len());
        assert_eq!(payload(&first, "$SYS/broker/uptime"), Some("0 seconds"));
        assert_eq!(payload(&first, "$SYS/broker/load/bytes/sent/15min"), Some("0.00"));
        assert_eq!(payload(&first, "$SYS/broker/retained messages/count"), Some("0"));
        let version = payload(&first, "$SYS/broker/version").unwrap();
        assert!(version.starts_with("switchboard version "), "{version}");

        let second = sys.update(10_499, &snapshot);
        assert_eq!(second, [Update { topic: "$SYS/broker/uptime", payload: "9 seconds".to_owned() }]);
    }

    #[test]
    fn averages_are_those_of_mosquitto() {
        let mut sys = Sys::new(0);
        sys.update(0, &Snapshot::default());
        let mut now = Snapshot { packets_received: 100, ..Snapshot::default() };

        // 100 in 10 s are 600 a minute: 600 × (1 − e^(−10/60)), (1 − e^(−10/300)), (1 − e^(−10/900)).
        let updates = sys.update(10_000, &now);
        assert_eq!(payload(&updates, "$SYS/broker/load/messages/received/1min"), Some("92.11"));
        assert_eq!(payload(&updates, "$SYS/broker/load/messages/received/5min"), Some("19.67"));
        assert_eq!(payload(&updates, "$SYS/broker/load/messages/received/15min"), Some("6.63"));
        assert_eq!(payload(&updates, "$SYS/broker/load/messages/sent/1min"), None);

        // Nothing for 10 s: each falls by its own factor.
        let updates = sys.update(20_000, &now);
        assert_eq!(payload(&updates, "$SYS/broker/load/messages/received/1min"), Some("77.97"));
        assert_eq!(payload(&updates, "$SYS/broker/load/messages/received/5min"), Some("19.03"));
        assert_eq!(payload(&updates, "$SYS/broker/load/messages/received/15min"), Some("6.56"));

        // A steady 600 a minute, at whatever interval it is sampled, ends at 600.
        let mut at_ms = 20_000;
        for step in 0_u64..3_000 {
            let elapsed_ms = 500 + step % 3 * 1_000;
            at_ms += elapsed_ms;
            now.packets_received += elapsed_ms / 100;
            sys.update(at_ms, &now);
        }
        assert!((sys.loads[0][0] - 600.0).abs() < 0.01, "{:?}", sys.loads[0]);
        now.packets_received += 600;
        now.packets_sent = 1;
        let updates = sys.update(at_ms + 60_000, &now);
        assert_eq!(
            payload(&updates, "$SYS/broker/load/messages/received/1min"),
            None,
            "600.00 before and after"
        );
        assert_eq!(payload(&updates, "$SYS/broker/load/messages/sent/1min"), Some("0.63"));
    }

    #[test]
    fn two_updates_at_one_moment_divide_by_nothing() {
        let mut sys = Sys::new(7);
        let now = Snapshot { bytes_sent: 9, ..Snapshot::default() };
        let first = sys.update(7, &now);
        assert_eq!(payload(&first, "$SYS/broker/load/bytes/sent/1min"), Some("0.00"));
        assert_eq!(payload(&first, "$SYS/broker/bytes/sent"), Some("9"));
        assert_eq!(sys.update(7, &now).len(), 1);
    }

    #[test]
    fn the_maximum_stays() {
        let mut sys = Sys::new(0);
        let mut now = Snapshot { clients_connected: 3, clients_disconnected: 2, ..Snapshot::default() };
        let updates = sys.update(0, &now);
        assert_eq!(payload(&updates, "$SYS/broker/clients/maximum"), Some("3"));
        assert_eq!(payload(&updates, "$SYS/broker/clients/total"), Some("5"));
        now.clients_connected = 1;
        let updates = sys.update(1, &now);
        assert_eq!(payload(&updates, "$SYS/broker/clients/maximum"), None);
        assert_eq!(payload(&updates, "$SYS/broker/clients/connected"), Some("1"));
        assert_eq!(payload(&updates, "$SYS/broker/clients/active"), Some("1"));
        now.clients_connected = 4;
        let updates = sys.update(2, &now);
        assert_eq!(payload(&updates, "$SYS/broker/clients/maximum"), Some("4"));
    }

    #[test]
    fn a_snapshot_is_taken_from_what_the_shards_counted() {
        let mut counters = Counters::default();
        counters.packets_received.add(Packet::Connect, 2);
        counters.packets_received.add(Packet::Publish, 5);
        counters.packets_sent.add(Packet::ConnAck, 2);
        counters.packets_sent.add(Packet::Publish, 7);
        counters.messages_sent.add(Qos::One, 7);
        counters.messages_dropped.add(DropReason::QueueFull, 3);
        counters.messages_dropped.add(DropReason::Expired, 1);
        counters.connections_accepted = 6;
        let gauges = Gauges {
            clients_connected: 2,
            sessions: 9,
            retained_messages: 4,
            retained_bytes: 400,
            queued_messages: 10,
            queued_bytes: 50,
            ..Gauges::default()
        };
        let expected = Snapshot {
            clients_connected: 2,
            clients_disconnected: 7,
            retained_messages: 4,
            stored_messages: 14,
            stored_bytes: 450,
            packets_received: 7,
            packets_sent: 9,
            publishes_received: 5,
            publishes_sent: 7,
            publishes_dropped: 4,
            connects_received: 2,
            sockets_accepted: 6,
            ..Snapshot::default()
        };
        assert_eq!(Snapshot::of(&counters, &gauges), expected);
    }
}
