//! MQTT over TLS: what a client says comes through whole, and who should not come in does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod dialogue;
mod secure;

use std::net::SocketAddr;
use std::path::Path;

use dialogue::{message, unique, v5, v311};
use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};
use secure::{Authority, Relay, client, put};
use switchboard::Server;
use switchboard::config::settings::{
    CertificateFiles, ClientCertificate, ListenerSettings, Settings, TlsSettings, TlsVersion,
};

const ANY: [&rustls::SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn settings(certificate: CertificateFiles) -> TlsSettings {
    TlsSettings {
        certificate,
        further: vec![],
        oldest: TlsVersion::V12,
        client_certificate: ClientCertificate::None,
        client_ca: None,
        client_crl: None,
    }
}

/// A broker of two shards with one listener.
fn serve(tls: TlsSettings) -> (Server, SocketAddr) {
    let listener = ListenerSettings {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: Some(tls),
        ..ListenerSettings::default()
    };
    let settings = Settings { shards: 2, http: None, listeners: vec![listener], ..Settings::default() };
    let server = Server::start(settings, None).expect("the broker starts");
    let address = server.addresses()[0].1;
    (server, address)
}

/// A broker with a certificate for `localhost`.
fn plain_server(folder: &Path) -> (Server, SocketAddr, Authority) {
    let authority = Authority::new("Test Root");
    let files = authority.issue("broker", &["localhost"], 1).write(folder, "server");
    let (server, address) = serve(settings(files));
    (server, address, authority)
}

#[test]
fn messages_of_every_size_come_through_on_both_shards() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address, authority) = plain_server(folder.path());
    for (version, spoken) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)] {
        let relay = Relay::start(address, client(&authority, None, &[version]), "localhost");
        let topic = unique("topic");
        // Enough clients that some live on either shard, whichever accepts them.
        let mut readers: Vec<_> = (0..6).map(|_| v5(&unique("reader")).at(relay.address).open()).collect();
        for reader in &mut readers {
            reader.subscribe(&topic, 2);
        }
        let mut writer = v311(&unique("writer")).at(relay.address).open();
        for size in [0, 1, 100, 4095, 16_383, 16_384, 16_385, 70_000, 1_000_000] {
            let text: String = (0..size).map(|at: u32| char::from(b'a' + (at % 26) as u8)).collect();
            writer.deliver(message(&topic, &text).qos(2));
            for reader in &mut readers {
                reader.receive(&topic, &text);
            }
        }
        readers.into_iter().for_each(dialogue::Client::disconnect);
        writer.disconnect();
        let ended = wait_for(&relay, 7);
        assert!(ended.iter().all(|one| *one == (Some(spoken), None)), "{ended:?}");
    }
}

/// How the first connections of a relay ended: version and error.
fn wait_for(relay: &Relay, count: usize) -> Vec<(Option<ProtocolVersion>, Option<String>)> {
    loop {
        let ended = relay.ended.lock().unwrap();
        if ended.len() >= count {
            return ended.iter().map(|one| (one.version, one.error.clone())).collect();
        }
        drop(ended);
        std::thread::yield_now();
    }
}

#[test]
fn who_comes_back_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address, authority) = plain_server(folder.path());
    for version in [&TLS13, &TLS12] {
        let relay = Relay::start(address, client(&authority, None, &[version]), "localhost");
        for round in 0..3 {
            let mut one = v5(&unique("again")).at(relay.address).open();
            one.subscribe("a", 0);
            one.disconnect();
            wait_for(&relay, round + 1);
            assert_eq!(relay.ended.lock().unwrap()[round].resumed, round > 0, "{version:?}");
        }
    }
}

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test Root");
    let first = authority.issue("first", &["one.example"], 1).write(folder.path(), "first");
    let second =
        authority.issue("second", &["two.example", "*.many.example"], 2).write(folder.path(), "second");
    let (_server, address) = serve(TlsSettings { further: vec![second], ..settings(first) });
    let config = client(&authority, None, &ANY);
    for (name, wrong) in [
        ("one.example", false),
        ("two.example", false),
        ("x.many.example", false),
        ("x.y.many.example", true),
        ("many.example", true),
        ("three.example", true),
    ] {
        let relay = Relay::start(address, config.clone(), name);
        let mut one = v5(&unique("named")).at(relay.address).start();
        if wrong {
            one.expect_closed();
            let (_, error) = wait_for(&relay, 1).remove(0);
            assert!(
                error.as_ref().is_some_and(|error| error.contains("not valid for name")),
                "{name}: {error:?}"
            );
        } else {
            one.expect_connack();
        }
    }
}

#[test]
fn clients_show_certificates_where_they_have_to() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new("Test Root"), Authority::new("Another Root"));
    let files = authority.issue("broker", &["localhost"], 1).write(folder.path(), "server");
    let tls = TlsSettings {
        client_certificate: ClientCertificate::Required,
        client_ca: Some(put(folder.path(), "ca.pem", &authority.certificate)),
        client_crl: Some(put(folder.path(), "crl.pem", &authority.revoke(&[66]))),
        ..settings(files)
    };
    let (_server, address) = serve(tls.clone());
    let (_lenient, optional) = serve(TlsSettings { client_certificate: ClientCertificate::Optional, ..tls });
    let good = authority.issue("device-1", &[], 2);
    let revoked = authority.issue("device-66", &[], 66);
    let expired = authority.issue_until("device-3", &[], 3, 2021);
    let foreign = stranger.issue("device-1", &[], 2);
    for (what, shows, in_required, in_optional) in [
        ("a good one", Some(&good), true, true),
        ("none", None, false, true),
        ("a revoked one", Some(&revoked), false, false),
        ("an expired one", Some(&expired), false, false),
        ("a stranger's", Some(&foreign), false, false),
    ] {
        for version in [&TLS13, &TLS12] {
            let config = client(&authority, shows, &[version]);
            for (address, comes_in) in [(address, in_required), (optional, in_optional)] {
                let relay = Relay::start(address, config.clone(), "localhost");
                let mut one = v5(&unique("shown")).at(relay.address).start();
                if comes_in {
                    one.expect_connack();
                } else {
                    one.expect_closed();
                    let (_, error) = wait_for(&relay, 1).remove(0);
                    assert!(error.is_some(), "{what} {version:?}");
                }
            }
        }
    }
}

#[test]
fn plain_text_is_no_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address, _) = plain_server(folder.path());
    let mut one = v5(&unique("plain")).at(address).start();
    // A fatal alert: unexpected_message or decode_error.
    let said = one.read_to_end();
    assert_eq!(said.first(), Some(&21), "{said:?}");
}

#[test]
fn wrong_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test Root");
    let good = authority.issue("broker", &["localhost"], 1).write(folder.path(), "good");
    let other = authority.issue("other", &["localhost"], 2).write(folder.path(), "other");
    let empty = put(folder.path(), "empty.pem", "");
    let ca = Some(put(folder.path(), "ca.pem", &authority.certificate));
    let required = TlsSettings { client_certificate: ClientCertificate::Required, ..settings(good.clone()) };
    let cases = [
        (
            settings(CertificateFiles { certificate: "nowhere.pem".into(), ..good.clone() }),
            "nowhere.pem: No such file",
        ),
        (settings(CertificateFiles { certificate: empty.clone(), ..good.clone() }), "no certificate in it"),
        (
            settings(CertificateFiles { key: empty.clone(), ..good.clone() }),
            "empty.pem: no private key in it",
        ),
        (settings(CertificateFiles { key: other.key, ..good.clone() }), "it is not the key of"),
        (
            TlsSettings { client_ca: Some(empty.clone()), ..required.clone() },
            "empty.pem: no certificate in it",
        ),
        (TlsSettings { client_ca: ca, client_crl: Some(empty), ..required }, "no revocation list in it"),
    ];
    for (tls, wrong) in cases {
        let listener = ListenerSettings {
            tls: Some(tls),
            bind: ([127, 0, 0, 1], 0).into(),
            ..ListenerSettings::default()
        };
        let settings = Settings { shards: 1, http: None, listeners: vec![listener], ..Settings::default() };
        let error = Server::start(settings, None).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("listener tcp: ") && error.contains(wrong), "{error}");
    }
}
