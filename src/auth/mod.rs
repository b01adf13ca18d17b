//! Who a client is, and what it may.
//!
//! Pure: what files hold is given to it, and the time too. Whoever asks somebody else (an HTTP service) stands outside.

pub mod acl;
mod chain;
pub mod password;
mod principal;
pub mod token;

pub use chain::{Certificates, Chain, Credentials, Method, Verdict, authenticate};
pub use principal::{Principal, Role, UnknownRole};

/// Why somebody is not let in. Nothing of what was shown is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The password or signature is wrong.
    #[error("wrong credentials")]
    Credentials,
    /// The token's time is over.
    #[error("the token has expired")]
    Expired,
    /// The token's time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It cannot be read, or does not say what is needed.
    #[error("the token is malformed")]
    Malformed,
    /// Nobody of this name is known here; somebody else may know it.
    #[error("unknown")]
    Unknown,
}

/// Who may come in at a server, and what clients may there.
#[derive(Debug, Clone)]
pub struct Access {
    /// What clients may.
    pub acl: acl::Acl,
    /// How they prove who they are, by listener; none: nobody is asked there.
    pub chains: Vec<Chain>,
}

impl Default for Access {
    /// Nobody is asked, and all is allowed.
    fn default() -> Self {
        Self { acl: acl::Acl::open(), chains: Vec::new() }
    }
}

impl Access {
    /// Whether a listener asks who comes.
    pub fn asks(&self, listener: u16) -> bool {
        self.chains.get(usize::from(listener)).is_some_and(|chain| !chain.is_empty())
    }

    /// Whether not everybody may do everything.
    pub fn is_guarded(&self) -> bool {
        !self.acl.is_open()
    }

    /// What a client may.
    pub fn rights(&self, client_id: &str, principal: Option<&Principal>) -> acl::Rights {
        self.acl.compile(&acl::Subject { client_id, principal })
    }
}
