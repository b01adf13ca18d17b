//! A client whose identity is known.

use std::fmt;
use std::str::FromStr;

/// What a client is here for. The default access rules follow from it (`TOPICS` in README.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Writes to agents: reaches `customer/{id}/…` alone.
    Customer,
    /// Answers customers: its own `agent/{id}/…`, its groups' queues, its conversations.
    Agent,
    /// An agent that is a program.
    Bot,
    /// Watches and steers a tenant's desk.
    Supervisor,
    /// Runs the broker: everything, in every tenant.
    Operator,
    /// Anything else that speaks MQTT: only what the access rules name.
    Device,
}

/// A role that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such role: {0:?}; customer, agent, bot, supervisor, operator or device")]
pub struct UnknownRole(pub String);

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Customer, Self::Agent, Self::Bot, Self::Supervisor, Self::Operator, Self::Device];

    /// As files, tokens and logs say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Agent => "agent",
            Self::Bot => "bot",
            Self::Supervisor => "supervisor",
            Self::Operator => "operator",
            Self::Device => "device",
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.name() == name).ok_or_else(|| UnknownRole(name.to_owned()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A client whose identity is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name it proved to own; empty for one that was let in without.
    pub user: Box<str>,
    /// The `{tenant}` of its topics.
    pub tenant: Box<str>,
    /// What it is here for.
    pub role: Role,
    /// The `{c}` or `{a}` of its topics.
    pub id: Box<str>,
    /// An agent's groups.
    pub groups: Box<[Box<str>]>,
    /// When this is over, in milliseconds since the epoch: a token's `exp`.
    pub expires_at: Option<u64>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn roles_have_names() {
        for role in Role::ALL {
            assert_eq!(role.name().parse::<Role>().unwrap(), role);
        }
        assert!("Customer".parse::<Role>().unwrap_err().to_string().contains("no such role: \"Customer\""));
    }
}
