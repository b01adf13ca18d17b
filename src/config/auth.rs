//! `[auth]`: how clients prove who they are, and the files that say whom to believe.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::problem::{Problem, Problems, Source};
use super::raw::{RawFile, RawJwt, Word};
use super::settings::{AuthMethod, ListenerSettings};
use super::unread::Unread;
use super::values::Values;
use crate::auth::password::Users;
use crate::auth::token::{KeyError, Terms, Tokens};
use crate::auth::{Certificates, Chain, Method, Principal, Role};
use crate::spelling::suggest;

const MAX_USERS: usize = 1_000_000;
const MAX_GROUPS: usize = 256;

/// The methods of each listener, in the order of the listeners.
pub(super) fn load(
    source: &Source<'_>,
    file: &Path,
    raw: &RawFile,
    listeners: &[ListenerSettings],
    problems: &mut Problems,
) -> Vec<Chain> {
    let values = Values { source, folder: file.parent(), problems: std::mem::take(problems) };
    let mut load = Load { values, raw };
    let wanted = |method| listeners.iter().any(|listener| listener.authentication.contains(&method));
    let users = load.users(wanted(AuthMethod::Users));
    let tokens = load.tokens(wanted(AuthMethod::Jwt));
    let certificates = load.certificates(wanted(AuthMethod::Certificate), listeners);
    *problems = load.values.problems;
    let method = |method: &AuthMethod| match method {
        AuthMethod::Users => users.clone().map(Method::Users),
        AuthMethod::Jwt => tokens.clone().map(Method::Tokens),
        AuthMethod::Certificate => certificates.clone().map(Method::Certificates),
    };
    listeners.iter().map(|listener| listener.authentication.iter().filter_map(method).collect()).collect()
}

struct Load<'t> {
    values: Values<'t>,
    raw: &'t RawFile,
}

impl Load<'_> {
    /// A method that a listener names and nobody describes.
    fn missing(&mut self, key: &str, right: &str) {
        // It stands where the listeners do; which of them needs it is for them to see.
        self.values.problem(&(0..0), key, "missing, and a listener's authentication names it", right);
    }

    fn read(&mut self, key: &str, raw: &Word) -> Option<(Vec<u8>, String)> {
        let (path, written) = (self.values.path(raw)?, raw.as_ref()?);
        match super::read_pem(&path) {
            Ok(bytes) => Some((bytes, path.display().to_string())),
            Err(error) => {
                let wrong = format!("{} cannot be read: {error}", path.display());
                self.values.problem(&written.span(), key, wrong, "");
                None
            }
        }
    }

    fn users(&mut self, wanted: bool) -> Option<Arc<Users>> {
        let raw = &self.raw.auth.users;
        if wanted && self.values.path(raw).is_none() {
            self.missing("auth.users", "the file of users");
        }
        let (bytes, name) = self.read("auth.users", raw)?;
        let read = String::from_utf8(bytes).map(|text| users(&text, &name));
        match read {
            Ok(Ok(users)) => return Some(Arc::new(users)),
            Ok(Err(wrong)) => self.values.problems.extend(wrong),
            Err(_) => {
                let span = raw.as_ref().map(Spanned::span).unwrap_or_default();
                self.values.problem(&span, "auth.users", format!("{name} is no UTF-8 text"), "");
            }
        }
        None
    }

    fn tokens(&mut self, wanted: bool) -> Option<Arc<Tokens>> {
        let Some(raw) = &self.raw.auth.jwt else {
            if wanted {
                self.missing("auth.jwt", "a table with secret, public_key or key_set");
            }
            return None;
        };
        let terms = self.terms(raw.get_ref());
        let keys: [(&str, &Word, Make); 3] = [
            ("auth.jwt.secret", &raw.get_ref().secret, |bytes, terms| {
                Tokens::with_secret(trimmed(bytes), terms)
            }),
            ("auth.jwt.public_key", &raw.get_ref().public_key, Tokens::with_public_key),
            ("auth.jwt.key_set", &raw.get_ref().key_set, Tokens::with_key_set),
        ];
        let mut named = keys.into_iter().filter(|(_, word, _)| word.is_some());
        let (Some((key, word, make)), None) = (named.next(), named.next()) else {
            let right = "one of secret, public_key and key_set, with a file";
            self.values.problem(&raw.span(), "auth.jwt", "has no key, or more than one", right);
            return None;
        };
        let (bytes, name) = self.read(key, word)?;
        match make(&bytes, terms) {
            Ok(tokens) => Some(Arc::new(tokens)),
            Err(error) => {
                let span = word.as_ref().map(Spanned::span).unwrap_or_default();
                self.values.problem(&span, key, format!("{name}: {error}"), "");
                None
            }
        }
    }

    fn terms(&mut self, raw: &RawJwt) -> Terms {
        let default = Terms::default();
        let word =
            |word: &Word| word.as_ref().map(|word| word.get_ref().clone()).filter(|word| !word.is_empty());
        let leeway = std::time::Duration::from_secs(default.leeway_s);
        let longest = std::time::Duration::from_hours(1);
        Terms {
            issuer: word(&raw.issuer),
            audience: word(&raw.audience),
            leeway_s: self.values.seconds("auth.jwt.leeway", &raw.leeway, leeway, longest).as_secs(),
            role_claim: word(&raw.role_claim).unwrap_or(default.role_claim),
            tenant_claim: word(&raw.tenant_claim).unwrap_or(default.tenant_claim),
            id_claim: word(&raw.id_claim).unwrap_or(default.id_claim),
            groups_claim: word(&raw.groups_claim).unwrap_or(default.groups_claim),
            role: raw.role.as_ref().and_then(|role| self.role("auth.jwt.role", role)),
            tenant: raw.tenant.as_ref().map_or(default.tenant, |tenant| {
                Some(tenant.get_ref().clone()).filter(|tenant| !tenant.is_empty())
            }),
        }
    }

    fn role(&mut self, key: &str, written: &Spanned<String>) -> Option<Role> {
        let role = written.get_ref().parse().ok();
        if role.is_none() {
            let wrong = format!("{:?} is no role", written.get_ref());
            self.values.problem(
                &written.span(),
                key,
                wrong,
                suggest(written.get_ref(), &Role::ALL.map(Role::name)),
            );
        }
        role
    }

    fn certificates(&mut self, wanted: bool, listeners: &[ListenerSettings]) -> Option<Certificates> {
        for listener in listeners.iter().filter(|one| one.authentication.contains(&AuthMethod::Certificate)) {
            let asks = listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
            if !asks {
                let key = format!("listener.{}.authentication", listener.name);
                let right = "[listener.NAME.tls] with client_certificate = \"optional\" or \"required\"";
                self.values.problem(&(0..0), &key, "nobody is asked for a certificate there", right);
            }
        }
        let Some(raw) = &self.raw.auth.certificate else {
            if wanted {
                self.missing("auth.certificate", "a table with the role of clients that show one");
            }
            return None;
        };
        let Some(role) = &raw.get_ref().role else {
            if !self.values.told("auth.certificate.role") {
                self.values.problem(&raw.span(), "auth.certificate.role", "missing", "e.g. \"device\"");
            }
            return None;
        };
        let role = self.role("auth.certificate.role", role)?;
        let tenant = raw.get_ref().tenant.as_ref().map_or("main", |tenant| tenant.get_ref());
        Some(Certificates { role, tenant: tenant.into() })
    }
}

type Make = fn(&[u8], Terms) -> Result<Tokens, KeyError>;

/// An editor leaves a line's end behind a secret.
fn trimmed(secret: &[u8]) -> &[u8] {
    secret.strip_suffix(b"\n").map_or(secret, |secret| secret.strip_suffix(b"\r").unwrap_or(secret))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawUsers {
    user: Vec<Spanned<RawUser>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawUser {
    name: Word,
    password: Word,
    role: Word,
    tenant: Word,
    id: Word,
    groups: Vec<Spanned<String>>,
}

/// What stands for a user in a file of users.
pub fn user_entry(principal: &Principal, hash: &str) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let groups: Vec<String> = principal.groups.iter().map(|group| quoted(group)).collect();
    format!(
        "[[user]]\nname = {}\npassword = {}\nrole = {}\ntenant = {}\nid = {}\ngroups = [{}]",
        quoted(&principal.user),
        quoted(hash),
        quoted(principal.role.name()),
        quoted(&principal.tenant),
        quoted(&principal.id),
        groups.join(", "),
    )
}

/// Reads a file of users; `file` is the name that problems are shown with.
///
/// # Errors
/// What is wrong, in the order of the file.
pub fn parse_users(text: &str, file: &str) -> Result<Users, Vec<Problem>> {
    users(text, file).map_err(|problems| problems.sorted(file))
}

fn users(text: &str, file: &str) -> Result<Users, Problems> {
    let source = Source::new(file, text);
    let (raw, problems) = source.read::<RawUsers>();
    let unread = Unread::new(&problems);
    let none = RawFile::default();
    let mut load = Load { values: Values { source: &source, folder: None, problems }, raw: &none };
    let raw = raw.unwrap_or_default();
    let mut users = Users::default();
    for one in load.values.at_most("user", &raw.user, MAX_USERS, "users") {
        let (place, raw) = (one.span(), one.get_ref());
        for (key, word) in
            [("user.name", &raw.name), ("user.password", &raw.password), ("user.role", &raw.role)]
        {
            let empty = word.as_ref().is_none_or(|word| word.get_ref().is_empty());
            if empty && !unread.has(&source, &place, key) {
                load.values.problem(
                    &place,
                    key,
                    "missing",
                    "every user has a name, a password's hash and a role",
                );
            }
        }
        load.values.at_most("user.groups", &raw.groups, MAX_GROUPS, "groups");
        let (Some(name), Some(password), Some(role)) = (&raw.name, &raw.password, &raw.role) else {
            continue;
        };
        let Some(role) = load.role("user.role", role) else { continue };
        let word = |word: &Word, default: &str| word.as_ref().map_or(default, |word| word.get_ref()).into();
        let principal = Principal {
            user: name.get_ref().as_str().into(),
            tenant: word(&raw.tenant, "main"),
            role,
            id: word(&raw.id, name.get_ref()),
            groups: raw.groups.iter().map(|group| group.get_ref().as_str().into()).collect(),
            expires_at: None,
        };
        match users.add(password.get_ref(), principal) {
            Ok(true) => {}
            Ok(false) => {
                let wrong = format!("{:?} is there twice", name.get_ref());
                load.values.problem(&name.span(), "user.name", wrong, "a name for each user");
            }
            Err(error) => {
                let right = "what `switchboard passwd` prints";
                load.values.problem(&password.span(), "user.password", error.to_string(), right);
            }
        }
    }
    if load.values.problems.is_empty() { Ok(users) } else { Err(load.values.problems) }
}

#[cfg(test)]
mod tests;
