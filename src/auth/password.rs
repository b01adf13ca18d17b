//! Users who know a password.

pub use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{
    SaltString,
    rand_core::{CryptoRng, RngCore},
};
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use hashbrown::HashMap;

use super::{Denied, Principal};

/// OWASP's first choice for Argon2id: 19 MiB, twice, in one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

/// What a hash in a file may ask for at most: checking it must not take the machine.
const MOST_MEMORY_KIB: u32 = 256 * 1024;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 16;

/// A password's hash that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// No PHC string at all.
    #[error("no Argon2 hash")]
    Syntax,
    /// A weaker function.
    #[error("made by {0}, not by argon2id")]
    Function(String),
    /// It would take too long, or too much memory.
    #[error("its cost is beyond m={MOST_MEMORY_KIB}, t={MOST_PASSES}, p={MOST_LANES}")]
    Cost,
}

/// Users by name.
#[derive(Default)]
pub struct Users {
    known: HashMap<Box<str>, (Box<str>, Principal), ahash::RandomState>,
    /// Checked for names that nobody has, so that they take as long.
    nobody: Option<Box<str>>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} users", self.known.len())
    }
}

impl Users {
    /// Adds a user whose password has this hash, in PHC form; `false`: the name is taken.
    ///
    /// # Errors
    /// [`HashError`]
    pub fn add(&mut self, hash: &str, principal: Principal) -> Result<bool, HashError> {
        check(hash)?;
        if self.known.contains_key(&principal.user) {
            return Ok(false);
        }
        self.nobody.get_or_insert_with(|| hash.into());
        self.known.insert(principal.user.clone(), (hash.into(), principal));
        Ok(true)
    }

    /// Whether somebody has this name.
    pub fn knows(&self, user: &str) -> bool {
        self.known.contains_key(user)
    }

    /// Who has this name and password. Takes tens of milliseconds, by design, whether the name is known or not.
    ///
    /// # Errors
    /// [`Denied::Unknown`], [`Denied::Credentials`]
    pub fn verify(&self, user: &str, password: &[u8]) -> Result<Principal, Denied> {
        let found = self.known.get(user);
        let Some(hash) = found.map(|(hash, _)| hash).or(self.nobody.as_ref()) else {
            return Err(Denied::Unknown);
        };
        let right = PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok());
        match found {
            None => Err(Denied::Unknown),
            Some((_, principal)) if right => Ok(principal.clone()),
            Some(_) => Err(Denied::Credentials),
        }
    }
}

/// Whether a hash may stand in a file.
fn check(hash: &str) -> Result<(), HashError> {
    let hash = PasswordHash::new(hash).map_err(|_| HashError::Syntax)?;
    if hash.algorithm != Algorithm::Argon2id.ident() {
        return Err(HashError::Function(hash.algorithm.to_string()));
    }
    let params = Params::try_from(&hash).map_err(|_| HashError::Syntax)?;
    if hash.hash.is_none() || hash.salt.is_none() {
        return Err(HashError::Syntax);
    }
    let costly =
        params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES || params.p_cost() > MOST_LANES;
    if costly { Err(HashError::Cost) } else { Ok(()) }
}

/// The hash of a new password, in PHC form, with salt from `random`.
///
/// # Errors
/// There is none for what is given here.
pub fn hash(password: &[u8], random: impl CryptoRng + RngCore) -> Result<String, HashError> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|_| HashError::Cost)?;
    let salt = SaltString::generate(random);
    let made = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password(password, &salt);
    made.map(|hash| hash.to_string()).map_err(|_| HashError::Syntax)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::auth::Role;

    /// "secret", at the least cost there is.
    const SECRET: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$";

    fn quick(password: &str) -> String {
        let params = Params::new(8, 1, 1, None).unwrap();
        let salt = SaltString::from_b64("c29tZXNhbHRzYWx0").unwrap();
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon.hash_password(password.as_bytes(), &salt).unwrap().to_string()
    }

    fn anna() -> Principal {
        Principal {
            user: "anna".into(),
            tenant: "main".into(),
            role: Role::Agent,
            id: "anna".into(),
            groups: ["care".into()].into(),
            expires_at: None,
        }
    }

    #[test]
    fn the_right_password_and_no_other() {
        let mut users = Users::default();
        assert_eq!(users.verify("anna", b"secret"), Err(Denied::Unknown));
        assert!(users.add(&quick("secret"), anna()).unwrap());
        assert!(!users.add(&quick("other"), anna()).unwrap(), "the name is taken");
        assert_eq!(users.verify("anna", b"secret").unwrap(), anna());
        for wrong in ["", "Secret", "secret ", "secre"] {
            assert_eq!(users.verify("anna", wrong.as_bytes()), Err(Denied::Credentials), "{wrong}");
        }
        assert_eq!(users.verify("bert", b"secret"), Err(Denied::Unknown));
        assert!(!format!("{users:?}").contains("argon2"), "no hash is shown");
    }

    #[test]
    fn weak_and_costly_hashes_are_refused() {
        let mut users = Users::default();
        let good = quick("x");
        let with = |from: &str, to: &str| good.replace(from, to);
        for (hash, wrong) in [
            ("secret".to_owned(), "no Argon2 hash"),
            (SECRET.to_owned(), "no Argon2 hash"),
            (with("argon2id", "argon2i"), "made by argon2i"),
            (with("argon2id", "pbkdf2-sha256"), "made by pbkdf2"),
            (with("m=8", "m=4194304"), "cost"),
            (with("t=1", "t=1000"), "cost"),
        ] {
            let error = users.add(&hash, anna()).unwrap_err().to_string();
            assert!(error.contains(wrong), "{hash}: {error}");
        }
    }
}
