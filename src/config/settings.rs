//! Settings, resolved: what the parts of the broker are given. (Stopgap until the configuration is merged.)
#![allow(missing_docs, reason = "replaced by the configuration")]
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings { pub shards: usize, pub listeners: Vec<ListenerSettings>, pub limits: LimitSettings, pub session: SessionSettings, pub sharing: SharingSettings, pub retained: RetainedSettings, pub http: Option<HttpSettings>, pub sys: SysSettings, pub log: LogSettings, pub routing_file: Option<PathBuf>, pub drain: Duration }
impl Default for Settings { fn default() -> Self { Self { shards: 2, listeners: vec![ListenerSettings::default()], limits: LimitSettings::default(), session: SessionSettings::default(), sharing: SharingSettings::default(), retained: RetainedSettings::default(), http: None, sys: SysSettings::default(), log: LogSettings::default(), routing_file: None, drain: Duration::from_secs(10) } } }
impl Settings { pub fn listener(&self, n: u16) -> Option<&ListenerSettings> { self.listeners.get(usize::from(n)) } }
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerSettings { pub name: String, pub bind: SocketAddr, pub allow_anonymous: bool, pub max_connections: usize, pub connect_timeout: Duration, pub accept_backlog: u32 }
impl Default for ListenerSettings { fn default() -> Self { Self { name: "tcp".into(), bind: SocketAddr::from(([127,0,0,1],1883)), allow_anonymous: true, max_connections: 1_000_000, connect_timeout: Duration::from_secs(10), accept_backlog: 4096 } } }
#[derive(Clone, Debug, PartialEq)]
pub struct LimitSettings { pub max_packet: u32, pub max_topic_levels: usize, pub max_topic_bytes: usize, pub max_client_id_bytes: usize, pub max_subscriptions_per_session: usize, pub max_connections: usize, pub max_sessions: usize }
impl Default for LimitSettings { fn default() -> Self { Self { max_packet: 1 << 20, max_topic_levels: 128, max_topic_bytes: 65535, max_client_id_bytes: 65535, max_subscriptions_per_session: 10_000, max_connections: 1_000_000, max_sessions: 2_000_000 } } }
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSettings { pub max_expiry: Duration, pub receive_maximum: u16, pub max_inflight: u16, pub queue_messages: usize, pub queue_bytes: usize, pub outbuf_bytes: usize, pub overflow: Overflow, pub topic_alias_maximum: u16, pub outgoing_topic_alias_maximum: u16, pub max_keep_alive: u16 }
impl Default for SessionSettings { fn default() -> Self { Self { max_expiry: Duration::from_secs(7*86400), receive_maximum: 1024, max_inflight: 1024, queue_messages: 1000, queue_bytes: 16 << 20, outbuf_bytes: 1 << 20, overflow: Overflow::DropNewest, topic_alias_maximum: 16, outgoing_topic_alias_maximum: 16, max_keep_alive: 0 } } }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow { DropNewest, DropOldest, Disconnect }
#[derive(Clone, Debug, PartialEq)]
pub struct SharingSettings { pub default: Strategy, pub groups: Vec<GroupRule>, pub backlog_messages: usize, pub backlog_bytes: usize }
impl Default for SharingSettings { fn default() -> Self { Self { default: Strategy::RoundRobin, groups: vec![], backlog_messages: 10_000, backlog_bytes: 64 << 20 } } }
#[derive(Clone, Debug, PartialEq)]
pub struct GroupRule { pub filter_or_name: String, pub strategy: Strategy, pub key_level: Option<usize> }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy { Sticky, RoundRobin, LeastInflight, Random }
#[derive(Clone, Debug, PartialEq)]
pub struct RetainedSettings { pub enabled: bool, pub max_messages: usize, pub max_bytes: usize }
impl Default for RetainedSettings { fn default() -> Self { Self { enabled: true, max_messages: 1_000_000, max_bytes: 1 << 30 } } }
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSettings { pub bind: SocketAddr }
#[derive(Clone, Debug, PartialEq)]
pub struct SysSettings { pub interval: Duration }
impl Default for SysSettings { fn default() -> Self { Self { interval: Duration::from_secs(10) } } }
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LogSettings { pub json: bool, pub level: String }
