//! Tenants' time zones and groups: from raw values to what the desk wants.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use jiff::tz::TimeZone;
use toml::Spanned;

use super::Resolve;
use super::raw::{RawChannel, RawGroup};
use crate::config::raw::Count;
use crate::config::values::PLENTY;
use crate::desk::{Day, Group, Strategy};
use crate::spelling::{closest, suggest};

/// How many messages a group's backlog holds if the file does not say.
const BACKLOG_MESSAGES: u32 = 10_000;
/// How many bytes a group's backlog holds if the file does not say.
const BACKLOG_BYTES: u64 = 64 << 20;

/// The default key level, and the last level of a queue topic: the customer.
const CUSTOMER_LEVEL: u8 = 7;

const MAX_CHANNELS: usize = 64;

/// How a group works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Shared,
    Assigned,
}

impl Mode {
    const NAMES: [(&'static str, Self); 2] = [("shared", Self::Shared), ("assigned", Self::Assigned)];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Assigned => "assigned",
        }
    }
}

impl Resolve<'_> {
    pub(super) fn zone(&mut self, zone: Option<&Spanned<String>>) -> Option<TimeZone> {
        let Some(zone) = zone else { return Some(TimeZone::UTC) };
        let name = zone.get_ref();
        // A name of the IANA database; jiff would also take what is empty or relative to a file.
        let found = if name.is_empty() { None } else { TimeZone::get(name).ok() };
        if found.is_none() {
            let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
            let near = closest(name, known.iter().map(String::as_str));
            let right = near.map_or_else(
                || "an IANA name such as \"Europe/Berlin\"".to_owned(),
                |near| format!("did you mean \"{near}\"?"),
            );
            self.values.problem(
                &zone.span(),
                "tenant.time_zone",
                format!("\"{name}\" is no known time zone"),
                right,
            );
        }
        found
    }

    pub(super) fn group(
        &mut self,
        raw: &Spanned<RawGroup>,
        names: &mut HashMap<String, u32>,
        holidays: &BTreeSet<Day>,
    ) -> Option<Group> {
        let (table, raw) = (raw.span(), raw.get_ref());
        let name = self.name(&table, raw.name.as_ref(), "tenant.group.name", "e.g. \"sales\"", names);
        let mode = self.mode(&table, raw);
        let values = &mut self.values;
        let strategy =
            values.choice("tenant.group.strategy", &raw.strategy, Strategy::Sticky, &Strategy::NAMES);
        let key_level = self.key_level(&raw.key_level, strategy);
        let values = &mut self.values;
        let backlog_messages = values.count(
            "tenant.group.backlog_messages",
            &raw.backlog_messages,
            BACKLOG_MESSAGES,
            1..=100_000_000,
        );
        let backlog_bytes =
            values.size("tenant.group.backlog_bytes", &raw.backlog_bytes, BACKLOG_BYTES, 1024..=PLENTY);
        let settings = self.assigned(raw, holidays);
        let assigned = (mode == Some(Mode::Assigned)).then(|| Arc::new(settings));
        Some(Group { name: name?, assigned, strategy, key_level, backlog_messages, backlog_bytes })
    }

    /// The weights of channels by name.
    pub(super) fn channels(&mut self, raw: &[Spanned<RawChannel>]) -> Vec<(Arc<str>, u32)> {
        let mut names = HashMap::new();
        let taken = self.values.at_most("tenant.channel", raw, MAX_CHANNELS, "channels in a tenant");
        taken.iter().filter_map(|channel| self.channel(channel, &mut names)).collect()
    }

    fn channel(
        &mut self,
        raw: &Spanned<RawChannel>,
        names: &mut HashMap<String, u32>,
    ) -> Option<(Arc<str>, u32)> {
        let (table, raw) = (raw.span(), raw.get_ref());
        let name = self.name(&table, raw.name.as_ref(), "tenant.channel.name", "e.g. \"voice\"", names);
        let weight = self.values.count("tenant.channel.weight", &raw.weight, 1, 1..=1000);
        Some((name?, weight))
    }

    /// The mode of a group, and a problem with each key of the other one.
    fn mode(&mut self, table: &Range<usize>, raw: &RawGroup) -> Option<Mode> {
        let mode = self.mode_of(table, raw);
        if let (None, Some(word)) = (mode, &raw.mode) {
            let wrong = format!("\"{}\" is no mode", word.get_ref());
            let right = suggest(word.get_ref(), &Mode::NAMES.map(|(name, _)| name));
            self.values.problem(&word.span(), "tenant.group.mode", wrong, right);
        }
        let mode = mode?;
        let (other, misplaced) = match mode {
            Mode::Shared => (Mode::Assigned, keys_of_assigned(raw)),
            Mode::Assigned => (Mode::Shared, keys_of_shared(raw)),
        };
        for (key, span) in misplaced {
            let wrong = format!("a group in {} mode has none", mode.name());
            let right = format!("remove it, or mode = \"{}\"", other.name());
            self.values.problem(&span, &format!("tenant.group.{key}"), wrong, right);
        }
        Some(mode)
    }

    /// The mode of a group; `None` if what stands there is none.
    pub(super) fn mode_of(&self, table: &Range<usize>, raw: &RawGroup) -> Option<Mode> {
        let Some(mode) = &raw.mode else {
            return (!self.is_unread(table, "tenant.group.mode")).then_some(Mode::Shared);
        };
        Mode::NAMES.iter().find(|(name, _)| name == mode.get_ref()).map(|(_, mode)| *mode)
    }

    fn key_level(&mut self, level: &Count, strategy: Strategy) -> u8 {
        let key = "tenant.group.key_level";
        if let Some(level) = level
            && strategy != Strategy::Sticky
        {
            let wrong = format!("strategy \"{}\" has no key", strategy.name());
            self.values.problem(&level.span(), key, wrong, "remove it, or strategy = \"sticky\"");
        }
        self.values.count(key, level, CUSTOMER_LEVEL, 1..=CUSTOMER_LEVEL)
    }
}

/// What is there of the keys that only `shared` mode has.
fn keys_of_shared(raw: &RawGroup) -> Vec<(&'static str, Range<usize>)> {
    let keys = [
        ("strategy", raw.strategy.as_ref().map(Spanned::span)),
        ("key_level", raw.key_level.as_ref().map(Spanned::span)),
        ("backlog_messages", raw.backlog_messages.as_ref().map(Spanned::span)),
        ("backlog_bytes", raw.backlog_bytes.as_ref().map(Spanned::span)),
    ];
    keys.into_iter().filter_map(|(key, span)| Some((key, span?))).collect()
}

/// What is there of the tables that only `assigned` mode has.
fn keys_of_assigned(raw: &RawGroup) -> Vec<(&'static str, Range<usize>)> {
    let keys = [
        ("assigned", raw.assigned.as_ref().map(Spanned::span)),
        ("order", raw.order.as_ref().map(Spanned::span)),
        ("weights", raw.weights.as_ref().map(Spanned::span)),
        ("model", raw.model.as_ref().map(Spanned::span)),
        ("step", raw.step.first().map(Spanned::span)),
        ("hours", raw.hours.as_ref().map(Spanned::span)),
    ];
    keys.into_iter().filter_map(|(key, span)| Some((key, span?))).collect()
}
