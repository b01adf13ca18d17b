//! Tenants' time zones and groups: from raw values to what the desk wants.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use toml::Spanned;

use super::Resolve;
use super::raw::RawGroup;
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
            self.problem(
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
        let strategy = self.strategy(raw.strategy.as_ref());
        let key_level = self.key_level(raw.key_level.as_ref(), strategy);
        let messages = raw.backlog_messages.as_ref();
        let backlog_messages =
            self.number(messages, "tenant.group.backlog_messages", 1, u32::MAX, BACKLOG_MESSAGES);
        let backlog_bytes = self.bytes(raw.backlog_bytes.as_ref());
        Some(Group { name: name?, strategy: strategy?, key_level, backlog_messages, backlog_bytes })
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
        self.problem(&mode.span(), "tenant.group.mode", wrong, right);
    }

    fn strategy(&mut self, strategy: Option<&Spanned<String>>) -> Option<Strategy> {
        let Some(strategy) = strategy else { return Some(Strategy::Sticky) };
        let name = strategy.get_ref().as_str();
        let found = Strategy::NAMES.iter().find(|(known, _)| *known == name).map(|(_, strategy)| *strategy);
        if found.is_none() {
            let right = suggest(name, &Strategy::NAMES.map(|(known, _)| known));
            self.problem(
                &strategy.span(),
                "tenant.group.strategy",
                format!("\"{name}\" is no strategy"),
                right,
            );
        }
        found
    }

    fn key_level(&mut self, level: Option<&Spanned<i64>>, strategy: Option<Strategy>) -> u8 {
        let key = "tenant.group.key_level";
        if let (Some(level), Some(strategy)) = (level, strategy)
            && strategy != Strategy::Sticky
        {
            let wrong = format!("strategy \"{}\" has no key", strategy.name());
            self.problem(&level.span(), key, wrong, "remove it, or strategy = \"sticky\"");
        }
        self.number(level, key, 1, CUSTOMER_LEVEL, CUSTOMER_LEVEL)
    }

    fn bytes(&mut self, value: Option<&Spanned<String>>) -> u64 {
        let Some(value) = value else { return BACKLOG_BYTES };
        match bytes(value.get_ref()) {
            Some(bytes) if bytes > 0 => bytes,
            parsed => {
                let text = value.get_ref();
                let what = if parsed.is_some() { "is not allowed" } else { "is no number of bytes" };
                let right = "a whole number, 1 or more, with B, KiB, MiB or GiB: \"64MiB\"";
                self.problem(
                    &value.span(),
                    "tenant.group.backlog_bytes",
                    format!("\"{text}\" {what}"),
                    right,
                );
                BACKLOG_BYTES
            }
        }
    }
}

/// `64MiB` as a number of bytes; the unit may be left out. `None` if it is no such number or too large.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}
