//! What the store keeps, as bytes: keys and values of its tables.
//!
//! Numbers in keys are big-endian, so that a table's order is theirs; in values they are little-endian. Every value
//! begins with the version of its form. Deadlines are kept as wall-clock time: the monotonic clock starts anew with
//! every process.

use std::sync::Arc;

use crate::clock::Now;
use crate::message::{Away, Delivery, ELSEWHERE, Message, MessageRef, Millis, NEVER, SubscriptionIds};
use crate::protocol::QoS;
use crate::session::{Number, OFFLINE, Session, WillState};
use crate::store::Table;
use crate::topic::SubscriptionOptions;

/// The version of all values.
const FORM: u8 = 1;

/// Moments are milliseconds since the Unix epoch; this one never comes.
const NO_MOMENT: u64 = u64::MAX;

/// A deadline as wall-clock time.
fn moment(deadline: Millis, now: Now) -> u64 {
    match deadline {
        NEVER => NO_MOMENT,
        later if later >= now.mono => now.unix.saturating_add(later - now.mono),
        past => now.unix.saturating_sub(now.mono - past),
    }
}

/// A deadline from wall-clock time. One that has passed is due at once.
fn deadline(moment: u64, now: Now) -> Millis {
    match moment {
        NO_MOMENT => NEVER,
        moment => now.mono.saturating_add(moment.saturating_sub(now.unix)),
    }
}

/// Reads a value from its front. `None`: it breaks off.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads a value of a form that is known.
    fn new(value: &'a [u8]) -> Option<Self> {
        let mut reader = Self(value);
        (reader.u8()? == FORM).then_some(reader)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = self.u16()?;
        std::str::from_utf8(self.bytes(usize::from(len))?).ok()
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

const RETAIN: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const IS_SNAPPY: u8 = 1 << 4;

/// Appends a message; `topic` stands for its own.
fn put_message(out: &mut Vec<u8>, m: &MessageRef<'_>, topic: &str, now: Now) {
    let expires = m.expires_at != NEVER;
    let flags = [(m.retain, RETAIN), (expires, EXPIRES), (m.snappy, IS_SNAPPY)];
    out.push(flags.iter().filter(|(set, _)| *set).fold(m.qos as u8, |all, (_, flag)| all | flag));
    if expires {
        out.extend_from_slice(&moment(m.expires_at, now).to_le_bytes());
    }
    put_text(out, topic);
    out.extend_from_slice(&(m.properties.len() as u32).to_le_bytes());
    out.extend_from_slice(m.properties);
    out.extend_from_slice(m.payload);
}

/// The message that takes up the rest of a value. `topic` replaces an empty one.
fn read_message(mut reader: Reader<'_>, topic: &str, now: Now) -> Option<Arc<Message>> {
    let flags = reader.u8()?;
    let expires_at = if flags & EXPIRES == 0 { NEVER } else { deadline(reader.u64()?, now) };
    let own = reader.text()?;
    let properties_len = reader.u32()?;
    let properties = reader.bytes(properties_len as usize)?;
    let message = MessageRef {
        topic: if own.is_empty() { topic } else { own },
        payload: reader.0,
        properties,
        expires_at,
        from: ELSEWHERE,
        qos: QoS::try_from(flags & 3).ok()?,
        retain: flags & RETAIN != 0,
        snappy: flags & IS_SNAPPY != 0,
    };
    Some(message.to_message())
}

/// Key of a session.
pub(super) fn session_key(stored: u64) -> [u8; 8] {
    stored.to_be_bytes()
}

/// A session's number at the front of a key, and the rest of the key.
pub(super) fn read_session_key(key: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = key.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

/// Key of what a session is owed under a number.
pub(super) fn owed_key(stored: u64, number: Number) -> [u8; 16] {
    (u128::from(stored) << 64 | u128::from(number)).to_be_bytes()
}

/// The documents of deliveries: each that of the number, and behind it that of the body if there is one.
pub(super) fn deliveries(stored: u64, wanted: &[(Number, u64)]) -> Vec<(Table, Box<[u8]>)> {
    let keys = wanted.iter().flat_map(|&(number, body)| {
        let body = (body != 0).then(|| (Table::Bodies, body.to_be_bytes().into()));
        [Some((Table::Owed, owed_key(stored, number).into())), body]
    });
    keys.flatten().collect()
}

/// A number that a key, or the rest of one, consists of.
pub(super) fn read_number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// A packet id that the rest of a key consists of.
pub(super) fn read_packet_id(key: &[u8]) -> Option<u16> {
    key.try_into().ok().map(u16::from_be_bytes)
}

/// Key of a message in a group: no text contains the zero between them.
pub(super) fn put_group_key(out: &mut Vec<u8>, text: &str, number: u64) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    out.extend_from_slice(&number.to_be_bytes());
}

/// The document of a message in a group.
pub(super) fn group_key(text: &str, number: u64) -> (Table, Box<[u8]>) {
    let mut key = Vec::with_capacity(text.len() + 9);
    put_group_key(&mut key, text, number);
    (Table::Groups, key.into())
}

/// A group's text and a message's number.
pub(super) fn read_group_key(key: &[u8]) -> Option<(&str, u64)> {
    let (text, number) = key.split_last_chunk()?;
    let text = text.strip_suffix(&[0])?;
    Some((std::str::from_utf8(text).ok()?, u64::from_be_bytes(*number)))
}

const CONNECTED: u8 = 1;
const HAS_WILL: u8 = 2;
const WILL_EXPIRES: u8 = 4;
const HAS_OWNER: u8 = 8;

/// Value of a session: everything of it that has no table of its own.
pub(super) fn put_session(out: &mut Vec<u8>, session: &Session, now: Now) {
    let connected = session.connection != OFFLINE;
    let will = session.will.as_deref();
    let flags = if connected { CONNECTED } else { 0 }
        | if session.owner == 0 { 0 } else { HAS_OWNER }
        | will.map_or(0, |will| HAS_WILL | if will.expiry.is_some() { WILL_EXPIRES } else { 0 });
    out.extend_from_slice(&[FORM, flags]);
    put_text(out, &session.client_id);
    out.extend_from_slice(&session.expiry.to_le_bytes());
    out.extend_from_slice(&moment(session.ends_at, now).to_le_bytes());
    out.extend_from_slice(&session.next().to_le_bytes());
    if session.owner != 0 {
        out.extend_from_slice(&session.owner.to_le_bytes());
    }
    if let Some(will) = will {
        out.extend_from_slice(&will.delay.to_le_bytes());
        out.extend_from_slice(&will.expiry.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&moment(will.due, now).to_le_bytes());
        let view = will.message.view();
        put_message(out, &view, view.topic, now);
    }
}

/// A session as it was kept.
#[derive(Debug)]
pub(super) struct StoredSession<'a> {
    pub(super) client_id: &'a str,
    pub(super) expiry: u32,
    /// It had a connection, which is gone now.
    pub(super) connected: bool,
    pub(super) ends_at: Millis,
    /// Deliveries before this number may have been sent, and left the client with a packet id that it still holds.
    pub(super) next: Number,
    pub(super) owner: u64,
    pub(super) will: Option<WillState>,
}

/// Reads a session.
pub(super) fn read_session(value: &[u8], now: Now) -> Option<StoredSession<'_>> {
    let mut reader = Reader::new(value)?;
    let flags = reader.u8()?;
    let client_id = reader.text()?;
    let expiry = reader.u32()?;
    let (ends_at, next) = (deadline(reader.u64()?, now), reader.u64()?);
    let owner = if flags & HAS_OWNER == 0 { 0 } else { reader.u64()? };
    let will = if flags & HAS_WILL == 0 {
        None
    } else {
        let (delay, will_expiry, due) = (reader.u32()?, reader.u32()?, deadline(reader.u64()?, now));
        let expiry = (flags & WILL_EXPIRES != 0).then_some(will_expiry);
        Some(WillState { message: read_message(reader, "", now)?, delay, expiry, due })
    };
    Some(StoredSession { client_id, expiry, connected: flags & CONNECTED != 0, ends_at, next, owner, will })
}

const NO_LOCAL: u8 = 1 << 2;
const AS_PUBLISHED: u8 = 1 << 3;

/// Value of a subscription.
pub(super) fn put_subscription(out: &mut Vec<u8>, options: SubscriptionOptions) {
    let flags = options.qos()
        | if options.no_local() { NO_LOCAL } else { 0 }
        | if options.retain_as_published() { AS_PUBLISHED } else { 0 };
    out.extend_from_slice(&[FORM, flags]);
    out.extend_from_slice(&options.id().unwrap_or(0).to_le_bytes());
}

/// Reads a subscription.
pub(super) fn read_subscription(value: &[u8]) -> Option<SubscriptionOptions> {
    let mut reader = Reader::new(value)?;
    let (flags, id) = (reader.u8()?, reader.u32()?);
    let valid = flags & 3 <= 2 && id < 1 << 28;
    valid.then(|| SubscriptionOptions::new(flags & 3, flags & NO_LOCAL != 0, flags & AS_PUBLISHED != 0, id))
}

/// Value of a packet id that was taken.
pub(super) fn put_received(out: &mut Vec<u8>) {
    out.push(FORM);
}

/// What a session is owed under one number.
#[derive(Debug)]
pub(super) enum Owed {
    /// A delivery, and after when it is dropped.
    Delivery(Away, Millis),
    /// PUBCOMP alone is still to come.
    Released,
}

const DELIVERY: u8 = 0;
const RELEASED: u8 = 1;

/// Value of a delivery that is dropped after `expires_at`. Its message stands in it, or in a table of its own.
pub(super) fn put_owed(out: &mut Vec<u8>, delivery: &Delivery, expires_at: Millis, now: Now) {
    let ids = delivery.ids.as_slice();
    out.extend_from_slice(&[FORM, DELIVERY, delivery.qos as u8 | if delivery.retain { RETAIN } else { 0 }]);
    out.extend_from_slice(&moment(expires_at, now).to_le_bytes());
    out.extend_from_slice(&delivery.body.to_le_bytes());
    out.extend_from_slice(&(delivery.message.weight() as u32).to_le_bytes());
    out.extend_from_slice(&(ids.len() as u16).to_le_bytes());
    for id in ids {
        out.extend_from_slice(&id.to_le_bytes());
    }
    if delivery.body == 0 {
        let view = delivery.message.view();
        put_message(out, &view, view.topic, now);
    }
}

/// Value of a delivery of which PUBREC has come.
pub(super) fn put_released(out: &mut Vec<u8>) {
    out.extend_from_slice(&[FORM, RELEASED]);
}

/// Reads what a session is owed, but not the message.
pub(super) fn read_owed(value: &[u8], now: Now) -> Option<Owed> {
    let mut reader = Reader::new(value)?;
    if reader.u8()? == RELEASED {
        return Some(Owed::Released);
    }
    let (away, expires_at, _) = read_away(&mut reader, now)?;
    Some(Owed::Delivery(away, expires_at))
}

/// A delivery without its message, and whether RETAIN is set.
fn read_away(reader: &mut Reader<'_>, now: Now) -> Option<(Away, Millis, bool)> {
    let flags = reader.u8()?;
    let expires_at = deadline(reader.u64()?, now);
    let away = Away { qos: QoS::try_from(flags & 3).ok()?, body: reader.u64()?, weight: reader.u32()? };
    Some((away, expires_at, flags & RETAIN != 0))
}

/// Reads a delivery with its message; `body` is the value of one that has a table of its own.
pub(super) fn read_delivery(value: &[u8], body: Option<&[u8]>, now: Now) -> Option<Delivery> {
    let mut reader = Reader::new(value)?;
    if reader.u8()? != DELIVERY {
        return None;
    }
    let (Away { body: number, qos, .. }, _, retain) = read_away(&mut reader, now)?;
    let mut ids = SubscriptionIds::None;
    for _ in 0..reader.u16()? {
        ids.push(Some(reader.u32()?));
    }
    let message = if number == 0 { read_message(reader, "", now)? } else { read_body(body?, "", now)? };
    Some(Delivery { message, ids, via: None, qos, retain, body: number })
}

/// Value of a message that stands alone: a body, or one in a group.
pub(super) fn put_body(out: &mut Vec<u8>, m: &MessageRef<'_>, now: Now) {
    out.push(FORM);
    put_message(out, m, m.topic, now);
}

/// Value of a retained message, whose topic is its key.
pub(super) fn put_retained(out: &mut Vec<u8>, m: &MessageRef<'_>, now: Now) {
    out.push(FORM);
    put_message(out, m, "", now);
}

/// Reads a message; `topic` is that of a retained one.
pub(super) fn read_body(value: &[u8], topic: &str, now: Now) -> Option<Arc<Message>> {
    read_message(Reader::new(value)?, topic, now)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const THEN: Now = Now { mono: 5_000, unix: 1_700_000_000_000 };
    /// After a restart: the monotonic clock is at its start, the wall clock a minute on.
    const LATER: Now = Now { mono: 10, unix: 1_700_000_060_000 };

    fn message(expires_at: Millis) -> Arc<Message> {
        MessageRef {
            topic: "客服/1",
            payload: b"hello",
            properties: b"\x01\x01",
            expires_at,
            from: ELSEWHERE,
            qos: QoS::ExactlyOnce,
            retain: true,
            snappy: false,
        }
        .to_message()
    }

    #[test]
    fn deadlines_survive_the_clock_of_their_process() {
        assert_eq!(deadline(moment(NEVER, THEN), LATER), NEVER);
        assert_eq!(deadline(moment(5_000 + 90_000, THEN), LATER), 10 + 30_000);
        assert_eq!(deadline(moment(5_000 + 30_000, THEN), LATER), 10, "passed meanwhile");
        assert_eq!(deadline(moment(1_000, THEN), THEN), 5_000, "passed long ago");
    }

    #[test]
    fn values_come_back_as_they_were_kept_and_nothing_that_breaks_off_is_taken() {
        let mut session = Session::new("c-1".into(), 1);
        session.expiry = 120;
        session.ends_at = 5_000 + 120_000;
        session.next_number = 77;
        session.will =
            Some(Box::new(WillState { message: message(NEVER), delay: 7, expiry: Some(9), due: 5_000 }));
        let mut value = Vec::new();
        put_session(&mut value, &session, THEN);
        let read = read_session(&value, LATER).unwrap();
        assert_eq!((read.client_id, read.expiry, read.connected), ("c-1", 120, false));
        assert_eq!((read.ends_at, read.next), (10 + 60_000, 77));
        let will = read.will.unwrap();
        assert_eq!((will.delay, will.expiry, will.due), (7, Some(9), 10));
        assert_eq!(will.message.view().topic, "客服/1");
        let fixed = value.len() - b"hello".len();
        (0..fixed).for_each(|cut| assert!(read_session(&value[..cut], LATER).is_none(), "{cut}"));

        let options = SubscriptionOptions::new(2, true, true, 77);
        let mut value = Vec::new();
        put_subscription(&mut value, options);
        assert_eq!(read_subscription(&value), Some(options));

        let mut ids = SubscriptionIds::One(3);
        ids.push(Some(5));
        let delivery = Delivery {
            message: message(95_000),
            ids,
            via: None,
            qos: QoS::AtLeastOnce,
            retain: true,
            body: 0,
        };
        let mut value = Vec::new();
        put_owed(&mut value, &delivery, 65_000, THEN);
        let Some(Owed::Delivery(away, until)) = read_owed(&value, LATER) else { panic!("no delivery") };
        assert_eq!((away, until), (delivery.away(), 10));
        let read = read_delivery(&value, None, LATER).unwrap();
        assert_eq!((&read.ids, read.qos, read.retain), (&delivery.ids, QoS::AtLeastOnce, true));
        let view = read.message.view();
        assert_eq!((view.topic, view.payload, view.properties), ("客服/1", &b"hello"[..], &b"\x01\x01"[..]));
        assert_eq!((view.expires_at, view.qos, view.retain), (10 + 30_000, QoS::ExactlyOnce, true));
        let mut body = Vec::new();
        put_body(&mut body, &view, LATER);
        value.clear();
        put_owed(&mut value, &Delivery { body: 8, ..delivery }, NEVER, THEN);
        assert!(matches!(
            read_owed(&value, LATER),
            Some(Owed::Delivery(Away { body: 8, weight: 15, .. }, NEVER))
        ));
        assert_eq!(read_delivery(&value, Some(&body), LATER).unwrap().message.payload(), b"hello");
        assert!(read_delivery(&value, None, LATER).is_none(), "its body is missing");
        (0..value.len()).for_each(|cut| {
            assert!(read_delivery(&value[..cut], Some(&body), LATER).is_none(), "{cut}");
        });

        let mut value = Vec::new();
        put_retained(&mut value, &message(NEVER).view(), THEN);
        assert_eq!(read_body(&value, "a/b", LATER).unwrap().view().topic, "a/b");
        value[0] = FORM + 1;
        assert!(read_body(&value, "a/b", LATER).is_none(), "a form that is not known");
    }

    #[test]
    fn keys_sort_as_their_numbers_do() {
        assert!(session_key(255) < session_key(256));
        let key = |number| {
            let mut key = Vec::new();
            put_group_key(&mut key, "$share/g/a/#", number);
            key
        };
        assert!(key(255) < key(256));
        assert_eq!(read_group_key(&key(256)), Some(("$share/g/a/#", 256)));
    }
}
