//! Raw values to settings: defaults, ranges, and what two values say of each other. Pure.
//!
//! A wrong value is told and its default taken in its place, so that one run finds everything.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::limits;
use super::listener::listener;
use super::problem::{Problems, Source};
use super::raw::{RawFile, RawGroup};
use super::settings::{
    GroupRule, HttpSettings, LimitSettings, ListenerSettings, LogFormat, LogSettings, MAX_SHARDS, Overflow,
    RetainedSettings, SessionSettings, Settings, SharingSettings, StoreSettings, Strategy, SysSettings,
    cores,
};
use super::units::{show_bytes, show_duration};
use super::values::{PLENTY, Values, switch};
use crate::spelling::suggest;
use crate::telemetry;
use crate::topic::{self, FilterError, parse_filter};

/// A remaining length of 268,435,455 bytes [1.5.5] and the five bytes before it.
const LARGEST_PACKET: u64 = 268_435_460;
/// Each has a socket on each shard.
const MAX_LISTENERS: usize = 64;
/// Each may be looked at when a group gets its first member.
const MAX_GROUP_RULES: usize = 1000;
/// Session Expiry Interval 0xFFFFFFFF [3.1.2.11.2].
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

const OVERFLOWS: [(&str, Overflow); 4] = [
    ("refuse", Overflow::Refuse),
    ("drop_newest", Overflow::DropNewest),
    ("drop_oldest", Overflow::DropOldest),
    ("disconnect", Overflow::Disconnect),
];
const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// What a file comes to, and what is wrong with it beside `unread`. `desk.routing` is left out: it is another
/// file, for [`super::load`] to read. Other paths are relative to `folder`, in arguments to the working directory.
pub(super) fn resolve(
    source: &Source<'_>,
    raw: &RawFile,
    folder: Option<&Path>,
    unread: Problems,
) -> (Settings, Problems) {
    let values = Values { source, folder, problems: unread };
    let mut resolve = Resolve { raw, default: Settings::default(), values };
    let settings = resolve.settings();
    resolve.distinct_addresses(&settings);
    resolve.room_for_a_packet(&settings);
    (settings, resolve.values.problems)
}

struct Resolve<'a> {
    raw: &'a RawFile,
    default: Settings,
    values: Values<'a>,
}

/// Reads `part.key`, which is one path in the file, in the raw structure and in the settings.
macro_rules! read {
    ($self:ident.$kind:ident $part:ident.$key:ident in $allowed:expr) => {
        $self.values.$kind(
            concat!(stringify!($part), ".", stringify!($key)),
            &$self.raw.$part.$key,
            $self.default.$part.$key,
            $allowed,
        )
    };
}

/// The parts of a file.
impl Resolve<'_> {
    fn settings(&mut self) -> Settings {
        let shards = self.values.count("shards", &self.raw.shards, 0, 0..=MAX_SHARDS);
        let drain = Duration::ZERO..=10 * MINUTE;
        Settings {
            shards: if shards == 0 { cores() } else { shards },
            drain: self.values.duration("drain", &self.raw.drain, self.default.drain, drain),
            listeners: self.listeners(),
            limits: self.limits(),
            session: self.session(),
            sharing: self.sharing(),
            retained: RetainedSettings {
                enabled: switch(&self.raw.retained.enabled, self.default.retained.enabled),
                max_messages: read!(self.count retained.max_messages in 1..=1_000_000_000),
                max_bytes: read!(self.size retained.max_bytes in 1024..=PLENTY),
                cache: read!(self.size retained.cache in 0..=PLENTY),
            },
            store: self.store(),
            http: self.http(),
            sys: self.sys(),
            log: self.log(),
            routing_file: None,
        }
    }

    fn listeners(&mut self) -> Vec<ListenerSettings> {
        let mut named: Vec<_> = self.raw.listener.iter().collect();
        if named.is_empty() {
            return self.default.listeners.clone();
        }
        named.sort_by_key(|(name, _)| name.span().start);
        if let Some((first, _)) = named.get(MAX_LISTENERS) {
            let wrong = format!("{} listeners", named.len());
            self.values.problem(&first.span(), "listener", wrong, format!("at most {MAX_LISTENERS}"));
            named.truncate(MAX_LISTENERS);
        }
        named.into_iter().map(|(name, raw)| listener(&mut self.values, name, raw)).collect()
    }

    fn limits(&mut self) -> LimitSettings {
        LimitSettings {
            max_packet: read!(self.size limits.max_packet in 1024..=LARGEST_PACKET),
            max_topic_levels: read!(self.count limits.max_topic_levels in 8..=1024),
            max_topic_bytes: read!(self.size limits.max_topic_bytes in 256..=65_535),
            max_client_id_bytes: read!(self.size limits.max_client_id_bytes in 23..=65_535),
            max_subscriptions_per_session: read!(self.count limits.max_subscriptions_per_session in 1..=10_000_000),
            max_shared_subscriptions_per_session: read!(self.count limits.max_shared_subscriptions_per_session in 1..=10_000),
            max_connections: read!(self.count limits.max_connections in 1..=100_000_000),
            max_sessions: read!(self.count limits.max_sessions in 1..=1_000_000_000),
            rate: limits::rate(&mut self.values, &self.raw.limits),
            guard: limits::guard(&mut self.values, &self.raw.limits),
            overload: limits::overload(&mut self.values, &self.raw.limits),
        }
    }

    fn session(&mut self) -> SessionSettings {
        SessionSettings {
            max_expiry: read!(self.seconds session.max_expiry in NEVER),
            receive_maximum: read!(self.count session.receive_maximum in 1..=65_535),
            max_inflight: read!(self.count session.max_inflight in 1..=65_535),
            queue_messages: read!(self.count session.queue_messages in 1..=100_000_000),
            queue_bytes: read!(self.size session.queue_bytes in 1024..=PLENTY),
            queue_expiry: read!(self.seconds session.queue_expiry in NEVER),
            outbuf_bytes: read!(self.size session.outbuf_bytes in 4096..=1 << 30),
            overflow: read!(self.choice session.overflow in &OVERFLOWS),
            topic_alias_maximum: read!(self.count session.topic_alias_maximum in 0..=65_535),
            outgoing_topic_alias_maximum: read!(self.count session.outgoing_topic_alias_maximum in 0..=65_535),
            max_keep_alive: self.keep_alive(),
        }
    }

    fn keep_alive(&mut self) -> u16 {
        let default = Duration::from_secs(self.default.session.max_keep_alive.into());
        let longest = Duration::from_secs(u16::MAX.into());
        let written = &self.raw.session.max_keep_alive;
        let granted = self.values.seconds("session.max_keep_alive", written, default, longest);
        u16::try_from(granted.as_secs()).unwrap_or(u16::MAX)
    }

    fn sharing(&mut self) -> SharingSettings {
        let raw = &self.raw.sharing.group;
        let most = self.values.at_most("sharing.group", raw, MAX_GROUP_RULES, "groups");
        let mut groups: Vec<GroupRule> = Vec::with_capacity(most.len());
        for raw in most {
            let Some(rule) = self.group(raw) else { continue };
            if groups.iter().any(|first| first.filter_or_name == rule.filter_or_name)
                && let Some(word) = &raw.get_ref().matches
            {
                let wrong = format!("\"{}\" is there twice", rule.filter_or_name);
                self.values.problem(&word.span(), "sharing.group.match", wrong, "only the first would count");
            }
            groups.push(rule);
        }
        SharingSettings {
            default: read!(self.choice sharing.default in &Strategy::NAMES),
            groups,
            backlog_messages: read!(self.count sharing.backlog_messages in 1..=100_000_000),
            backlog_bytes: read!(self.size sharing.backlog_bytes in 1024..=PLENTY),
        }
    }

    /// `None` only with a problem told.
    fn group(&mut self, raw: &Spanned<RawGroup>) -> Option<GroupRule> {
        let (table, raw, values) = (raw.span(), raw.get_ref(), &mut self.values);
        let strategy =
            values.choice("sharing.group.strategy", &raw.strategy, Strategy::Sticky, &Strategy::NAMES);
        if raw.strategy.is_none() && !values.told("sharing.group.strategy") {
            let right = suggest("", &Strategy::NAMES.map(|(name, _)| name));
            values.problem(&table, "sharing.group.strategy", "missing", right);
        }
        let key_level = raw.key_level.as_ref().map(|level| {
            if strategy != Strategy::Sticky {
                let right = "only strategy = \"sticky\" has a key";
                values.problem(&level.span(), "sharing.group.key_level", "not used", right);
            }
            values.count("sharing.group.key_level", &raw.key_level, 1, 1..=1024)
        });
        let Some(word) = &raw.matches else {
            if !values.told("sharing.group.match") {
                let right = "the name of a shared subscription's group, or its topic filter";
                values.problem(&table, "sharing.group.match", "missing", right);
            }
            return None;
        };
        if let Err(right) = check_match(word.get_ref()) {
            let wrong = format!("{:?} is neither a group's name nor a topic filter", word.get_ref());
            values.problem(&word.span(), "sharing.group.match", wrong, right);
            return None;
        }
        Some(GroupRule { filter_or_name: word.get_ref().clone(), strategy, key_level })
    }

    fn store(&mut self) -> StoreSettings {
        let directory = self.raw.store.directory.as_ref().map(|written| written.get_ref().as_str());
        StoreSettings {
            directory: directory.filter(|path| !path.is_empty()).map(PathBuf::from),
            commit_interval: read!(self.duration store.commit_interval in Duration::ZERO..=SECOND),
            commit_batch: read!(self.size store.commit_batch in 4096..=1 << 30),
            cache: read!(self.size store.cache in 1 << 20..=PLENTY),
            max_bytes: read!(self.size store.max_bytes in 1 << 20..=PLENTY),
        }
    }

    fn http(&mut self) -> Option<HttpSettings> {
        let bind = self.values.address("http.bind", &self.raw.http.bind, HttpSettings::default().bind);
        switch(&self.raw.http.enabled, true).then_some(HttpSettings { bind })
    }

    fn sys(&mut self) -> SysSettings {
        let interval = read!(self.duration sys.interval in Duration::ZERO..=60 * MINUTE);
        if let Some(written) = &self.raw.sys.interval
            && !interval.is_zero()
            && interval < SECOND
        {
            let wrong = format!("{} is not allowed", show_duration(interval));
            self.values.problem(&written.span(), "sys.interval", wrong, "0s, or 1s to 1h");
        }
        SysSettings { interval }
    }

    fn log(&mut self) -> LogSettings {
        let format = read!(self.choice log.format in &FORMATS);
        let Some(level) = &self.raw.log.level else {
            return LogSettings { format, ..self.default.log.clone() };
        };
        if let Err(error) = telemetry::filter(level.get_ref()) {
            self.values.problem(&level.span(), "log.level", error.to_string(), error.right());
        }
        LogSettings { format, level: level.get_ref().clone() }
    }
}

/// What two values say of each other.
impl Resolve<'_> {
    /// No two doors on one address: `SO_REUSEPORT` would deal the clients out between them.
    fn distinct_addresses(&mut self, settings: &Settings) {
        let mut taken: Vec<(String, SocketAddr)> = Vec::new();
        let mut doors: Vec<_> = settings
            .listeners
            .iter()
            .map(|listener| {
                let raw = self.raw.listener.iter().find(|(name, _)| *name.get_ref() == listener.name);
                let written = raw.and_then(|(_, raw)| raw.bind.as_ref());
                (format!("listener.{}", listener.name), listener.bind, written)
            })
            .collect();
        doors.extend(
            settings.http.as_ref().map(|http| ("http".into(), http.bind, self.raw.http.bind.as_ref())),
        );
        // A default stands nowhere in the file: it comes first, so that the value that takes its place is told.
        doors.sort_by_key(|(_, _, written)| written.is_some());
        // One that was wrong stands here as the default, which nobody asked for.
        doors.retain(|(door, _, _)| !self.values.told(&format!("{door}.bind")));
        for (door, bind, written) in doors {
            let first = taken.iter().find(|(_, other)| *other == bind && bind.port() != 0);
            if let (Some((first, _)), Some(written)) = (first, written) {
                let wrong = format!("{bind} is taken by {first}.bind");
                let right = "another address or port";
                self.values.problem(&written.span(), &format!("{door}.bind"), wrong, right);
            }
            taken.push((door, bind));
        }
    }

    /// A queue that cannot hold one packet of the size allowed would drop it each time.
    fn room_for_a_packet(&mut self, settings: &Settings) {
        let raw = self.raw;
        let packet = u64::from(settings.limits.max_packet);
        let queues = [
            ("session.queue_bytes", &raw.session.queue_bytes, settings.session.queue_bytes),
            ("sharing.backlog_bytes", &raw.sharing.backlog_bytes, settings.sharing.backlog_bytes),
        ];
        for (key, written, room) in queues {
            let room = room as u64;
            let place = written.as_ref().or(raw.limits.max_packet.as_ref());
            if let (true, Some(place)) = (room < packet, place) {
                let wrong = format!("{} cannot hold one packet", show_bytes(room));
                let right = format!("limits.max_packet ({}) or more", show_bytes(packet));
                self.values.problem(&place.span(), key, wrong, right);
            }
        }
    }
}

/// What would be right of a text that can be neither a `ShareName` nor a Topic Filter. Every `ShareName` is a filter
/// too: of one level, without a wildcard.
fn check_match(text: &str) -> Result<(), String> {
    // `limits` are of what clients send; a group that they leave nobody to join does no harm.
    let limits = topic::Limits { max_levels: usize::MAX, max_bytes: 65_535 };
    match parse_filter(text, &limits) {
        Ok(parsed) if parsed.share.is_none() => Ok(()),
        Ok(_) | Err(FilterError::Share) => Err("what follows $share/NAME/, or NAME".to_owned()),
        Err(FilterError::Empty | FilterError::Limit(_)) => Err("1 to 65535 bytes".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
