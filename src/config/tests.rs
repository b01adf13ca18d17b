//! Whole files: what they come to, and the exact lines an operator sees when they are wrong.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::raw::{
    RawAcl, RawAuth, RawCertificate, RawDesk, RawGroup, RawHttp, RawIdentity, RawJwt, RawLimits, RawListener,
    RawLog, RawProxy, RawRetained, RawSession, RawSharing, RawStore, RawSys, RawTls, RawWebSocket,
};
use super::settings::{
    GroupRule, GuardSettings, HttpSettings, LimitSettings, ListenerSettings, LogFormat, LogSettings,
    Overflow, OverloadSettings, RateSettings, RetainedSettings, SessionSettings, SharingSettings,
    StoreSettings, Strategy, SysSettings,
};
use super::*;

const SHIPPED: &str = include_str!("../../conf/switchboard.toml");

fn arguments(set: &[&str]) -> Vec<String> {
    set.iter().map(|&argument| argument.to_owned()).collect()
}

fn settings(text: &str, set: &[&str]) -> Settings {
    match parse(text, Path::new("f.toml"), &arguments(set)) {
        Ok(loaded) => loaded.settings,
        Err(problems) => panic!("{problems:?}"),
    }
}

fn problems(text: &str, set: &[&str]) -> Vec<String> {
    match parse(text, Path::new("f.toml"), &arguments(set)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn nothing_is_the_defaults() {
    assert_eq!(settings("", &[]), Settings::default());
    let loaded = load(None, &[]).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(loaded.settings, Settings::default());
    assert!(loaded.routing.is_none());
    assert!(loaded.settings.shards >= 1);
}

#[test]
fn the_shipped_file_is_the_defaults_with_a_store_and_a_desk() {
    let loaded = parse(SHIPPED, Path::new("conf/switchboard.toml"), &[]).unwrap_or_else(|p| panic!("{p:?}"));
    let routing_file = Some("conf/routing.toml".into());
    let store = StoreSettings { directory: Some("data".into()), ..StoreSettings::default() };
    assert_eq!(loaded.settings, Settings { store, routing_file, ..Settings::default() });
    assert!(loaded.routing.unwrap().tenants().count() > 0);
    assert_eq!(loaded.access.file, Some("conf/acl.toml".into()));
    assert!(loaded.access.acl(false).is_open(), "it has examples only");
}

/// The keys of a raw structure, as serde lists them to whoever uses an unknown one.
pub(super) fn keys<T: DeserializeOwned>() -> Vec<String> {
    let Err(error) = toml::from_str::<T>("no-such-key = 1") else { panic!("unknown keys are taken") };
    error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_shipped_file_has_every_key_in_its_table() {
    for table in keys::<RawFile>() {
        let (header, keys) = match table.as_str() {
            "shards" | "drain" => (String::new(), vec![table]),
            "listener" => ("[listener.tcp]".to_owned(), keys::<RawListener>()),
            "limits" => ("[limits]".to_owned(), keys::<RawLimits>()),
            "session" => ("[session]".to_owned(), keys::<RawSession>()),
            "sharing" => ("[sharing]".to_owned(), keys::<RawSharing>()),
            "retained" => ("[retained]".to_owned(), keys::<RawRetained>()),
            "store" => ("[store]".to_owned(), keys::<RawStore>()),
            "http" => ("[http]".to_owned(), keys::<RawHttp>()),
            "sys" => ("[sys]".to_owned(), keys::<RawSys>()),
            "log" => ("[log]".to_owned(), keys::<RawLog>()),
            "desk" => ("[desk]".to_owned(), keys::<RawDesk>()),
            "auth" => ("[auth]".to_owned(), keys::<RawAuth>()),
            "acl" => ("[acl]".to_owned(), keys::<RawAcl>()),
            other => panic!("which table of the shipped file documents {other}?"),
        };
        assert!(!keys.is_empty());
        for key in keys {
            let (header, keys) = match key.as_str() {
                "group" => ("# [[sharing.group]]", super::tests::keys::<RawGroup>()),
                "tls" => ("# [listener.secure.tls]", super::tests::keys::<RawTls>()),
                "websocket" => ("# [listener.web.websocket]", super::tests::keys::<RawWebSocket>()),
                "jwt" => ("# [auth.jwt]", super::tests::keys::<RawJwt>()),
                "certificate" if header == "[auth]" => {
                    ("# [auth.certificate]", super::tests::keys::<RawIdentity>())
                }
                "proxy" => ("# [listener.web.proxy]", super::tests::keys::<RawProxy>()),
                _ => (header.as_str(), vec![key]),
            };
            for key in keys {
                let (header, keys) = match key.as_str() {
                    "further" => {
                        ("# [[listener.secure.tls.further]]", super::tests::keys::<RawCertificate>())
                    }
                    _ => (header, vec![key]),
                };
                for key in keys {
                    assert!(documents(header, &key), "{header} {key} is not in conf/switchboard.toml");
                }
            }
        }
    }
}

/// Whether `key = …` stands below `header`, before the next one, with a comment above it.
fn documents(header: &str, key: &str) -> bool {
    let mut lines = SHIPPED.lines().skip_while(|line| !header.is_empty() && *line != header);
    if !header.is_empty() {
        lines.next();
    }
    let commented = header.starts_with('#');
    let mut above = "";
    for line in lines {
        let line = if commented { line.strip_prefix("# ").unwrap_or(line) } else { line };
        if line.starts_with('[') {
            return false;
        }
        if line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')) {
            return above.starts_with("# ");
        }
        above = line;
    }
    false
}

/// A value other than the default for every key.
const OTHER: &str = r#"
shards = 3
drain = "1500ms"
[listener.lan]
bind = "0.0.0.0:1884"
max_connections = 7
connect_timeout = "3s"
accept_backlog = 8
accept_rate = 9
max_handshakes = 10
[listener.alone]
bind = "[::1]:1885"
allow_anonymous = false
[limits]
max_packet = "2KiB"
max_topic_levels = 9
max_topic_bytes = "300B"
max_client_id_bytes = "23B"
max_subscriptions_per_session = 10
max_shared_subscriptions_per_session = 8
max_connections = 11
max_sessions = 12
message_rate = 40
message_burst = 41
byte_rate = "42B"
byte_burst = "43B"
rate_patience = "44s"
address_connections = 45
address_connects = 46
address_failed_logins = 47
address_ban = "48s"
client_connects = 49
client_ban = "50s"
overload_drift = "51ms"
overload_redirect = "other.example.com:1883"
[session]
max_expiry = "4294967295s"
receive_maximum = 65535
max_inflight = 1
queue_messages = 13
queue_bytes = "4KiB"
queue_expiry = "3d"
outbuf_bytes = "5KiB"
overflow = "disconnect"
topic_alias_maximum = 0
outgoing_topic_alias_maximum = 14
max_keep_alive = "2m"
[sharing]
default = "random"
backlog_messages = 15
backlog_bytes = "6KiB"
[[sharing.group]]
match = "billing"
strategy = "sticky"
key_level = 3
[[sharing.group]]
match = "cs/1/+/queue/#"
strategy = "least_inflight"
[retained]
enabled = false
max_messages = 16
max_bytes = "7KiB"
cache = "3MiB"
[store]
directory = "/var/lib/somewhere"
commit_interval = "5ms"
commit_batch = "8KiB"
cache = "2MiB"
max_bytes = "5MiB"
[http]
bind = "127.0.0.1:0"
[sys]
interval = "0s"
[log]
format = "json"
level = "warn,switchboard::net=debug"
"#;

fn other() -> Settings {
    Settings {
        shards: 3,
        drain: Duration::from_millis(1500),
        listeners: vec![
            ListenerSettings {
                name: "lan".to_owned(),
                bind: address("0.0.0.0:1884"),
                allow_anonymous: false,
                max_connections: 7,
                connect_timeout: Duration::from_secs(3),
                accept_backlog: 8,
                accept_rate: 9,
                max_handshakes: 10,
                ..ListenerSettings::default()
            },
            ListenerSettings {
                name: "alone".to_owned(),
                bind: address("[::1]:1885"),
                allow_anonymous: false,
                ..ListenerSettings::default()
            },
        ],
        limits: LimitSettings {
            max_packet: 2048,
            max_topic_levels: 9,
            max_topic_bytes: 300,
            max_client_id_bytes: 23,
            max_subscriptions_per_session: 10,
            max_shared_subscriptions_per_session: 8,
            max_connections: 11,
            max_sessions: 12,
            rate: RateSettings {
                messages: 40,
                message_burst: 41,
                bytes: 42,
                byte_burst: 43,
                patience: Duration::from_secs(44),
            },
            guard: GuardSettings {
                connections: 45,
                connects: 46,
                failed_logins: 47,
                ban: Duration::from_secs(48),
                client_connects: 49,
                client_ban: Duration::from_secs(50),
            },
            overload: OverloadSettings {
                drift: Duration::from_millis(51),
                redirect: "other.example.com:1883".to_owned(),
            },
        },
        session: SessionSettings {
            max_expiry: Duration::from_secs(u32::MAX.into()),
            receive_maximum: 65_535,
            max_inflight: 1,
            queue_messages: 13,
            queue_bytes: 4096,
            queue_expiry: Duration::from_hours(72),
            outbuf_bytes: 5120,
            overflow: Overflow::Disconnect,
            topic_alias_maximum: 0,
            outgoing_topic_alias_maximum: 14,
            max_keep_alive: 120,
        },
        sharing: SharingSettings {
            default: Strategy::Random,
            groups: vec![
                GroupRule {
                    filter_or_name: "billing".to_owned(),
                    strategy: Strategy::Sticky,
                    key_level: Some(3),
                },
                GroupRule {
                    filter_or_name: "cs/1/+/queue/#".to_owned(),
                    strategy: Strategy::LeastInflight,
                    key_level: None,
                },
            ],
            backlog_messages: 15,
            backlog_bytes: 6144,
        },
        retained: RetainedSettings { enabled: false, max_messages: 16, max_bytes: 7168, cache: 3 << 20 },
        store: StoreSettings {
            directory: Some("/var/lib/somewhere".into()),
            commit_interval: Duration::from_millis(5),
            commit_batch: 8192,
            cache: 2 << 20,
            max_bytes: 5 << 20,
        },
        http: Some(HttpSettings { bind: address("127.0.0.1:0") }),
        sys: SysSettings { interval: Duration::ZERO },
        log: LogSettings { format: LogFormat::Json, level: "warn,switchboard::net=debug".to_owned() },
        routing_file: None,
    }
}

#[test]
fn every_key_is_heard() {
    assert_eq!(settings(OTHER, &[]), other());
    assert_eq!(settings("http.enabled = false", &[]).http, None);
    assert_eq!(settings("store.directory = \"\"", &[]).store.directory, None);
}

#[test]
fn arguments_lie_over_the_file_and_later_ones_over_earlier() {
    let base = "[listener.tcp]\nbind = \"0.0.0.0:1\"\n[limits]\nmax_sessions = 5\n";
    let set = [
        "listener.tcp.bind=127.0.0.1:1884",
        "listener.more.bind = '127.0.0.1:1885'",
        "session.max_expiry=1h",
        "session.max_expiry=2h",
        "session.receive_maximum=0x10",
        "retained.enabled=false",
        "log.level=warn,switchboard=debug",
        "sharing.group=[{ match = 'g', strategy = \"random\" }]",
        "http={ enabled = false }",
    ];
    let settings = settings(base, &set);
    let listeners: Vec<_> = settings.listeners.iter().map(|l| (l.name.as_str(), l.bind)).collect();
    assert_eq!(listeners, [("tcp", address("127.0.0.1:1884")), ("more", address("127.0.0.1:1885"))]);
    assert!(settings.listeners.iter().all(|l| l.allow_anonymous), "loopback now");
    assert_eq!(settings.limits.max_sessions, 5);
    assert_eq!(settings.session.max_expiry, Duration::from_hours(2));
    assert_eq!(settings.session.receive_maximum, 16);
    assert!(!settings.retained.enabled);
    assert_eq!(settings.log.level, "warn,switchboard=debug");
    assert_eq!(settings.sharing.groups.len(), 1);
    assert_eq!(settings.http, None);
}

#[test]
fn wrong_arguments_are_told_as_such_beside_what_is_wrong_in_the_file() {
    assert_eq!(
        problems(
            "shards = 65\ndrain = \"10s\"\n[[sharing.group]]\nmatch = \"a\"\nstrategy = \"random\"\n",
            &[
                "listener.tcp.bind=here",
                "listener.tcp.bnid=127.0.0.1:1",
                "limits.max_packet=1KB",
                "session.receive_maximum=many",
                "sharing.group.0.match=b",
                "drain.most=1s",
                "http={ enabled = 1 }",
                "retained..enabled=true",
                "log",
                "=1",
                "sys=",
            ]
        ),
        [
            "--set  has an empty key; a path such as listener.tcp.bind",
            "--set  drain.most: goes through a value that is no table; a path such as listener.tcp.bind",
            "--set  http.enabled: invalid type: integer `1`; true or false",
            "--set  limits.max_packet: \"1KB\" is no size; a whole number with B, KiB, MiB or GiB, 1KiB to 268435460B",
            "--set  listener.tcp.bind: \"here\" is not allowed; an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"",
            "--set  listener.tcp.bnid: unknown key; did you mean \"bind\"?",
            "--set  log: has no value; --set PATH=VALUE",
            "--set  retained..enabled: has an empty key; a path such as listener.tcp.bind",
            "--set  session.receive_maximum: invalid type: string \"many\"; a whole number",
            "--set  sharing.group.0.match: goes through a list, which can only be set whole; a path such as listener.tcp.bind",
            "--set  sys: invalid type: string \"\"; expected a table",
            "f.toml:1:10  shards: 65 is not allowed; 0 to 63",
        ]
    );
}

#[test]
fn wrong_files_are_told_whole_with_line_and_column() {
    let mut missed = Vec::new();
    for (text, expected) in WRONG {
        let told = problems(text, &[]);
        if told != *expected {
            missed.push(format!("{text}\ntold:\n{}\nexpected:\n{}", told.join("\n"), expected.join("\n")));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

/// Files, and all that is to be said of each.
const WRONG: &[(&str, &[&str])] = &[
    // No TOML: every error, and nothing else.
    (
        "[limits]\nmax_packet = \nmax_sessions 5\nmax_connections = 0\n",
        &[
            "f.toml:2:14  string values must be quoted; expected literal string",
            "f.toml:3:14  key with no value; expected `=`",
        ],
    ),
    ("shards = 1\nshards = 2\n", &["f.toml:2:1  duplicate key"]),
    (
        "a = 1",
        &[
            "f.toml:1:1  a: unknown key; one of shards, drain, listener, limits, session, sharing, retained, store, http, sys, log, desk, auth, acl",
        ],
    ),
    // Unknown keys at every depth.
    (
        "shard = 2\n[sesion]\n[limits]\nmax_paket = \"1KiB\"\n[listener.x]\nbind = \"[::1]:1\"\nssl = true\n\
         [[sharing.group]]\nname = \"a\"\nmatch = \"a\"\nstrategy = \"random\"\n",
        &[
            "f.toml:1:1  shard: unknown key; did you mean \"shards\"?",
            "f.toml:2:2  sesion: unknown key; did you mean \"session\"?",
            "f.toml:4:1  limits.max_paket: unknown key; did you mean \"max_packet\"?",
            "f.toml:7:1  listener.x.ssl: unknown key; one of bind, allow_anonymous, max_connections, connect_timeout, accept_backlog, authentication, accept_rate, max_handshakes, tls, websocket, proxy",
            "f.toml:9:1  sharing.group.name: unknown key; one of match, strategy, key_level",
        ],
    ),
    // How fast clients may come and send.
    (
        "[limits]\nmessage_rate = -1\nbyte_rate = 5\nrate_patience = \"2h\"\naddress_ban = \"0s\"\nclient_connects = 1.5\n\
         overload_drift = \"2m\"\noverload_redirect = \"a\\nb\"\n[listener.a]\nbind = \"[::1]:1\"\naccept_rate = 1000001\n",
        &[
            "f.toml:2:16  limits.message_rate: -1 is not allowed; 0 to 1000000000",
            "f.toml:3:13  limits.byte_rate: 5 has no unit; a whole number with B, KiB, MiB or GiB, 0B to 1024GiB",
            "f.toml:4:17  limits.rate_patience: 2h is not allowed; 0s to 1h",
            "f.toml:5:15  limits.address_ban: 0s is not allowed; 1s to 1d",
            "f.toml:6:19  limits.client_connects: invalid type: floating point `1.5`; a whole number",
            "f.toml:7:18  limits.overload_drift: 2m is not allowed; 0s to 1m",
            "f.toml:8:21  limits.overload_redirect: no reference to a server; names of servers, at most 1024 bytes without control characters",
            "f.toml:11:15  listener.a.accept_rate: 1000001 is not allowed; 0 to 1000000",
        ],
    ),
    // What is spoken.
    (
        "[listener.a]\nbind = \"[::1]:1\"\n[listener.a.tls]\nkey = \"k\"\noldest = \"1.1\"\nclient_crl = \"c\"\n\
         [[listener.a.tls.further]]\ncertificate = \"d\"\n[listener.a.websocket]\npath = \"mqtt\"\n\
         origins = [\"example.com\", \"https://example.com\"]\n[listener.a.proxy]\nfrom = [\"10.0.0.0/8\", \"10.0.0.0/33\", \"::1\"]\n\
         [listener.b]\nbind = \"[::1]:2\"\ntls = { certificate = \"c\", key = \"k\", client_certificate = \"required\" }\nproxy = {}\n",
        &[
            "f.toml:1:11  listener.a.tls.certificate: missing; the file with the certificate and those that lead to its root",
            "f.toml:5:10  listener.a.tls.oldest: \"1.1\" is not known; did you mean \"1.2\"?",
            "f.toml:6:14  listener.a.tls.client_crl: nobody is asked for a certificate; client_certificate = \"optional\" or \"required\", or leave it out",
            "f.toml:7:1  listener.a.tls.further.key: missing; the file with the certificate's private key",
            "f.toml:10:8  listener.a.websocket.path: \"mqtt\" is no path of a request; such as \"/mqtt\"",
            "f.toml:11:12  listener.a.websocket.origins: \"example.com\" is no origin; such as \"https://desk.example.com\"",
            "f.toml:13:23  listener.a.proxy.from: \"10.0.0.0/33\" is no network; such as \"10.0.0.0/8\" or \"::1\"",
            "f.toml:14:11  listener.b.proxy.from: missing; the addresses of the proxies, such as [\"10.0.0.0/8\"]",
            "f.toml:14:11  listener.b.tls.client_ca: missing; the file with who may have issued clients' certificates",
        ],
    ),
    // Wrong types.
    (
        "shards = \"all\"\ndrain = true\nlimits = 5\n[retained]\nenabled = \"yes\"\n[log]\nlevel = 3\n[http]\nbind = 9883\n",
        &[
            "f.toml:1:10  shards: invalid type: string \"all\"; a whole number",
            "f.toml:2:9  drain: invalid type: boolean `true`; expected a number with its unit in quotes",
            "f.toml:3:10  limits: invalid type: integer `5`; expected a table",
            "f.toml:5:11  retained.enabled: invalid type: string \"yes\"; true or false",
            "f.toml:7:9  log.level: invalid type: integer `3`; expected a string",
            "f.toml:9:8  http.bind: invalid type: integer `9883`; expected a string",
        ],
    ),
    ("listener = 1\n", &["f.toml:1:12  listener: invalid type: integer `1`; a table"]),
    ("[sharing]\ngroup = \"a\"\n", &["f.toml:2:9  sharing.group: invalid type: string \"a\"; a list: [ … ]"]),
    // Counts out of range.
    (
        "shards = -1\n[session]\nreceive_maximum = 0\nmax_inflight = 65536\nqueue_messages = 0\n\
         topic_alias_maximum = -1\noutgoing_topic_alias_maximum = 65536\n",
        &[
            "f.toml:1:10  shards: -1 is not allowed; 0 to 63",
            "f.toml:3:19  session.receive_maximum: 0 is not allowed; 1 to 65535",
            "f.toml:4:16  session.max_inflight: 65536 is not allowed; 1 to 65535",
            "f.toml:5:18  session.queue_messages: 0 is not allowed; 1 to 100000000",
            "f.toml:6:23  session.topic_alias_maximum: -1 is not allowed; 0 to 65535",
            "f.toml:7:32  session.outgoing_topic_alias_maximum: 65536 is not allowed; 0 to 65535",
        ],
    ),
    (
        "[limits]\nmax_topic_levels = 7\nmax_subscriptions_per_session = 0\nmax_connections = 0\nmax_sessions = 0\n\
         [retained]\nmax_messages = 0\n[sharing]\nbacklog_messages = 0\n",
        &[
            "f.toml:2:20  limits.max_topic_levels: 7 is not allowed; 8 to 1024",
            "f.toml:3:33  limits.max_subscriptions_per_session: 0 is not allowed; 1 to 10000000",
            "f.toml:4:19  limits.max_connections: 0 is not allowed; 1 to 100000000",
            "f.toml:5:16  limits.max_sessions: 0 is not allowed; 1 to 1000000000",
            "f.toml:7:16  retained.max_messages: 0 is not allowed; 1 to 1000000000",
            "f.toml:9:20  sharing.backlog_messages: 0 is not allowed; 1 to 100000000",
        ],
    ),
    // Sizes.
    (
        "[limits]\nmax_packet = 1048576\nmax_topic_bytes = \"64KiB\"\nmax_client_id_bytes = \"22B\"\n\
         [session]\nqueue_bytes = \"16 megabytes\"\noutbuf_bytes = \"4095B\"\n[retained]\nmax_bytes = \"2000GiB\"\n",
        &[
            "f.toml:2:14  limits.max_packet: 1048576 has no unit; a whole number with B, KiB, MiB or GiB, 1KiB to 268435460B",
            "f.toml:3:19  limits.max_topic_bytes: 64KiB is not allowed; 256B to 65535B",
            "f.toml:4:23  limits.max_client_id_bytes: 22B is not allowed; 23B to 65535B",
            "f.toml:6:15  session.queue_bytes: \"16 megabytes\" is no size; a whole number with B, KiB, MiB or GiB, 1KiB to 1024GiB",
            "f.toml:7:16  session.outbuf_bytes: 4095B is not allowed; 4KiB to 1GiB",
            "f.toml:9:13  retained.max_bytes: 2000GiB is not allowed; 1KiB to 1024GiB",
        ],
    ),
    // Durations.
    (
        "drain = \"1h\"\n[session]\nmax_expiry = \"1500ms\"\nmax_keep_alive = \"1d\"\n[sys]\ninterval = \"999ms\"\n\
         [listener.a]\nbind = \"[::1]:1\"\nconnect_timeout = 10\n[listener.b]\nbind = \"[::1]:2\"\nconnect_timeout = \"soon\"\n",
        &[
            "f.toml:1:9  drain: 1h is not allowed; 0s to 10m",
            "f.toml:3:14  session.max_expiry: 1500ms is not allowed; whole seconds",
            "f.toml:4:18  session.max_keep_alive: 1d is not allowed; 0s to 65535s",
            "f.toml:6:12  sys.interval: 999ms is not allowed; 0s, or 1s to 1h",
            "f.toml:9:19  listener.a.connect_timeout: 10 has no unit; a whole number with ms, s, m, h or d, 1s to 100s",
            "f.toml:12:19  listener.b.connect_timeout: \"soon\" is no duration; a whole number with ms, s, m, h or d, 1s to 100s",
        ],
    ),
    // Words.
    (
        "[session]\noverflow = \"drop-newest\"\n[sharing]\ndefault = \"stiky\"\n[log]\nformat = \"xml\"\nlevel = \"inof\"\n",
        &[
            "f.toml:2:12  session.overflow: \"drop-newest\" is not known; did you mean \"drop_newest\"?",
            "f.toml:4:11  sharing.default: \"stiky\" is not known; did you mean \"sticky\"?",
            "f.toml:6:10  log.format: \"xml\" is not known; one of text, json",
            "f.toml:7:9  log.level: \"inof\" is no log level; did you mean \"info\"?",
        ],
    ),
    // Listeners.
    (
        "[listener.\"a b\"]\nbind = \"localhost:1883\"\naccept_backlog = 0\nmax_connections = 0\n[listener.c]\n[listener.d]\nbind = 5\n",
        &[
            "f.toml:1:11  listener: \"a b\" is no name for a listener; 1 to 32 letters, digits, - or _",
            "f.toml:2:8  listener.a b.bind: \"localhost:1883\" is not allowed; an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"",
            "f.toml:3:18  listener.a b.accept_backlog: 0 is not allowed; 1 to 65535",
            "f.toml:4:19  listener.a b.max_connections: 0 is not allowed; 1 to 100000000",
            "f.toml:5:11  listener.c.bind: missing; an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"",
            "f.toml:7:8  listener.d.bind: invalid type: integer `5`; expected a string",
        ],
    ),
    (
        "[listener.a]\nbind = \"0.0.0.0:1883\"\n[listener.b]\nbind = \"0.0.0.0:1883\"\n[http]\nbind = \"0.0.0.0:1883\"\n",
        &[
            "f.toml:4:8  listener.b.bind: 0.0.0.0:1883 is taken by listener.a.bind; another address or port",
            "f.toml:6:8  http.bind: 0.0.0.0:1883 is taken by listener.a.bind; another address or port",
        ],
    ),
    (
        "[listener.a]\nbind = \"127.0.0.1:9883\"\n",
        &["f.toml:2:8  listener.a.bind: 127.0.0.1:9883 is taken by http.bind; another address or port"],
    ),
    (
        "[http]\nbind = \"127.0.0.1:1883\"\n",
        &["f.toml:2:8  http.bind: 127.0.0.1:1883 is taken by listener.tcp.bind; another address or port"],
    ),
    // Shared subscriptions.
    (
        "[[sharing.group]]\nstrategy = \"sticky\"\n[[sharing.group]]\nmatch = \"a/#/b\"\nstrategy = \"sticky\"\nkey_level = 0\n\
         [[sharing.group]]\nmatch = \"g\"\nstrategy = \"random\"\nkey_level = 2\n[[sharing.group]]\nmatch = \"g\"\nstrategy = \"rand\"\n\
         [[sharing.group]]\nmatch = \"$share/g/t\"\nstrategy = \"sticky\"\n[[sharing.group]]\nmatch = \"a+\"\nstrategy = \"sticky\"\n\
         [[sharing.group]]\nmatch = \"\"\nstrategy = \"sticky\"\n",
        &[
            "f.toml:1:1  sharing.group.match: missing; the name of a shared subscription's group, or its topic filter",
            "f.toml:4:9  sharing.group.match: \"a/#/b\" is neither a group's name nor a topic filter; # must be alone in the last level of a topic filter",
            "f.toml:6:13  sharing.group.key_level: 0 is not allowed; 1 to 1024",
            "f.toml:10:13  sharing.group.key_level: not used; only strategy = \"sticky\" has a key",
            "f.toml:12:9  sharing.group.match: \"g\" is there twice; only the first would count",
            "f.toml:13:12  sharing.group.strategy: \"rand\" is not known; did you mean \"random\"?",
            "f.toml:15:9  sharing.group.match: \"$share/g/t\" is neither a group's name nor a topic filter; what follows $share/NAME/, or NAME",
            "f.toml:18:9  sharing.group.match: \"a+\" is neither a group's name nor a topic filter; + must be alone in its level of a topic filter",
            "f.toml:21:9  sharing.group.match: \"\" is neither a group's name nor a topic filter; 1 to 65535 bytes",
        ],
    ),
    (
        "[[sharing.group]]\nmatch = \"$share\"\nstrategy = \"random\"\n\
         [[sharing.group]]\nmatch = \"a\\u0000b\"\nstrategy = \"random\"\n",
        &[
            "f.toml:2:9  sharing.group.match: \"$share\" is neither a group's name nor a topic filter; what follows $share/NAME/, or NAME",
            "f.toml:5:9  sharing.group.match: \"a\\0b\" is neither a group's name nor a topic filter; the topic filter contains U+0000",
        ],
    ),
    (
        "[[sharing.group]]\nmatch = \"a\"\n",
        &["f.toml:1:1  sharing.group.strategy: missing; one of sticky, round_robin, least_inflight, random"],
    ),
    // Values that do not go together.
    (
        "[session]\nqueue_bytes = \"512KiB\"\n",
        &[
            "f.toml:2:15  session.queue_bytes: 512KiB cannot hold one packet; limits.max_packet (1MiB) or more",
        ],
    ),
    (
        "[limits]\nmax_packet = \"96MiB\"\n",
        &[
            "f.toml:2:14  session.queue_bytes: 16MiB cannot hold one packet; limits.max_packet (96MiB) or more",
            "f.toml:2:14  sharing.backlog_bytes: 64MiB cannot hold one packet; limits.max_packet (96MiB) or more",
        ],
    ),
    // Other files.
    (
        "# ü\n[desk]\nrouting = \"no/such.toml\"\n",
        &["f.toml:3:11  desk.routing: no/such.toml cannot be read: No such file or directory (os error 2)"],
    ),
];

#[test]
fn a_wrong_routing_file_is_told_in_the_same_run() {
    let folder = tempdir("routing");
    fs::write(folder.join("rules.toml"), "[[tenant]]\nnam = \"main\"\n").unwrap();
    let file = folder.join("s.toml");
    fs::write(&file, "shards = 99\n[desk]\nrouting = \"rules.toml\"\n").unwrap();
    let Err(problems) = load(Some(&file), &[]) else { panic!("taken") };
    let at = |name: &str| folder.join(name).display().to_string();
    let first: Vec<_> = problems.iter().map(|p| (p.file.clone(), p.line, p.key.as_str())).take(1).collect();
    assert_eq!(first, [(at("rules.toml"), 1, "tenant.group")]);
    assert!(problems.iter().any(|p| p.file == at("rules.toml") && p.key == "tenant.nam"), "{problems:?}");
    assert!(problems.iter().any(|p| p.file == at("s.toml") && p.key == "shards"), "{problems:?}");

    // Relative to the file in the file, and to the working directory (the package's root here) in an argument.
    fs::write(folder.join("rules.toml"), include_str!("../../conf/routing.toml")).unwrap();
    fs::write(&file, "[desk]\nrouting = \"rules.toml\"\n").unwrap();
    let loaded = load(Some(&file), &[]).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(loaded.settings.routing_file, Some(folder.join("rules.toml")));
    let set = arguments(&["desk.routing=conf/routing.toml"]);
    let loaded = load(Some(&file), &set).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(loaded.settings.routing_file, Some("conf/routing.toml".into()));
    let none = load(Some(&file), &arguments(&["desk.routing="])).unwrap_or_else(|p| panic!("{p:?}"));
    assert_eq!(none.settings.routing_file, None);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let folder = tempdir("unreadable");
    let told = |file: &Path| match load(Some(file), &[]) {
        Ok(_) => panic!("taken"),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
    };
    let missing = folder.join("missing.toml");
    let text = format!("{}  cannot be read: No such file or directory (os error 2)", missing.display());
    assert_eq!(told(&missing), [text]);
    let binary = folder.join("binary.toml");
    fs::write(&binary, [0xFF, 0xFE]).unwrap();
    let text = format!("{}  cannot be read: it is no UTF-8 text", binary.display());
    assert_eq!(told(&binary), [text]);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_file_that_is_too_large_is_not_taken_apart() {
    let folder = tempdir("large");
    let told = |file: &Path, set: &[&str]| match load(Some(file), &arguments(set)) {
        Ok(_) => panic!("taken"),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
    };
    let (file, small) = (folder.join("large.toml"), folder.join("small.toml"));
    // Just as long as it may be, and a byte more. Cut within a character it is too large all the same.
    let text = format!("#{}", "ü".repeat(1 << 19));
    fs::write(&file, text.get(..(1 << 20) - 1).unwrap()).unwrap();
    assert!(load(Some(&file), &[]).is_ok());
    fs::write(&file, &text).unwrap();
    assert_eq!(told(&file, &[]), [format!("{}  is too large; at most 1MiB", file.display())]);
    fs::write(&small, "[desk]\nrouting = \"large.toml\"\n").unwrap();
    let here = small.display();
    assert_eq!(
        told(&small, &[]),
        [format!("{here}:2:11  desk.routing: {} is too large; at most 1MiB", file.display())]
    );
    assert_eq!(
        told(&small, &["desk.routing=/dev/zero"]),
        ["--set  desk.routing: /dev/zero is too large; at most 1MiB"]
    );
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn listeners_and_groups_are_bounded_and_so_is_what_is_told() {
    let several = |n: usize, one: &dyn Fn(usize) -> String| (0..n).map(one).collect::<String>();
    let listeners = |n| several(n, &|n| format!("[listener.l{n}]\nbind = \"127.0.0.1:{}\"\n", 2000 + n));
    assert_eq!(settings(&listeners(64), &[]).listeners.len(), 64);
    assert_eq!(problems(&listeners(65), &[]), ["f.toml:129:11  listener: 65 listeners; at most 64"]);
    let groups = |n| several(n, &|n| format!("[[sharing.group]]\nmatch = \"{n}\"\nstrategy = \"random\"\n"));
    assert_eq!(settings(&groups(1000), &[]).sharing.groups.len(), 1000);
    assert_eq!(problems(&groups(1001), &[]), ["f.toml:3001:1  sharing.group: 1001 groups; at most 1000"]);
    let told = problems(&groups(5000).replace("random", "rundom"), &[]);
    assert_eq!(told.len(), 101);
    assert_eq!(
        told.last().unwrap(),
        "f.toml  there are more problems than 100; check again when these are gone"
    );
}

fn tempdir(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("switchboard-config-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}
