//! `conf/routing.toml` as written: every key may be missing, every value knows where it stands.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use crate::config::raw::{Count, Measured, Switch, Word};

pub(super) type List = Option<Spanned<Vec<Spanned<String>>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFile {
    pub(super) tenant: Vec<Spanned<RawTenant>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTenant {
    pub(super) name: Word,
    pub(super) time_zone: Word,
    pub(super) group: Vec<Spanned<RawGroup>>,
    pub(super) rule: Vec<Spanned<RawRule>>,
    pub(super) context: RawContext,
    pub(super) channel: Vec<Spanned<RawChannel>>,
    pub(super) holidays: RawHolidays,
    pub(super) transcript: RawTranscript,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawTranscript {
    pub(super) keep: Measured,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawChannel {
    pub(super) name: Word,
    pub(super) weight: Count,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawHolidays {
    pub(super) closed_on: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawContext {
    pub(super) max_bytes: Measured,
    pub(super) ttl: Measured,
    pub(super) field: Option<Vec<Spanned<RawField>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawField {
    #[serde(rename = "match")]
    pub(super) matches: Word,
    pub(super) ttl: Measured,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGroup {
    pub(super) name: Word,
    pub(super) mode: Word,
    pub(super) strategy: Word,
    pub(super) key_level: Count,
    pub(super) backlog_messages: Count,
    pub(super) backlog_bytes: Measured,
    pub(super) assigned: Option<Spanned<RawAssigned>>,
    pub(super) order: Option<Spanned<RawOrder>>,
    pub(super) weights: Option<Spanned<RawWeights>>,
    pub(super) model: Option<Spanned<RawModel>>,
    pub(super) step: Vec<Spanned<RawStep>>,
    pub(super) hours: Option<Spanned<RawHours>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawAssigned {
    pub(super) offer: Measured,
    pub(super) auto_accept: Switch,
    pub(super) lapses: Count,
    pub(super) reject: Measured,
    pub(super) grace: Measured,
    pub(super) wrapup: Measured,
    pub(super) sticky: Measured,
    pub(super) affinity: Measured,
    pub(super) max_queue: Count,
    pub(super) max_wait: Measured,
    pub(super) full_group: Word,
    pub(super) full_text: Word,
    pub(super) closed_group: Word,
    pub(super) closed_text: Word,
    pub(super) expired_group: Word,
    pub(super) expired_text: Word,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawOrder {
    pub(super) priority_weight: Count,
    pub(super) ageing: Count,
    pub(super) urgency: Count,
    pub(super) target: Measured,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawWeights {
    pub(super) skill: Count,
    pub(super) spare: Count,
    pub(super) idle: Count,
    pub(super) affinity: Count,
    pub(super) language: Count,
    pub(super) model: Count,
    pub(super) idle_full: Measured,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawModel {
    pub(super) file: Word,
    pub(super) features: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStep {
    pub(super) after: Measured,
    pub(super) drop_skill: Word,
    pub(super) add_group: Word,
    pub(super) raise_priority: Count,
    pub(super) move_to: Word,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRule {
    pub(super) name: Word,
    pub(super) when: Word,
    pub(super) group: Word,
    pub(super) priority: Count,
    pub(super) skills: List,
    pub(super) fallback: Word,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawHours {
    pub(super) monday: Word,
    pub(super) tuesday: Word,
    pub(super) wednesday: Word,
    pub(super) thursday: Word,
    pub(super) friday: Word,
    pub(super) saturday: Word,
    pub(super) sunday: Word,
    pub(super) closed_on: List,
    pub(super) open_on: BTreeMap<Spanned<String>, Spanned<String>>,
}
