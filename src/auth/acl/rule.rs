//! One rule: of whom it speaks, of which topics, and what it says.

use std::fmt;

use super::pattern::Pattern;
use super::values::Values;
use super::{By, Subject};
use crate::auth::Role;
use crate::topic::ParsedFilter;

/// A rule of a file or of the default list. The first that speaks of what a client wants decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands.
    pub by: By,
    /// What it says: allow or deny.
    pub allow: bool,
    /// Whether it speaks of publishing.
    pub publish: bool,
    /// Whether it speaks of subscribing, and so of receiving.
    pub subscribe: bool,
    /// Of which topics.
    pub topics: Box<[Pattern]>,
    /// Of whom.
    pub who: Who,
    /// Whether what it allows to publish may be retained.
    pub retain: bool,
    /// The highest QoS of what it allows: 0, 1 or 2.
    pub max_qos: u8,
    /// Whether a subscription that it allows may have wildcards of its own.
    pub wildcards: bool,
}

/// Of whom a rule speaks: all that is given here has to hold. Nothing: everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// One of these roles.
    pub roles: Box<[Role]>,
    /// One of these user names.
    pub users: Box<[Name]>,
    /// One of these client identifiers.
    pub clients: Box<[Name]>,
    /// One of these tenants.
    pub tenants: Box<[Name]>,
    /// In one of these groups.
    pub groups: Box<[Name]>,
    /// Let in without a login, or not.
    pub anonymous: Option<bool>,
}

/// A name, or how names begin: `gate-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    text: Box<str>,
    begins: bool,
}

/// Why a text is no [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nobody has an empty name.
    #[error("is empty")]
    Empty,
    /// `*` before the end.
    #[error("has a * that is not at its end, where it stands for the rest of a name")]
    Star,
}

impl Name {
    /// Reads a name; `*` at its end stands for anything.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let stem = text.strip_suffix('*');
        let name = Self { text: stem.unwrap_or(text).into(), begins: stem.is_some() };
        match &*name.text {
            "" if !name.begins => Err(NameError::Empty),
            text if text.contains('*') => Err(NameError::Star),
            _ => Ok(name),
        }
    }

    /// Whoever has no name has none that a rule could mean, `*` included.
    fn is(&self, name: &str) -> bool {
        !name.is_empty() && if self.begins { name.starts_with(&*self.text) } else { *name == *self.text }
    }
}

impl Who {
    /// Whether this is a client of whom the rule speaks.
    pub(super) fn is(&self, subject: &Subject<'_>) -> bool {
        self.differs(subject).is_none()
    }

    /// The first key that does not hold.
    pub(super) fn differs(&self, subject: &Subject<'_>) -> Option<&'static str> {
        let principal = subject.principal;
        let one = |names: &[Name], name: Option<&str>| {
            names.is_empty() || name.is_some_and(|name| names.iter().any(|known| known.is(name)))
        };
        let groups = principal.map_or(&[][..], |p| &p.groups);
        let holds = [
            ("anonymous", self.anonymous.is_none_or(|wanted| wanted == subject.is_anonymous())),
            ("role", self.roles.is_empty() || principal.is_some_and(|p| self.roles.contains(&p.role))),
            ("client", one(&self.clients, Some(subject.client_id))),
            ("user", one(&self.users, principal.map(|p| &*p.user))),
            ("tenant", one(&self.tenants, principal.map(|p| &*p.tenant))),
            ("group", self.groups.is_empty() || groups.iter().any(|group| one(&self.groups, Some(group)))),
        ];
        holds.into_iter().find(|(_, holds)| !holds).map(|(key, _)| key)
    }
}

/// What a rule says to a client of whom it speaks; `None`: nothing, the next one is asked.
impl Rule {
    /// To a publication. Limits are part of the answer: what goes beyond them is refused, and no other rule asked.
    #[inline]
    pub(super) fn publish(&self, values: &Values, topic: &str, qos: u8, retain: bool) -> Option<bool> {
        let speaks = self.publish && self.topics.iter().any(|t| !t.is_shared() && t.matches(values, topic));
        speaks.then_some(self.allow && qos <= self.max_qos && (self.retain || !retain))
    }

    /// To a subscription: allowed is what one filter of the rule covers whole, denied what one only touches.
    pub(super) fn subscribe(&self, values: &Values, wanted: &ParsedFilter<'_>) -> Option<bool> {
        let speaks = self.subscribe
            && if self.allow {
                (self.wildcards || !wanted.wildcard) && self.topics.iter().any(|t| t.covers(values, wanted))
            } else {
                self.topics.iter().any(|t| t.overlaps(values, wanted))
            };
        speaks.then_some(self.allow)
    }

    /// To a message on its way to the client. It is not said by which subscription, so what denies shared ones alone
    /// does not count.
    pub(super) fn receive(&self, values: &Values, topic: &str) -> Option<bool> {
        let counts = |t: &&Pattern| self.allow || !t.is_shared();
        let speaks = self.subscribe && self.topics.iter().filter(counts).any(|t| t.matches(values, topic));
        speaks.then_some(self.allow)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allow { "allow" } else { "deny" })?;
        f.write_str(match (self.publish, self.subscribe) {
            (true, true) => " publish and subscribe",
            (true, false) => " publish",
            (false, _) => " subscribe",
        })?;
        for (at, topic) in self.topics.iter().enumerate() {
            write!(f, "{} {}", if at == 0 { "" } else { "," }, topic.text())?;
        }
        Ok(())
    }
}
