//! TLS of a listener: its certificates, and one client's connection.
//!
//! Driven by rustls' unbuffered interface, which keeps no buffer of its own for a client that is idle.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
    ServerConnectionData, UnbufferedServerConnection, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::settings::{CertificateFiles, ClientCertificate, TlsSettings, TlsVersion};

/// Gives what a file holds.
pub type Read<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Bytes of a record around its text, generously.
const AROUND_A_RECORD: usize = 64;

/// Bytes of text in a record [RFC 8446 5.1].
const RECORD: usize = 16 * 1024;

/// A listener's TLS that cannot be as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("{}: {wrong}", file.display())]
pub struct TlsError {
    /// Which file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub wrong: String,
}

impl TlsError {
    fn new(file: &Path, wrong: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), wrong: wrong.to_string() }
    }
}

/// What a listener's handshakes are made with.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(super) config: Arc<ServerConfig>,
    /// When the first of its certificates ends, in seconds since the epoch.
    pub expires_at: i64,
}

impl Identity {
    /// Has `read` bring all files that `settings` name.
    ///
    /// Tickets resume sessions of clients that come back: half the work of a full handshake. Their key is made here, so
    /// they end with this identity; a client that a new revocation list names cannot come back with one.
    ///
    /// # Errors
    /// [`TlsError`]: a file cannot be read, or is not what it should be, or does not belong to another.
    pub fn load(settings: &TlsSettings, websocket: bool, read: Read<'_>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let (certificates, expires_at) = Certificates::load(settings, &provider, read)?;
        let file = &settings.certificate.certificate;
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions(settings.oldest))
            .map_err(|error| TlsError::new(file, error))?
            .with_client_cert_verifier(verifier(settings, &provider, read)?)
            .with_cert_resolver(Arc::new(certificates));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets().map_err(|error| TlsError::new(file, error))?;
        config.send_tls13_tickets = 1;
        if websocket {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(Self { config: Arc::new(config), expires_at })
    }
}

/// Their keys change every six hours; a ticket is good for twelve.
fn tickets() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    ring::Ticketer::new()
}

static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    let count = if oldest == TlsVersion::V12 { 2 } else { 1 };
    VERSIONS.get(..count).unwrap_or_default()
}

fn read_certificates(file: &Path, read: Read<'_>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(file).map_err(|error| TlsError::new(file, error))?;
    let found = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::new(file, format!("not PEM: {error}")))?;
    if found.is_empty() {
        return Err(TlsError::new(file, "no certificate in it"));
    }
    Ok(found)
}

fn verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    read: Read<'_>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(ca) =
        settings.client_ca.as_ref().filter(|_| settings.client_certificate != ClientCertificate::None)
    else {
        return Ok(Arc::new(NoClientAuth));
    };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(ca, read)? {
        roots.add(certificate).map_err(|error| TlsError::new(ca, error))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if let Some(file) = &settings.client_crl {
        let bytes = read(file).map_err(|error| TlsError::new(file, error))?;
        let lists = CertificateRevocationListDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::new(file, format!("not PEM: {error}")))?;
        if lists.is_empty() {
            return Err(TlsError::new(file, "no revocation list in it"));
        }
        // Of clients alone, not of their issuers, whose lists are rare. Whose issuer has no list here is refused.
        builder = builder.with_crls(lists).only_check_end_entity_revocation();
    }
    if settings.client_certificate == ClientCertificate::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| TlsError::new(settings.client_crl.as_ref().unwrap_or(ca), error))
}

/// A listener's certificates, by the names that they are for.
#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    /// With when the first of them ends.
    fn load(
        settings: &TlsSettings,
        provider: &CryptoProvider,
        read: Read<'_>,
    ) -> Result<(Self, i64), TlsError> {
        let (default, names, mut expires_at) = certified(&settings.certificate, provider, read)?;
        let mut named: HashMap<_, _> = names.into_iter().map(|name| (name, default.clone())).collect();
        for files in &settings.further {
            let (certificate, names, ends) = certified(files, provider, read)?;
            expires_at = expires_at.min(ends);
            for name in names {
                named.entry(name).or_insert_with(|| certificate.clone());
            }
        }
        Ok((Self { default, named }, expires_at))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        let found = asked.as_ref().and_then(|name| {
            // A wildcard stands for one whole label [RFC 6125 6.4.3].
            let wild = || self.named.get(&format!("*.{}", name.split_once('.')?.1));
            self.named.get(name).or_else(wild)
        });
        Some(found.unwrap_or(&self.default).clone())
    }
}

/// A certificate with its key, the names it is for, and when it ends.
fn certified(
    files: &CertificateFiles,
    provider: &CryptoProvider,
    read: Read<'_>,
) -> Result<(Arc<CertifiedKey>, Vec<String>, i64), TlsError> {
    let chain = read_certificates(&files.certificate, read)?;
    let key =
        PrivateKeyDer::from_pem_slice(&read(&files.key).map_err(|error| TlsError::new(&files.key, error))?)
            .map_err(|error| TlsError::new(&files.key, format!("no private key in it: {error}")))?;
    let (names, ends) = chain
        .first()
        .and_then(|leaf| describe(leaf))
        .ok_or_else(|| TlsError::new(&files.certificate, "no X.509 certificate"))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::new(&files.key, format!("it is not the key of {}", files.certificate.display()))
        }
        error => TlsError::new(&files.key, error),
    })?;
    Ok((Arc::new(certified), names, ends))
}

/// The DNS names that a certificate is for, in lower case, and when it ends, in seconds since the epoch.
fn describe(der: &[u8]) -> Option<(Vec<String>, i64)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Some((names.collect(), certificate.validity().not_after.timestamp()))
}

/// How a connection goes on after some of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    /// The client has said that nothing more comes.
    Ended,
    /// It does not speak TLS as it should; `wire` has the alert that says so.
    Broken,
}

/// One client's TLS.
pub(super) struct Tls {
    connection: UnbufferedServerConnection,
    /// Of a record that has not come whole.
    partial: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("partial", &self.partial.len()).finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn new(identity: &Identity) -> Result<Self, rustls::Error> {
        let connection = UnbufferedServerConnection::new(identity.config.clone())?;
        Ok(Self { connection, partial: Vec::new() })
    }

    /// Whether the handshake is over.
    pub(super) fn is_open(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// The common name in the client's certificate, which was found right.
    pub(super) fn common_name(&self) -> Option<Box<str>> {
        let leaf = self.connection.peer_certificates()?.first()?;
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        let mut names = certificate.subject().iter_common_name();
        let name = names.next()?.as_str().ok()?;
        // Of two it could not be told who it is.
        names.next().is_none().then(|| name.into())
    }

    /// Takes what has come. Appends what it says to `plain`, and what is to be sent to `wire`.
    pub(super) fn receive(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Then {
        if self.partial.is_empty() {
            let (used, then) = self.process(bytes, plain, wire);
            self.partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
            return then;
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        let (used, then) = self.process(&mut joined, plain, wire);
        if used < joined.len() {
            joined.drain(..used);
            self.partial = joined;
        }
        then
    }

    /// Says how many of the bytes are done with.
    fn process(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> (usize, Then) {
        let mut used = 0;
        loop {
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(rest);
            used += discard;
            let then = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        plain.extend_from_slice(record.payload);
                    }
                    continue;
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(wire, |room| data.encode(room));
                    continue;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    continue;
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Then::GoOn,
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Then::Ended,
                // Early data is never asked for.
                Ok(_) => Then::Broken,
                Err(_) => {
                    self.alert(bytes.get_mut(used..).unwrap_or_default(), wire);
                    Then::Broken
                }
            };
            return (used, then);
        }
    }

    /// What rustls has to say about what it could not take. Asked once: an alert is the last that there is, and after
    /// an error nothing more may be read.
    fn alert(&mut self, rest: &mut [u8], wire: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(rest).state
        {
            encode(wire, |room| data.encode(room));
        }
    }

    /// The connection as one that may be written to.
    ///
    /// rustls remembers where in the bytes that are not done with a message has begun, so they have to be shown to it
    /// each time: it panics if they are not there.
    fn writer(&mut self) -> Option<WriteTraffic<'_, ServerConnectionData>> {
        match self.connection.process_tls_records(&mut self.partial).state {
            Ok(ConnectionState::WriteTraffic(traffic)) => Some(traffic),
            _ => None,
        }
    }

    /// Appends `plain`, encrypted, to `wire`. `false`: it cannot be.
    pub(super) fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> bool {
        let Some(mut traffic) = self.writer() else { return false };
        let before = wire.len();
        let records = plain.len() / RECORD + 2;
        wire.resize(before + plain.len() + records * AROUND_A_RECORD, 0);
        loop {
            match traffic.encrypt(plain, wire.get_mut(before..).unwrap_or_default()) {
                Ok(written) => {
                    wire.truncate(before + written);
                    return true;
                }
                Err(EncryptError::InsufficientSize(size)) if before + size.required_size > wire.len() => {
                    wire.resize(before + size.required_size, 0);
                }
                Err(_) => {
                    wire.truncate(before);
                    return false;
                }
            }
        }
    }

    /// Appends our goodbye.
    pub(super) fn close(&mut self, wire: &mut Vec<u8>) {
        let Some(mut traffic) = self.writer() else { return };
        let before = wire.len();
        wire.resize(before + AROUND_A_RECORD, 0);
        let written = traffic.queue_close_notify(wire.get_mut(before..).unwrap_or_default());
        wire.truncate(before + written.unwrap_or(0));
    }
}

/// Lets `put` write behind what is in `wire`, in as much room as it wants.
fn encode(wire: &mut Vec<u8>, mut put: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let before = wire.len();
    let mut written = put(&mut []);
    if let Err(EncodeError::InsufficientSize(size)) = &written {
        wire.resize(before + size.required_size, 0);
        written = put(wire.get_mut(before..).unwrap_or_default());
    }
    wire.truncate(before + written.unwrap_or(0));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use rustls::{ClientConfig, ClientConnection};
    use std::fs;
    use std::io::{Read, Write};

    /// A server's identity, and what its clients trust.
    fn identity() -> (Identity, RootCertStore) {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let put = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let certificate = put("pem", made.cert.pem());
        let key = put("key", made.signing_key.serialize_pem());
        let settings = TlsSettings {
            certificate: CertificateFiles { certificate, key },
            further: vec![],
            oldest: TlsVersion::V12,
            client_certificate: ClientCertificate::None,
            client_ca: None,
            client_crl: None,
        };
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        (Identity::load(&settings, false, &|path| fs::read(path)).unwrap(), roots)
    }

    /// A client whose messages are cut into records of this size, so that each handshake message spans several.
    fn client(roots: &RootCertStore, fragment: usize, version: usize) -> ClientConnection {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&VERSIONS[version..=version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.max_fragment_size = Some(fragment);
        ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap()
    }

    /// Plays a dialogue in which the client's bytes come in random cuts and, if so, are damaged somewhere. Says whether
    /// all that was sent has come, both ways.
    fn play(identity: &Identity, roots: &RootCertStore, seed: u64, damage: bool) -> bool {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut client = client(roots, rng.usize(32..600), rng.usize(..2));
        let mut server = Tls::new(identity).unwrap();
        let (mut to_server, mut said, mut heard, mut told) = (vec![], Vec::<u8>::new(), vec![], vec![]);
        let (mut sent, mut asked) = (0, 0);
        let harm = rng.usize(..3000);
        let mut passed = 0;
        for _ in 0..4000 {
            let before = to_server.len();
            client.write_tls(&mut to_server).unwrap();
            for byte in to_server.iter_mut().skip(before) {
                passed += 1;
                if damage && passed == harm {
                    *byte ^= 1 << rng.u8(..8);
                }
            }
            let cut = rng.usize(..=to_server.len().min(400));
            let mut piece: Vec<u8> = to_server.drain(..cut).collect();
            let mut wire = vec![];
            let then = server.receive(&mut piece, &mut heard, &mut wire);
            if server.is_open() && then == Then::GoOn && told.len() < 2000 && rng.u8(..4) == 0 {
                let text = vec![rng.u8(..); rng.usize(1..300)];
                assert!(server.send(&text, &mut wire));
                told.extend(text);
            }
            let mut rest = &wire[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                if client.process_new_packets().is_err() {
                    return false;
                }
            }
            if then != Then::GoOn {
                return false;
            }
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = client.reader().read(&mut buffer) {
                asked += count;
            }
            if !client.is_handshaking() && said.len() < 2000 && rng.u8(..4) == 0 {
                let text = vec![rng.u8(..); rng.usize(1..300)];
                sent += client.writer().write(&text).unwrap();
                said.extend(&text);
            }
            if !client.is_handshaking() && rng.u8(..40) == 0 {
                client.refresh_traffic_keys().unwrap_or_default();
            }
            if sent >= 2000 && told.len() >= 2000 && to_server.is_empty() && !client.wants_write() {
                // A length that was made larger waits for more; nothing wrong is ever let through.
                assert!(said.starts_with(&heard), "seed {seed}");
                return asked == told.len() && heard == said;
            }
        }
        false
    }

    #[test]
    fn records_in_any_cut_come_through() {
        let (identity, roots) = identity();
        for seed in 0..40 {
            assert!(play(&identity, &roots, seed, false), "seed {seed}");
        }
    }

    #[test]
    fn damage_ends_a_connection_and_nothing_else() {
        let (identity, roots) = identity();
        let whole = (0..200).filter(|seed| play(&identity, &roots, *seed, true)).count();
        // Only damage to what is not covered by a signature goes unnoticed: the version of a record.
        assert!(whole < 20, "{whole} of 200 were not noticed");
    }

    #[test]
    fn noise_is_no_tls() {
        let (identity, _) = identity();
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2000 {
            let mut server = Tls::new(&identity).unwrap();
            let (mut plain, mut wire) = (vec![], vec![]);
            for _ in 0..4 {
                let mut noise: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
                // Often like the beginning of a handshake.
                if rng.bool() && noise.len() > 9 {
                    noise[..6].copy_from_slice(&[22, 3, 1, 0, rng.u8(..), 1]);
                }
                if server.receive(&mut noise, &mut plain, &mut wire) != Then::GoOn {
                    break;
                }
            }
            assert!(plain.is_empty() && !server.is_open());
        }
    }
}
