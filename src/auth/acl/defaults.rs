//! What holds where no rule of a file decides: the table of README.md ("Access control") as rules.

use std::sync::LazyLock;

use super::pattern::Pattern;
use super::rule::{Rule, Who};
use super::{By, Subject};
use crate::auth::Role::{self, Agent, Bot, Customer, Operator, Supervisor};

/// A line of the table.
struct Row {
    roles: &'static [Role],
    name: &'static str,
    what: What,
    topics: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Publish, not retained.
    Publish,
    /// Publish, retained as well.
    Retain,
    Subscribe,
    /// Subscribe without wildcards: who asks for one of these knows its id.
    SubscribeExact,
    DenySubscribe,
}

/// Customers, and those who answer them.
const EVERYBODY: &[Role] = &[Customer, Agent, Bot, Supervisor];
const ANSWERING: &[Role] = &[Agent, Bot, Supervisor];
const AGENTS: &[Role] = &[Agent, Bot];
/// Those who write for others.
const BACKENDS: &[Role] = &[Bot, Supervisor];

/// The first line that speaks of a topic decides. Devices, and whoever came in without a login although there are
/// logins, have no line.
const TABLE: &[Row] = &[
    // Customers reach their own topics alone, and of those not the document that others keep about them.
    Row {
        roles: &[Customer],
        name: "customer: writes",
        what: What::Publish,
        topics: &["cs/1/%t/customer/%i/up", "cs/1/%t/customer/%i/ask", "cs/1/%t/customer/%i/signal"],
    },
    Row {
        roles: &[Customer],
        name: "customer: reads",
        what: What::Subscribe,
        topics: &[
            "cs/1/%t/customer/%i/down",
            "cs/1/%t/customer/%i/state",
            "cs/1/%t/customer/%i/answer",
            "cs/1/%t/customer/%i/signal",
        ],
    },
    // Any conversation and any customer of the tenant: the desk knows who is assigned to which, and refuses others.
    Row {
        roles: ANSWERING,
        name: "agent: conversations",
        what: What::Publish,
        topics: &[
            "cs/1/%t/conversation/+/reply",
            "cs/1/%t/conversation/+/note",
            "cs/1/%t/conversation/+/ask",
        ],
    },
    Row {
        roles: ANSWERING,
        name: "agent: itself",
        what: What::Publish,
        topics: &["cs/1/%t/agent/%i/presence", "cs/1/%t/agent/%i/answer"],
    },
    Row {
        roles: ANSWERING,
        name: "agent: customers",
        what: What::Publish,
        topics: &["cs/1/%t/customer/+/signal", "cs/1/%t/customer/+/down", "cs/1/%t/customer/+/context/patch"],
    },
    // A group's messages are shared under its own name alone: under another one they would be taken twice, and an
    // inbox that is shared is in no order.
    Row {
        roles: AGENTS,
        name: "agent: shared queue",
        what: What::Subscribe,
        topics: &["$share/%g/cs/1/%t/queue/%g/messages/+"],
    },
    Row {
        roles: AGENTS,
        name: "agent: no other share",
        what: What::DenySubscribe,
        topics: &["$share/+/cs/1/#"],
    },
    Row { roles: AGENTS, name: "agent: reads", what: What::Subscribe, topics: &["cs/1/%t/agent/%i/#"] },
    Row { roles: AGENTS, name: "agent: queues", what: What::Subscribe, topics: &["cs/1/%t/queue/%g/#"] },
    Row {
        roles: AGENTS,
        name: "agent: one of many",
        what: What::SubscribeExact,
        topics: &["cs/1/%t/conversation/+/note", "cs/1/%t/customer/+/context", "cs/1/%t/customer/+/signal"],
    },
    Row { roles: BACKENDS, name: "backend: enqueues", what: What::Publish, topics: &["cs/1/%t/queue/+/put"] },
    Row {
        roles: BACKENDS,
        name: "backend: documents",
        what: What::Retain,
        topics: &["cs/1/%t/customer/+/context"],
    },
    Row {
        roles: &[Supervisor],
        name: "supervisor: steers",
        what: What::Publish,
        topics: &["cs/1/%t/control/+"],
    },
    Row { roles: &[Supervisor], name: "supervisor: reads", what: What::Subscribe, topics: &["cs/1/%t/#"] },
    // Who asks gets the answer below its own client identifier (CONNACK's Response Information).
    Row { roles: EVERYBODY, name: "responses: own", what: What::Subscribe, topics: &["response/%c/#"] },
    Row { roles: ANSWERING, name: "responses: given", what: What::Publish, topics: &["response/+/#"] },
    Row { roles: &[Operator], name: "operator: writes", what: What::Retain, topics: &["#"] },
    Row { roles: &[Operator], name: "operator: reads", what: What::Subscribe, topics: &["#", "$SYS/#"] },
];

/// While there is no login at all: everybody, everything.
const OPEN: &[Row] = &[
    Row { roles: &[], name: "open: no logins", what: What::Retain, topics: &["#"] },
    Row { roles: &[], name: "open: no logins", what: What::Subscribe, topics: &["#", "$SYS/#"] },
];

struct Defaults {
    by_role: [Box<[Rule]>; Role::ALL.len()],
    open: Box<[Rule]>,
}

static DEFAULTS: LazyLock<Defaults> = LazyLock::new(|| Defaults {
    by_role: Role::ALL.map(|role| TABLE.iter().filter(|row| row.roles.contains(&role)).map(rule).collect()),
    open: OPEN.iter().map(rule).collect(),
});

/// The rules for a client behind those of the file. All of them speak of it.
pub(super) fn defaults(subject: &Subject<'_>, authentication: bool) -> &'static [Rule] {
    match subject.principal {
        Some(principal) => DEFAULTS.by_role.get(principal.role as usize).map_or(&[], |rules| rules),
        None if authentication => &[],
        None => &DEFAULTS.open,
    }
}

fn rule(row: &Row) -> Rule {
    Rule {
        by: By::Default(row.name),
        allow: row.what != What::DenySubscribe,
        publish: matches!(row.what, What::Publish | What::Retain),
        subscribe: !matches!(row.what, What::Publish | What::Retain),
        // A test reads them all.
        topics: row.topics.iter().filter_map(|text| Pattern::parse(text).ok()).collect(),
        who: Who::default(),
        retain: row.what == What::Retain,
        max_qos: 2,
        wildcards: row.what != What::SubscribeExact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_read_and_roles_stand_where_they_are_looked_for() {
        for row in TABLE.iter().chain(OPEN) {
            assert_eq!(rule(row).topics.len(), row.topics.len(), "{}", row.name);
        }
        for (at, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, at, "{role}");
        }
    }
}
