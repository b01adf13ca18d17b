//! `conf/routing.toml` as written: every key may be missing, every value knows where it stands.

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFile {
    pub(super) tenant: Vec<Spanned<RawTenant>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTenant {
    pub(super) name: Option<Spanned<String>>,
    pub(super) time_zone: Option<Spanned<String>>,
    pub(super) group: Vec<Spanned<RawGroup>>,
    pub(super) rule: Vec<Spanned<RawRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGroup {
    pub(super) name: Option<Spanned<String>>,
    pub(super) mode: Option<Spanned<String>>,
    pub(super) strategy: Option<Spanned<String>>,
    pub(super) key_level: Option<Spanned<i64>>,
    pub(super) backlog_messages: Option<Spanned<i64>>,
    pub(super) backlog_bytes: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRule {
    pub(super) name: Option<Spanned<String>>,
    pub(super) when: Option<Spanned<String>>,
    pub(super) group: Option<Spanned<String>>,
    pub(super) priority: Option<Spanned<i64>>,
    pub(super) skills: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) fallback: Option<Spanned<String>>,
}
