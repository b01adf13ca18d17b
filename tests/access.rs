//! Who gets in, and what those may who did: a real broker with users, tokens and rules by role.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod dialogue;
mod secure;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use dialogue::{Client, message, subscription, unique, v5, v311};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rustls::version::TLS13;
use secure::{Authority, Relay, client, put};
use serde_json::{Value, json};
use switchboard::{Server, config};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

const ROUTING: &str = r#"
[[tenant]]
name = "main"
[[tenant.group]]
name = "care"
[[tenant.rule]]
name = "all"
group = "care"
"#;

/// "secret" and "other", at the least cost there is.
fn users() -> String {
    let hash = |password: &str| {
        use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version, password_hash::SaltString};
        let salt = SaltString::from_b64("c29tZXNhbHRzYWx0").unwrap();
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
        argon.hash_password(password.as_bytes(), &salt).unwrap().to_string()
    };
    let user = |name: &str, password: &str, role: &str, more: &str| {
        format!("[[user]]\nname = \"{name}\"\npassword = \"{}\"\nrole = \"{role}\"\n{more}\n", hash(password))
    };
    [
        user("c42", "secret", "customer", "id = \"42\""),
        user("c43", "other", "customer", "id = \"43\""),
        user("anna", "secret", "agent", "groups = [\"care\"]"),
        user("sue", "secret", "supervisor", ""),
        user("op", "secret", "operator", ""),
        user("gauge", "secret", "device", ""),
        user("far", "secret", "customer", "id = \"42\"\ntenant = \"elsewhere\""),
    ]
    .concat()
}

struct Broker {
    server: Server,
    address: SocketAddr,
    /// Takes clients without a login, too.
    open: SocketAddr,
}

fn serve(folder: &Path, more: &str) -> Broker {
    put(folder, "users.toml", &users());
    put(folder, "jwt.secret", SECRET);
    put(folder, "routing.toml", ROUTING);
    let text = format!(
        "shards = 2\n[http]\nenabled = false\n[desk]\nrouting = \"routing.toml\"\n[auth]\nusers = \"users.toml\"\n\
         [auth.jwt]\nsecret = \"jwt.secret\"\n\
         [listener.closed]\nbind = \"127.0.0.1:0\"\nallow_anonymous = false\nauthentication = [\"users\", \"jwt\"]\n\
         [listener.open]\nbind = \"127.0.0.1:0\"\nallow_anonymous = true\nauthentication = [\"users\"]\n{more}"
    );
    let file = put(folder, "switchboard.toml", &text);
    let loaded = config::load(Some(&file), &[]).unwrap_or_else(|problems| panic!("{problems:?}"));
    let access = loaded.access();
    let server = Server::start_guarded(loaded.settings, loaded.routing, access).expect("the broker starts");
    let (address, open) = (server.addresses()[0].1, server.addresses()[1].1);
    Broker { server, address, open }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

impl Broker {
    fn user(&self, name: &str) -> Client {
        v5(&unique(name)).at(self.address).login(name, "secret").open()
    }
}

#[test]
fn who_shows_the_right_thing_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let broker = serve(folder.path(), "");
    let id = || unique("login");
    let at = broker.address;
    // Enough that each shard hands some to the other.
    for _ in 0..6 {
        v311(&id()).at(at).login("c42", "secret").open().disconnect();
        v5(&id()).at(at).login("c42", "secret").open().disconnect();
    }
    v5(&id()).at(broker.open).open().disconnect();
    let good = json!({"sub": "7", "role": "customer", "exp": now_s() + 60});
    v5(&id()).at(at).login("whoever", token(&good)).open().disconnect();

    for (user, password) in [
        ("c42", "other"),
        ("c42", ""),
        ("C42", "secret"),
        ("c42 ", "secret"),
        ("nobody", "secret"),
        ("c42", &token(&json!({"sub": "42", "role": "customer", "exp": now_s() - 60}))),
        ("whoever", &token(&json!({"sub": "7", "role": "customer"}))),
        ("whoever", &token(&json!({"sub": "7", "role": "king", "exp": now_s() + 60}))),
        ("whoever", &token(&json!({"sub": "7", "role": "customer", "exp": now_s() - 60}))),
    ] {
        v5(&id()).at(at).login(user, password).refused(0x86);
        v311(&id()).at(at).login(user, password).refused(4);
        // Not on the listener that takes anonymous clients either: a wrong name is not no name.
        v5(&id()).at(broker.open).login(user, password).refused(0x86);
    }
    v5(&id()).at(at).refused(0x87);
    v311(&id()).at(at).refused(5);
}

/// Who, what it may subscribe, what it may not, what it may publish, what it may not.
type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str], &'a [&'a str]);

#[test]
fn roles_have_their_topics_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let broker = serve(folder.path(), "");
    let t = "cs/1/main/";
    let rows: [Row<'_>; 5] = [
        (
            "c42",
            &["customer/42/down", "customer/42/state"],
            &[
                "customer/43/down",
                "customer/+/down",
                "customer/#",
                "#",
                "customer/42/up",
                "agent/anna/inbox/+",
                "queue/care/messages/+",
                "queue/care/state",
                "conversation/+/messages",
                "control/explain",
                "customer/42/#",
                "customer/420/down",
            ],
            &["customer/42/up"],
            &[
                "customer/43/up",
                "customer/42/down",
                "customer/42/state",
                "agent/anna/offer",
                "agent/anna/presence",
                "queue/care/put",
                "control/close",
                "control/explain",
                "conversation/x/reply",
                "customer/42/context",
                "customer/43/context/patch",
                "customer/42/up/x",
                "customer/42",
                "customer/up",
            ],
        ),
        (
            "anna",
            &["agent/anna/#", "queue/care/state", "queue/care/messages/+"],
            &[
                "agent/+/inbox/+",
                "agent/bert/#",
                "queue/shop/messages/+",
                "queue/+/messages/+",
                "customer/+/down",
                "#",
                "conversation/+/messages",
                "customer/+/up",
            ],
            &["agent/anna/presence"],
            &[
                "agent/bert/presence",
                "agent/bert/answer",
                "agent/anna/state",
                "customer/42/up",
                "control/close",
            ],
        ),
        (
            "sue",
            &["#", "conversation/+/messages", "agent/+/state"],
            &[],
            &[],
            &["agent/anna/presence", "customer/42/up"],
        ),
        ("op", &["#"], &[], &[], &[]),
        (
            "gauge",
            &[],
            &["#", "customer/42/down", "queue/care/state"],
            &[],
            &["customer/42/up", "queue/care/put"],
        ),
    ];
    let mut refused = 0;
    for (who, may_read, may_not_read, may_write, may_not_write) in rows {
        let mut one = broker.user(who);
        for (filters, code) in [(may_read, 1), (may_not_read, 0x87)] {
            for filter in filters {
                let codes = one.subscribe_with(&subscription(&format!("{t}{filter}"), 1)).codes;
                assert_eq!(codes, [code], "{who} reads {filter}");
                refused += usize::from(code == 0x87);
                // The same of another tenant, within a share, and of everything.
                if who != "op" {
                    for other in
                        [format!("cs/1/elsewhere/{filter}"), format!("$share/x/{t}{filter}"), "$SYS/#".into()]
                    {
                        if other.starts_with("$share") && code == 1 {
                            continue;
                        }
                        let codes = one.subscribe_with(&subscription(&other, 1)).codes;
                        assert_eq!(codes, [0x87], "{who} reads {other}");
                        refused += 1;
                    }
                }
            }
        }
        let mut one = broker.user(who);
        for (topics, allowed) in [(may_write, true), (may_not_write, false)] {
            for topic in topics {
                let body = r#"{"show":"ready"}"#;
                for topic in [format!("{t}{topic}"), format!("cs/1/elsewhere/{topic}")] {
                    let here = topic.starts_with(t);
                    let id = one.publish(message(&topic, body).qos(1));
                    let reason = one.expect_puback(id).reason;
                    assert_eq!(reason == 0x87, !(allowed && here), "{who} writes {topic}: {reason:#x}");
                    refused += usize::from(reason == 0x87);
                }
            }
        }
    }
    assert!(refused > 150, "{refused} attempts");
    // A client of another tenant with the same id.
    let mut far = broker.user("far");
    for filter in ["cs/1/main/customer/42/down", "cs/1/+/customer/42/down"] {
        assert_eq!(far.subscribe_with(&subscription(filter, 1)).codes, [0x87], "{filter}");
    }
    let mut mine = broker.user("far");
    mine.subscribe("cs/1/elsewhere/customer/42/down", 1);
    // And without a login, where logins exist.
    let mut nobody = v5(&unique("nobody")).at(broker.open).open();
    assert_eq!(nobody.subscribe_with(&subscription("a", 1)).codes, [0x87]);
}

#[test]
fn tricks_do_not_open_anything() {
    let folder = tempfile::tempdir().unwrap();
    let broker = serve(folder.path(), "");
    let mut watcher = broker.user("sue");
    watcher.subscribe("cs/1/main/customer/+/up", 1);
    let login = |id: &str| v5(id).at(broker.address).login("c42", "secret");
    // A will where the client may not publish.
    let theirs = "cs/1/main/customer/43/up";
    login(&unique("will")).will(dialogue::will(theirs, "from the grave").qos(1)).refused(0x87);
    login(&unique("will")).will(dialogue::will("$SYS/broker/x", "x")).refused(0x90);
    // A topic alias that is set by a refused message must not let the next one through.
    let mut one = login(&unique("alias")).open();
    for (topic, alias) in [(theirs, 1), ("", 1)] {
        let mut packet = message(topic, "x").qos(1);
        packet = packet.alias(alias);
        let id = one.publish(packet);
        assert_eq!(one.expect_puback(id).reason, 0x87);
    }
    // At QoS 0 and 2, and retained, nothing comes through either.
    one.publish(message(theirs, "x"));
    let id = one.publish(message(theirs, "x").qos(2));
    assert_eq!(one.expect_pubrec(id).reason, 0x87);
    let id = one.publish(message("cs/1/main/customer/42/state", "x").qos(1).retain());
    assert_eq!(one.expect_puback(id).reason, 0x87);
    // Client identifiers with wildcards and levels open nothing.
    for id in ["+", "#", "a/#", "42/../43", "cs/1/main/customer/43"] {
        let mut odd = login(&format!("{id}{}", unique(""))).open();
        assert_eq!(odd.subscribe_with(&subscription("cs/1/main/customer/43/down", 1)).codes, [0x87]);
        odd.disconnect();
    }
    // An answer is not sent where the asker may not read.
    let ask = message("cs/1/main/customer/42/ask", r#"{"verb":"transcript"}"#).qos(1);
    let id = one.publish(ask.response_topic("cs/1/main/customer/43/down"));
    assert_eq!(one.expect_puback(id).reason, 0x87);
    // 3.1.1 has no word for it: the connection ends.
    let mut old = v311(&unique("old")).at(broker.address).login("c42", "secret").open();
    old.publish(message(theirs, "x").qos(1));
    old.expect_closed();
    let mut old = v311(&unique("old")).at(broker.address).login("c42", "secret").open();
    assert_eq!(old.subscribe_with(&subscription("#", 1)).codes, [0x80]);
    watcher.expect_quiet();
}

#[test]
fn a_session_is_its_owners() {
    let folder = tempfile::tempdir().unwrap();
    let broker = serve(folder.path(), "");
    let id = unique("phone");
    let owner = || v5(&id).at(broker.address).login("c42", "secret").persistent();
    let mut first = owner().open();
    first.subscribe("cs/1/main/customer/42/down", 1);
    first.vanish();
    // Another user takes it neither while it is away nor while it is there.
    v5(&id).at(broker.address).login("c43", "other").refused(0x87);
    v5(&id).at(broker.open).refused(0x87);
    let mut back = owner().open();
    assert!(back.connack.session_present);
    v5(&id).at(broker.address).login("c43", "other").persistent().refused(0x87);
    let mut op = broker.user("op");
    op.deliver(message("cs/1/main/customer/42/down", "hello").qos(1));
    back.receive("cs/1/main/customer/42/down", "hello");
}

#[test]
fn a_connection_ends_with_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let broker = serve(folder.path(), "");
    // The leeway is for clocks; the connection ends when the token says.
    let soon = json!({"sub": "7", "role": "customer", "exp": now_s() + 2});
    let mut one = v5(&unique("soon")).at(broker.address).login("x", token(&soon)).open();
    one.expect_ended(0xA0);
}

#[test]
fn a_certificate_is_a_login() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test Root");
    authority.issue("broker", &["localhost"], 1).write(folder.path(), "server");
    put(folder.path(), "ca.pem", &authority.certificate);
    put(
        folder.path(),
        "acl.toml",
        "[[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = [\"sensors/%u/#\"]\nrole = [\"device\"]\n",
    );
    let more = "[auth.certificate]\nrole = \"device\"\n[acl]\nfile = \"acl.toml\"\n[listener.things]\nbind = \"127.0.0.1:0\"\n\
                authentication = [\"certificate\"]\nallow_anonymous = false\n[listener.things.tls]\n\
                certificate = \"server.pem\"\nkey = \"server.key\"\nclient_certificate = \"optional\"\nclient_ca = \"ca.pem\"\n";
    let broker = serve(folder.path(), more);
    let things = broker.server.addresses()[2].1;
    let device = authority.issue("meter-7", &[], 2);
    let with = Relay::start(things, client(&authority, Some(&device), &[&TLS13]), "localhost");
    let without = Relay::start(things, client(&authority, None, &[&TLS13]), "localhost");
    let mut meter = v5(&unique("meter")).at(with.address).open();
    meter.subscribe("sensors/meter-7/#", 1);
    assert_eq!(meter.subscribe_with(&subscription("sensors/meter-8/#", 1)).codes, [0x87]);
    let mut same = v5(&unique("meter")).at(with.address).open();
    same.deliver(message("sensors/meter-7/heat", "21").qos(1));
    meter.receive("sensors/meter-7/heat", "21");
    v5(&unique("bare")).at(without.address).refused(0x87);
}

#[test]
fn wrong_configurations_are_told() {
    let folder = tempfile::tempdir().unwrap();
    put(
        folder.path(),
        "users.toml",
        "[[user]]\nname = \"a\"\nrole = \"king\"\npassword = \"plain\"\n[[user]]\nname = \"b\"\n",
    );
    put(folder.path(), "short", "short");
    for (text, expected) in [
        ("[listener.a]\nbind = \"127.0.0.1:0\"\nauthentication = [\"user\"]\n", "did you mean \"users\"?"),
        ("[listener.a]\nbind = \"127.0.0.1:0\"\nauthentication = [\"users\"]\n", "auth.users: missing"),
        ("[listener.a]\nbind = \"127.0.0.1:0\"\nauthentication = [\"jwt\"]\n", "auth.jwt: missing"),
        (
            "[listener.a]\nbind = \"127.0.0.1:0\"\nauthentication = [\"certificate\"]\n[auth.certificate]\nrole = \"device\"\n",
            "nobody is asked for a certificate",
        ),
        ("[auth]\nusers = \"users.toml\"\n", "user.role: \"king\" is no role"),
        ("[auth]\nusers = \"users.toml\"\n", "users.toml:5:1  user.password: missing"),
        ("[auth]\nusers = \"nowhere.toml\"\n", "cannot be read"),
        ("[auth.jwt]\nissuer = \"x\"\n", "has no key"),
        ("[auth.jwt]\nsecret = \"short\"\nkey_set = \"short\"\n", "more than one"),
        ("[auth.jwt]\nsecret = \"short\"\n", "a secret of 5 bytes; at least 32"),
        ("[auth.jwt]\npublic_key = \"short\"\n", "no public key"),
        ("[auth.jwt]\nkey_set = \"short\"\n", "no JSON Web Key Set"),
        ("[auth.certificate]\ntenant = \"x\"\n", "auth.certificate.role: missing"),
    ] {
        let file = put(folder.path(), "switchboard.toml", text);
        let problems = config::load(Some(&file), &[]).map(drop).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|one| one.contains(expected)), "{text}: {told:?}");
    }
}
