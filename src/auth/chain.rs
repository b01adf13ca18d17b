//! The methods of a listener, one after the other: the first that knows a client decides.

use std::sync::Arc;

use super::password::Users;
use super::token::Tokens;
use super::{Denied, Principal, Role};

/// What a client shows.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// User Name of CONNECT.
    pub user: Option<&'a str>,
    /// Password of CONNECT.
    pub password: Option<&'a [u8]>,
    /// The common name in the certificate that was shown and found right in the TLS handshake.
    pub certificate: Option<&'a str>,
}

/// How clients prove who they are.
#[derive(Debug, Clone)]
pub enum Method {
    /// A name and a password that a file has.
    Users(Arc<Users>),
    /// A signed token in the place of the password.
    Tokens(Arc<Tokens>),
    /// A certificate.
    Certificates(Certificates),
}

/// What certificates stand for: the client's id is their common name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The role of all of them.
    pub role: Role,
    /// The tenant of all of them.
    pub tenant: Box<str>,
}

/// The methods of a listener.
pub type Chain = Arc<[Method]>;

/// What came of asking them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is this client.
    Known(Principal),
    /// It has shown nothing.
    Anonymous,
    /// It is not let in.
    Denied(Denied),
}

/// Asks one method after the other.
pub fn authenticate(chain: &[Method], shown: &Credentials<'_>, now_ms: u64) -> Verdict {
    for method in chain {
        match method.ask(shown, now_ms) {
            Err(Denied::Unknown) => {}
            Ok(principal) => return Verdict::Known(principal),
            Err(denied) => return Verdict::Denied(denied),
        }
    }
    // A name that nobody knows is not no name.
    if shown.user.is_none() && shown.password.is_none() {
        Verdict::Anonymous
    } else {
        Verdict::Denied(Denied::Credentials)
    }
}

impl Method {
    fn ask(&self, shown: &Credentials<'_>, now_ms: u64) -> Result<Principal, Denied> {
        match self {
            Self::Users(users) => {
                let user = shown.user.ok_or(Denied::Unknown)?;
                users.verify(user, shown.password.unwrap_or_default())
            }
            Self::Tokens(tokens) => {
                let token = shown.password.filter(|password| Tokens::looks_like_one(password));
                tokens.verify(token.ok_or(Denied::Unknown)?, now_ms)
            }
            Self::Certificates(certificates) => {
                let name = shown.certificate.filter(|name| !name.is_empty()).ok_or(Denied::Unknown)?;
                Ok(Principal {
                    user: name.into(),
                    tenant: certificates.tenant.clone(),
                    role: certificates.role,
                    id: name.into(),
                    groups: Box::default(),
                    expires_at: None,
                })
            }
        }
    }
}
