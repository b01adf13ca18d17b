//! `conf/switchboard.toml` as written: every key may be missing, every value knows where it stands.
//!
//! Flat structures only: within `tag`, `flatten` or `untagged` ones a value's place in the file is lost. Counts
//! are taken as any whole number, so that one out of range is told like all others, by [`super::resolve`].

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::units::Quantity;

pub(super) type Count = Option<Spanned<i64>>;
pub(super) type Measured = Option<Spanned<Quantity>>;
pub(super) type Word = Option<Spanned<String>>;
pub(super) type Switch = Option<Spanned<bool>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawFile {
    pub(super) shards: Count,
    pub(super) drain: Measured,
    pub(super) listener: BTreeMap<Spanned<String>, RawListener>,
    pub(super) limits: RawLimits,
    pub(super) session: RawSession,
    pub(super) sharing: RawSharing,
    pub(super) retained: RawRetained,
    pub(super) store: RawStore,
    pub(super) http: RawHttp,
    pub(super) sys: RawSys,
    pub(super) log: RawLog,
    pub(super) desk: RawDesk,
    pub(super) auth: RawAuth,
    pub(super) acl: RawAcl,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawListener {
    pub(super) bind: Word,
    pub(super) allow_anonymous: Switch,
    pub(super) max_connections: Count,
    pub(super) connect_timeout: Measured,
    pub(super) accept_backlog: Count,
    pub(super) authentication: Vec<Spanned<String>>,
    pub(super) accept_rate: Count,
    pub(super) max_handshakes: Count,
    pub(super) tls: Option<RawTls>,
    pub(super) websocket: Option<RawWebSocket>,
    pub(super) proxy: Option<RawProxy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawTls {
    pub(super) certificate: Word,
    pub(super) key: Word,
    pub(super) further: Vec<Spanned<RawCertificate>>,
    pub(super) oldest: Word,
    pub(super) client_certificate: Word,
    pub(super) client_ca: Word,
    pub(super) client_crl: Word,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawCertificate {
    pub(super) certificate: Word,
    pub(super) key: Word,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawWebSocket {
    pub(super) path: Word,
    pub(super) origins: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawProxy {
    pub(super) from: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawLimits {
    pub(super) max_packet: Measured,
    pub(super) max_topic_levels: Count,
    pub(super) max_topic_bytes: Measured,
    pub(super) max_client_id_bytes: Measured,
    pub(super) max_subscriptions_per_session: Count,
    pub(super) max_shared_subscriptions_per_session: Count,
    pub(super) max_connections: Count,
    pub(super) max_sessions: Count,
    pub(super) message_rate: Count,
    pub(super) message_burst: Count,
    pub(super) byte_rate: Measured,
    pub(super) byte_burst: Measured,
    pub(super) rate_patience: Measured,
    pub(super) address_connections: Count,
    pub(super) address_connects: Count,
    pub(super) address_failed_logins: Count,
    pub(super) address_ban: Measured,
    pub(super) client_connects: Count,
    pub(super) client_ban: Measured,
    pub(super) overload_drift: Measured,
    pub(super) overload_redirect: Word,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawSession {
    pub(super) max_expiry: Measured,
    pub(super) receive_maximum: Count,
    pub(super) max_inflight: Count,
    pub(super) queue_messages: Count,
    pub(super) queue_bytes: Measured,
    pub(super) queue_expiry: Measured,
    pub(super) outbuf_bytes: Measured,
    pub(super) overflow: Word,
    pub(super) topic_alias_maximum: Count,
    pub(super) outgoing_topic_alias_maximum: Count,
    pub(super) max_keep_alive: Measured,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawSharing {
    pub(super) default: Word,
    pub(super) backlog_messages: Count,
    pub(super) backlog_bytes: Measured,
    pub(super) group: Vec<Spanned<RawGroup>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawGroup {
    #[serde(rename = "match")]
    pub(super) matches: Word,
    pub(super) strategy: Word,
    pub(super) key_level: Count,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawRetained {
    pub(super) enabled: Switch,
    pub(super) max_messages: Count,
    pub(super) max_bytes: Measured,
    pub(super) cache: Measured,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawStore {
    pub(super) directory: Word,
    pub(super) commit_interval: Measured,
    pub(super) commit_batch: Measured,
    pub(super) cache: Measured,
    pub(super) max_bytes: Measured,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawHttp {
    pub(super) enabled: Switch,
    pub(super) bind: Word,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawSys {
    pub(super) interval: Measured,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawLog {
    pub(super) format: Word,
    pub(super) level: Word,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawDesk {
    pub(super) routing: Word,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawAcl {
    pub(super) file: Word,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawAuth {
    pub(super) users: Word,
    pub(super) jwt: Option<Spanned<RawJwt>>,
    pub(super) certificate: Option<Spanned<RawIdentity>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawJwt {
    pub(super) secret: Word,
    pub(super) public_key: Word,
    pub(super) key_set: Word,
    pub(super) issuer: Word,
    pub(super) audience: Word,
    pub(super) leeway: Measured,
    pub(super) role_claim: Word,
    pub(super) tenant_claim: Word,
    pub(super) id_claim: Word,
    pub(super) groups_claim: Word,
    pub(super) role: Word,
    pub(super) tenant: Word,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawIdentity {
    pub(super) role: Word,
    pub(super) tenant: Word,
}
