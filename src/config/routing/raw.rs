//! `conf/routing.toml` as written: every key may be missing, every value knows where it stands.

use serde::Deserialize;
use toml::Spanned;

use crate::config::raw::{Count, Measured, Word};

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
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRule {
    pub(super) name: Word,
    pub(super) when: Word,
    pub(super) group: Word,
    pub(super) priority: Count,
    pub(super) skills: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) fallback: Word,
}
