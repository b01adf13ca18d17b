//! Certificates made for a test, and a relay that speaks TLS for clients that speak plain TCP.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::allow_attributes_without_reason,
    reason = "test support, of which each test program uses a part"
)]

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use switchboard::config::settings::CertificateFiles;

/// A certificate with its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// Who issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for these DNS names, with a common name and a serial number.
    pub fn issue(&self, common_name: &str, names: &[&str], serial: u64) -> Pair {
        self.issue_until(common_name, names, serial, 4096)
    }

    /// The same, good until the beginning of this year.
    pub fn issue_until(&self, common_name: &str, names: &[&str], serial: u64, year: i32) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// A list that takes certificates with these serial numbers back.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Pair {
    /// Writes both files into a folder.
    pub fn write(&self, folder: &Path, name: &str) -> CertificateFiles {
        let put = |kind: &str, text: &str| put(folder, &format!("{name}.{kind}"), text);
        CertificateFiles { certificate: put("pem", &self.certificate), key: put("key", &self.key) }
    }
}

/// Writes a file into a folder.
pub fn put(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// What a client speaks TLS with: it trusts this authority, and may show a certificate.
pub fn client(
    authority: &Authority,
    shows: Option<&Pair>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match shows {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// Listens for plain TCP and carries what comes to a broker over TLS, a thread for each connection.
pub struct Relay {
    pub address: SocketAddr,
    /// How each connection ended, and what was agreed on in its handshake.
    pub ended: Arc<Mutex<Vec<Ended>>>,
}

/// One connection of a relay.
#[derive(Debug)]
pub struct Ended {
    pub resumed: bool,
    pub version: Option<rustls::ProtocolVersion>,
    pub error: Option<String>,
}

impl Relay {
    pub fn start(to: SocketAddr, config: Arc<ClientConfig>, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended: Arc<Mutex<Vec<Ended>>> = Arc::default();
        let (name, all) = (ServerName::try_from(name.to_owned()).unwrap(), ended.clone());
        thread::spawn(move || {
            for plain in listener.incoming() {
                let (plain, config, name, all) = (plain.unwrap(), config.clone(), name.clone(), all.clone());
                thread::spawn(move || {
                    let mut tls = ClientConnection::new(config, name).unwrap();
                    let outcome = carry(TcpStream::from_std(plain), to, &mut tls);
                    let resumed = tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                    let error = outcome.err().map(|error| error.to_string());
                    all.lock().unwrap().push(Ended { resumed, version: tls.protocol_version(), error });
                });
            }
        });
        Self { address, ended }
    }
}

/// Carries bytes both ways until one side ends.
fn carry(mut plain: TcpStream, to: SocketAddr, tls: &mut ClientConnection) -> io::Result<()> {
    let secure = std::net::TcpStream::connect(to)?;
    secure.set_nodelay(true)?;
    secure.set_nonblocking(true)?;
    plain.set_nodelay(true)?;
    // The standard library accepts blocking sockets.
    socket2::SockRef::from(&plain).set_nonblocking(true)?;
    let mut secure = TcpStream::from_std(secure);
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(8));
    let both = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut plain, Token(0), both)?;
    poll.registry().register(&mut secure, Token(1), both)?;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    loop {
        let mut moved = false;
        moved |= take(|buffer| plain.read(buffer), &mut up)?;
        while !up.is_empty() {
            let taken = tls.writer().write(&up)?;
            up.drain(..taken);
            moved |= taken > 0;
            if taken == 0 {
                break;
            }
        }
        while tls.wants_write() {
            match tls.write_tls(&mut secure) {
                Ok(_) => moved = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        match tls.read_tls(&mut secure) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                moved = true;
                if let Err(error) = tls.process_new_packets() {
                    let _ = tls.write_tls(&mut secure);
                    return Err(io::Error::other(error));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        take(|buffer| tls.reader().read(buffer), &mut down)?;
        while !down.is_empty() {
            match plain.write(&down) {
                Ok(count) => {
                    down.drain(..count);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if !moved {
            poll.poll(&mut events, None)?;
        }
    }
}

/// Reads once. `true`: something came.
fn take(read: impl FnOnce(&mut [u8]) -> io::Result<usize>, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16_384];
    match read(&mut buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(count) => {
            into.extend_from_slice(buffer.get(..count).unwrap_or_default());
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
