//! What each part of the broker is given: plain values with their defaults, already checked.
//!
//! Nothing here knows TOML; [`super::load`] makes these from `conf/switchboard.toml`, tests make them by hand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use crate::desk::Strategy;

/// Everything a server is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Threads that serve clients, at least 1. `shards = 0` in a file stands for one per core and arrives here
    /// as their number.
    pub shards: usize,
    /// How long a drain may take: stop accepting, DISCONNECT, flush.
    pub drain: Duration,
    /// Where clients come in, in the order of the file; at least one, each name and address once.
    pub listeners: Vec<ListenerSettings>,
    /// Bounds on what clients may send and on how many there may be.
    pub limits: LimitSettings,
    /// What a session may keep and have under way.
    pub session: SessionSettings,
    /// How shared subscriptions choose a member.
    pub sharing: SharingSettings,
    /// Retained messages.
    pub retained: RetainedSettings,
    /// What outlives the process.
    pub store: StoreSettings,
    /// Metrics and health over HTTP; `None` opens no such listener.
    pub http: Option<HttpSettings>,
    /// The `$SYS` topics.
    pub sys: SysSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// The routing rules of the desk; `None` leaves desk topics without rules.
    pub routing_file: Option<PathBuf>,
}

impl Settings {
    /// Listener number `n`, counted from 0.
    pub fn listener(&self, n: u16) -> Option<&ListenerSettings> {
        self.listeners.get(usize::from(n))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shards: cores(),
            drain: Duration::from_secs(10),
            listeners: vec![ListenerSettings::default()],
            limits: LimitSettings::default(),
            session: SessionSettings::default(),
            sharing: SharingSettings::default(),
            retained: RetainedSettings::default(),
            store: StoreSettings::default(),
            http: Some(HttpSettings::default()),
            sys: SysSettings::default(),
            log: LogSettings::default(),
            routing_file: None,
        }
    }
}

/// The most shards a server can have; a set of shards is one machine word.
pub const MAX_SHARDS: usize = 63;

/// One shard for each core that this process may use, at most [`MAX_SHARDS`].
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_SHARDS)
}

/// A door for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// The NAME of `[listener.NAME]`: a label in logs and metrics.
    pub name: String,
    /// Address to listen on; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Whether clients without a user name are let in. Without a word in the file: only if `bind` is a
    /// loopback address.
    pub allow_anonymous: bool,
    /// Connections at the same time.
    pub max_connections: usize,
    /// How long after the connection was accepted its CONNECT must be there whole.
    pub connect_timeout: Duration,
    /// Connections that the system keeps ready to be accepted, per shard.
    pub accept_backlog: u32,
    /// How clients prove who they are, the first that knows one decides; none: nobody is asked.
    pub authentication: Vec<AuthMethod>,
    /// Connections that are accepted in a second, over all shards; 0: as many as come.
    pub accept_rate: u32,
    /// Connections whose CONNECT has not come, over all shards; 0: no bound.
    pub max_handshakes: usize,
    /// TLS; `None`: plain text.
    pub tls: Option<TlsSettings>,
    /// MQTT within WebSocket; `None`: MQTT itself.
    pub websocket: Option<WebSocketSettings>,
    /// Every connection begins with a PROXY protocol header that says who it really is; `None`: none does.
    pub proxy: Option<ProxySettings>,
}

/// How clients prove who they are; `[auth]` says more of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// A name and a password.
    Users,
    /// A signed token as password.
    Jwt,
    /// A certificate in the TLS handshake.
    Certificate,
}

/// How a listener speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// For clients that ask for no name, or for one that no other has.
    pub certificate: CertificateFiles,
    /// For clients that ask for a name in one of these (SNI, RFC 6066).
    pub further: Vec<CertificateFiles>,
    /// The oldest version spoken.
    pub oldest: TlsVersion,
    /// Whether clients show certificates.
    pub client_certificate: ClientCertificate,
    /// Who may have issued those; PEM.
    pub client_ca: Option<PathBuf>,
    /// Which of those are revoked; PEM, each signed by one of the former.
    pub client_crl: Option<PathBuf>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then those that lead to its root; PEM.
    pub certificate: PathBuf,
    /// PEM: PKCS #8, PKCS #1 or SEC1.
    pub key: PathBuf,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2, with forward secrecy and authenticated encryption only.
    V12,
    /// 1.3
    V13,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Nobody is asked.
    None,
    /// Everybody is asked; a wrong one is refused, none is not.
    Optional,
    /// Nobody comes in without.
    Required,
}

/// How a listener speaks WebSocket (RFC 6455).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketSettings {
    /// Path of the request.
    pub path: String,
    /// Pages whose scripts may connect, as browsers say it in `Origin`; empty: all. Clients that are no browsers say none.
    pub origins: Vec<String>,
}

impl Default for WebSocketSettings {
    fn default() -> Self {
        Self { path: "/mqtt".to_owned(), origins: Vec::new() }
    }
}

/// From whom a listener takes PROXY protocol headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// Everybody else is refused.
    pub from: Vec<IpNet>,
}

impl Default for ListenerSettings {
    /// Plain MQTT on 127.0.0.1:1883.
    fn default() -> Self {
        Self {
            name: "tcp".to_owned(),
            bind: SocketAddr::from(([127, 0, 0, 1], 1883)),
            allow_anonymous: true,
            max_connections: 1_000_000,
            connect_timeout: Duration::from_secs(10),
            accept_backlog: 4096,
            authentication: Vec::new(),
            accept_rate: 0,
            max_handshakes: 0,
            tls: None,
            websocket: None,
            proxy: None,
        }
    }
}

/// Bounds on what one client may send, and on how many clients there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// Bytes of a whole MQTT packet, its header among them; announced to MQTT 5 clients as Maximum Packet Size.
    pub max_packet: u32,
    /// Levels of a topic name or filter.
    pub max_topic_levels: usize,
    /// Bytes of a topic name or filter, at most 65,535.
    pub max_topic_bytes: usize,
    /// Bytes of a Client Identifier, 23 [MQTT-3.1.3-5] to 65,535.
    pub max_client_id_bytes: usize,
    /// Subscriptions of one session.
    pub max_subscriptions_per_session: usize,
    /// Shared subscriptions of one session.
    pub max_shared_subscriptions_per_session: usize,
    /// Connections over all listeners.
    pub max_connections: usize,
    /// Sessions, connected or not.
    pub max_sessions: usize,
    /// How fast one client may send.
    pub rate: RateSettings,
    /// How often clients may come, by address and by client id.
    pub guard: GuardSettings,
    /// When a shard lets nobody new in.
    pub overload: OverloadSettings,
}

/// When a shard lets nobody new in, because it cannot serve in time those who are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverloadSettings {
    /// So late its loop is then; zero: never.
    pub drift: Duration,
    /// The server that MQTT 5 clients are told to go to; empty: none.
    pub redirect: String,
}

impl Default for OverloadSettings {
    fn default() -> Self {
        Self { drift: Duration::from_millis(500), redirect: String::new() }
    }
}

/// How often clients may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardSettings {
    /// Connections of one address at the same time; 0: no bound. Of IPv6, a network of 64 bits is an address.
    pub connections: usize,
    /// Connections that one address may make in a minute; 0: no bound.
    pub connects: u32,
    /// Logins from one address that may be wrong in a minute; 0: no bound.
    pub failed_logins: u32,
    /// How long nobody is let in from an address with more.
    pub ban: Duration,
    /// Times that one client id may connect in a minute; 0: no bound.
    pub client_connects: u32,
    /// How long one that does so more often is refused.
    pub client_ban: Duration,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            connections: 0,
            connects: 0,
            failed_logins: 0,
            ban: Duration::from_mins(10),
            client_connects: 0,
            client_ban: Duration::from_mins(1),
        }
    }
}

/// How fast one client may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateSettings {
    /// PUBLISH packets a second; 0: as many as come.
    pub messages: u32,
    /// As many at once; 0: as many as in a second.
    pub message_burst: u32,
    /// Bytes of all its packets a second; 0: as many as come.
    pub bytes: u64,
    /// As many at once; 0: as many as in a second.
    pub byte_burst: u64,
    /// How long a client that is held to its rate may go on sending faster; zero: for ever.
    pub patience: Duration,
}

impl Default for RateSettings {
    fn default() -> Self {
        Self { messages: 0, message_burst: 0, bytes: 0, byte_burst: 0, patience: Duration::from_secs(30) }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            max_packet: 1 << 20,
            max_topic_levels: 128,
            max_topic_bytes: 65_535,
            max_client_id_bytes: 1024,
            max_subscriptions_per_session: 10_000,
            max_shared_subscriptions_per_session: 100,
            max_connections: 1_000_000,
            max_sessions: 2_000_000,
            rate: RateSettings::default(),
            guard: GuardSettings::default(),
            overload: OverloadSettings::default(),
        }
    }
}

/// What a session may keep and have under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// The longest Session Expiry Interval granted, whole seconds; persistent sessions of 3.1.1 clients
    /// (clean session 0) get it. `u32::MAX` seconds means never [3.1.2.11.2].
    pub max_expiry: Duration,
    /// QoS 1 and 2 messages that a client may have under way to us; announced as Receive Maximum.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages under way to a client, whatever Receive Maximum it announces.
    pub max_inflight: u16,
    /// QoS 1 and 2 messages that wait for one session, connected or not.
    pub queue_messages: usize,
    /// Bytes of those.
    pub queue_bytes: usize,
    /// The longest that a message waits for a session, whatever its own expiry; zero: as long as that.
    pub queue_expiry: Duration,
    /// Bytes not yet taken by a connected client's socket, from which on QoS 0 is dropped and QoS 1 and 2 wait.
    pub outbuf_bytes: usize,
    /// What happens when a QoS 1 or 2 message finds the queue full.
    pub overflow: Overflow,
    /// Topic aliases that a client may use to us; 0 allows none.
    pub topic_alias_maximum: u16,
    /// Topic aliases that we use to a client that allows them; 0 uses none.
    pub outgoing_topic_alias_maximum: u16,
    /// The longest keep-alive granted to MQTT 5 clients, in seconds (Server Keep Alive); 0 grants any.
    pub max_keep_alive: u16,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            max_expiry: Duration::from_hours(7 * 24),
            receive_maximum: 1024,
            max_inflight: 1024,
            queue_messages: 1000,
            queue_bytes: 16 << 20,
            queue_expiry: Duration::ZERO,
            outbuf_bytes: 1 << 20,
            overflow: Overflow::Refuse,
            topic_alias_maximum: 16,
            outgoing_topic_alias_maximum: 16,
            max_keep_alive: 0,
        }
    }
}

/// What gives way when a session's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The message that arrives: its publisher is told if nobody could take it.
    Refuse,
    /// The message that arrives, and nobody is told.
    DropNewest,
    /// The messages that have waited longest.
    DropOldest,
    /// The client is disconnected, and the message that arrives is dropped.
    Disconnect,
}

/// How the groups of shared subscriptions choose a member for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharingSettings {
    /// For groups that no rule names. The desk's groups follow their routing file instead.
    pub default: Strategy,
    /// Exceptions, in the order of the file; the first that names a group decides.
    pub groups: Vec<GroupRule>,
    /// Messages that wait for a group whose members can take none at the moment.
    pub backlog_messages: usize,
    /// Bytes of those.
    pub backlog_bytes: usize,
}

impl Default for SharingSettings {
    fn default() -> Self {
        Self {
            default: Strategy::RoundRobin,
            groups: Vec::new(),
            backlog_messages: 10_000,
            backlog_bytes: 64 << 20,
        }
    }
}

/// The strategy of some groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRule {
    /// The `ShareName` of `$share/{ShareName}/{filter}`, or that filter, letter by letter.
    pub filter_or_name: String,
    /// How these groups choose.
    pub strategy: Strategy,
    /// With [`Strategy::Sticky`]: the level of the topic name whose text is the key, counted from 1. `None`
    /// keys on the whole topic name.
    pub key_level: Option<usize>,
}

/// Bounds on retained messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedSettings {
    /// Whether messages are retained at all; announced as Retain Available.
    pub enabled: bool,
    /// Retained topics over all shards.
    pub max_messages: usize,
    /// Bytes of their topics, properties and payloads.
    pub max_bytes: usize,
    /// With a store: bytes of memory for those messages that are not read from it.
    pub cache: usize,
}

impl Default for RetainedSettings {
    fn default() -> Self {
        Self { enabled: true, max_messages: 1_000_000, max_bytes: 1 << 30, cache: 64 << 20 }
    }
}

/// The store: sessions, what they are owed, retained messages, backlogs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where it is on disk; relative to the working directory. `None` keeps everything in memory: a restart forgets it.
    pub directory: Option<PathBuf>,
    /// How long changes gather before they are made durable; zero: as soon as the last commit is done.
    pub commit_interval: Duration,
    /// Bytes of changes that do not wait for the interval to be over.
    pub commit_batch: usize,
    /// Memory for documents read from disk, in bytes.
    pub cache: usize,
    /// Bytes of everything that is kept, before it is compressed.
    pub max_bytes: usize,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            directory: None,
            commit_interval: Duration::ZERO,
            commit_batch: 1 << 20,
            cache: 64 << 20,
            max_bytes: 64 << 30,
        }
    }
}

/// The HTTP listener for `/metrics`, `/healthz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Address to listen on; port 0 lets the system choose. It asks nobody who they are.
    pub bind: SocketAddr,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { bind: SocketAddr::from(([127, 0, 0, 1], 9883)) }
    }
}

/// The `$SYS` topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysSettings {
    /// Time between two publications; zero publishes none.
    pub interval: Duration,
}

impl Default for SysSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10) }
    }
}

/// What is logged on standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level, or a filter in the words of `RUST_LOG`: `info`, `warn,switchboard::net=debug`.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
