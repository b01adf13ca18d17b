//! Tenants' time zones and groups: from raw values to what the desk wants.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use toml::Spanned;

use super::Resolve;
use super::raw::RawGroup;
use crate::config::raw::Count;
use crate::config::values::PLENTY;
use crate::desk::{Group, Strategy};
use crate::spelling::{closest, suggest};

/// How many messages a group's backlog holds if the file does not say.
const BACKLOG_MESSAGES: u32 = 10_000;
/// How many bytes a group's backlog holds if the file does not say.
const BACKLOG_BYTES: u64 = 64 << 20;

/// The default key level, and the last level of a queue topic: the customer.
const CUSTOMER_LEVEL: u8 = 7;

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
    ) -> Option<Group> {
        let (table, raw) = (raw.span(), raw.get_ref());
        let name = self.name(&table, raw.name.as_ref(), "tenant.group.name", "e.g. \"sales\"", names);
        self.mode(raw.mode.as_ref());
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
        Some(Group { name: name?, strategy, key_level, backlog_messages, backlog_bytes })
    }

    fn mode(&mut self, mode: Option<&Spanned<String>>) {
        let Some(mode) = mode else { return };
        let (wrong, right) = match mode.get_ref().as_str() {
            "shared" => return,
            "assigned" => (
                "\"assigned\" is not possible: this version routes in `shared` mode only".to_owned(),
                "mode = \"shared\"".to_owned(),
            ),
            other => (format!("\"{other}\" is no mode"), suggest(other, &["shared"])),
        };
        self.values.problem(&mode.span(), "tenant.group.mode", wrong, right);
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
