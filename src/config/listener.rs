//! One listener: where it stands, and what is spoken there. Pure.

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use super::raw::{RawListener, RawProxy, RawTls, RawWebSocket, Word};
use super::settings::{
    AuthMethod, CertificateFiles, ClientCertificate, ListenerSettings, ProxySettings, TlsSettings,
    TlsVersion, WebSocketSettings,
};
use super::values::{ADDRESS, Values, switch};
use crate::spelling::suggest;

const SECOND: Duration = Duration::from_secs(1);
/// Each is tried when a client asks for a name.
const MAX_CERTIFICATES: usize = 1000;
const MAX_ORIGINS: usize = 100;
const MAX_PROXIES: usize = 1000;

const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)];
const METHODS: [(&str, AuthMethod); 3] =
    [("users", AuthMethod::Users), ("jwt", AuthMethod::Jwt), ("certificate", AuthMethod::Certificate)];
const CLIENT_CERTIFICATES: [(&str, ClientCertificate); 3] = [
    ("none", ClientCertificate::None),
    ("optional", ClientCertificate::Optional),
    ("required", ClientCertificate::Required),
];

/// Reads `[listener.NAME]`.
pub(super) fn listener(
    values: &mut Values<'_>,
    name: &Spanned<String>,
    raw: &RawListener,
) -> ListenerSettings {
    let default = ListenerSettings::default();
    let key = |key: &str| format!("listener.{}.{key}", name.get_ref());
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !(1..=32).contains(&name.get_ref().len()) || !name.get_ref().chars().all(known) {
        let wrong = format!("{:?} is no name for a listener", name.get_ref());
        values.problem(&name.span(), "listener", wrong, "1 to 32 letters, digits, - or _");
    }
    if raw.bind.is_none() && !values.told(&key("bind")) {
        values.problem(&name.span(), &key("bind"), "missing", ADDRESS);
    }
    let bind = values.address(&key("bind"), &raw.bind, default.bind);
    let connections = (&raw.max_connections, default.max_connections);
    let timeout = (&raw.connect_timeout, default.connect_timeout);
    let backlog = (&raw.accept_backlog, default.accept_backlog);
    let rate = (&raw.accept_rate, default.accept_rate);
    let handshakes = (&raw.max_handshakes, default.max_handshakes);
    // As far as the timer wheel reaches.
    let timeouts = SECOND..=100 * SECOND;
    let mut one = One { values, name };
    ListenerSettings {
        name: name.get_ref().clone(),
        bind,
        allow_anonymous: switch(&raw.allow_anonymous, bind.ip().is_loopback()),
        authentication: one.authentication(&raw.authentication),
        tls: raw.tls.as_ref().map(|tls| one.tls(tls)),
        websocket: raw.websocket.as_ref().map(|websocket| one.websocket(websocket)),
        proxy: raw.proxy.as_ref().map(|proxy| one.proxy(proxy)),
        max_connections: values.count(&key("max_connections"), connections.0, connections.1, 1..=100_000_000),
        connect_timeout: values.duration(&key("connect_timeout"), timeout.0, timeout.1, timeouts),
        accept_backlog: values.count(&key("accept_backlog"), backlog.0, backlog.1, 1..=65_535),
        accept_rate: values.count(&key("accept_rate"), rate.0, rate.1, 0..=1_000_000),
        max_handshakes: values.count(&key("max_handshakes"), handshakes.0, handshakes.1, 0..=100_000_000),
    }
}

/// The tables within one listener.
struct One<'v, 'a> {
    values: &'v mut Values<'a>,
    name: &'v Spanned<String>,
}

impl One<'_, '_> {
    fn key(&self, key: &str) -> String {
        format!("listener.{}.{key}", self.name.get_ref())
    }

    fn authentication(&mut self, raw: &[Spanned<String>]) -> Vec<AuthMethod> {
        let mut methods = Vec::new();
        for written in raw {
            match METHODS.iter().find(|(name, _)| name == written.get_ref()) {
                Some((_, method)) if !methods.contains(method) => methods.push(*method),
                found => {
                    let twice = found.is_some();
                    let what = if twice { "is there twice" } else { "is not known" };
                    let wrong = format!("{:?} {what}", written.get_ref());
                    let names = METHODS.map(|(name, _)| name);
                    let right =
                        if twice { "each once".to_owned() } else { suggest(written.get_ref(), &names) };
                    let key = self.key("authentication");
                    self.values.problem(&written.span(), &key, wrong, right);
                }
            }
        }
        methods
    }

    /// A file that has to be named.
    fn file(&mut self, key: &str, raw: &Word, place: &Range<usize>, what: &str) -> PathBuf {
        let path = self.values.path(raw);
        let key = self.key(key);
        if path.is_none() && !self.values.told(&key) {
            self.values.problem(place, &key, "missing", what);
        }
        path.unwrap_or_default()
    }

    fn tls(&mut self, raw: &RawTls) -> TlsSettings {
        let place = self.name.span();
        let certificate = CertificateFiles {
            certificate: self.file("tls.certificate", &raw.certificate, &place, CERTIFICATE),
            key: self.file("tls.key", &raw.key, &place, KEY),
        };
        let key = self.key("tls.further");
        let further = self.values.at_most(&key, &raw.further, MAX_CERTIFICATES, "certificates");
        let further = further.iter().map(|one| {
            let (one, place) = (one.get_ref(), one.span());
            CertificateFiles {
                certificate: self.file("tls.further.certificate", &one.certificate, &place, CERTIFICATE),
                key: self.file("tls.further.key", &one.key, &place, KEY),
            }
        });
        let further = further.collect();
        let (oldest, asks) = (self.key("tls.oldest"), self.key("tls.client_certificate"));
        let none = ClientCertificate::None;
        let client_certificate =
            self.values.choice(&asks, &raw.client_certificate, none, &CLIENT_CERTIFICATES);
        let client_ca = self.values.path(&raw.client_ca);
        let client_crl = self.values.path(&raw.client_crl);
        if client_certificate != none && client_ca.is_none() {
            let right = "the file with who may have issued clients' certificates";
            self.values.problem(&place, &self.key("tls.client_ca"), "missing", right);
        }
        for (key, written) in [("tls.client_ca", &raw.client_ca), ("tls.client_crl", &raw.client_crl)] {
            if let Some(written) = written.as_ref().filter(|_| client_certificate == none) {
                let right = "client_certificate = \"optional\" or \"required\", or leave it out";
                self.values.problem(
                    &written.span(),
                    &self.key(key),
                    "nobody is asked for a certificate",
                    right,
                );
            }
        }
        let oldest = self.values.choice(&oldest, &raw.oldest, TlsVersion::V12, &VERSIONS);
        TlsSettings { certificate, further, oldest, client_certificate, client_ca, client_crl }
    }

    fn websocket(&mut self, raw: &RawWebSocket) -> WebSocketSettings {
        let default = WebSocketSettings::default();
        let path = raw.path.as_ref().map_or(default.path, |path| path.get_ref().clone());
        if let Some(written) = &raw.path
            && (!path.starts_with('/')
                || path.contains(['?', '#'])
                || path.chars().any(|c| c.is_control() || c == ' '))
        {
            let wrong = format!("{path:?} is no path of a request");
            self.values.problem(&written.span(), &self.key("websocket.path"), wrong, "such as \"/mqtt\"");
        }
        let key = self.key("websocket.origins");
        let origins = self.values.at_most(&key, &raw.origins, MAX_ORIGINS, "origins");
        for origin in origins {
            let (scheme, host) = origin.get_ref().split_once("://").unwrap_or_default();
            if scheme.is_empty() || host.is_empty() || host.contains('/') {
                let wrong = format!("{:?} is no origin", origin.get_ref());
                self.values.problem(&origin.span(), &key, wrong, "such as \"https://desk.example.com\"");
            }
        }
        WebSocketSettings { path, origins: origins.iter().map(|origin| origin.get_ref().clone()).collect() }
    }

    fn proxy(&mut self, raw: &RawProxy) -> ProxySettings {
        let key = self.key("proxy.from");
        if raw.from.is_empty() && !self.values.told(&key) {
            let right = "the addresses of the proxies, such as [\"10.0.0.0/8\"]";
            self.values.problem(&self.name.span(), &key, "missing", right);
        }
        let mut from = Vec::new();
        for written in self.values.at_most(&key, &raw.from, MAX_PROXIES, "networks") {
            let text = written.get_ref();
            let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            if net.is_err() {
                let wrong = format!("{text:?} is no network");
                self.values.problem(&written.span(), &key, wrong, "such as \"10.0.0.0/8\" or \"::1\"");
            }
            from.extend(net);
        }
        ProxySettings { from }
    }
}

const CERTIFICATE: &str = "the file with the certificate and those that lead to its root";
const KEY: &str = "the file with the certificate's private key";
