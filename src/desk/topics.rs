//! Names below `cs/1/`: which of them the desk takes part in, and what may stand in their levels.

/// What every desk topic starts with.
pub const PREFIX: &str = "cs/1/";

/// The longest id in bytes.
const MAX_ID_BYTES: usize = 128;

/// A topic name below [`PREFIX`], as far as the desk cares. The ids are checked: see [`check_id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeskTopic<'a> {
    /// `cs/1/{tenant}/customer/{customer}/up`: a customer's message, to be routed.
    CustomerUp {
        /// The tenant.
        tenant: &'a str,
        /// The customer who wrote.
        customer: &'a str,
    },
    /// `cs/1/{tenant}/customer/{customer}/context`: the retained context document.
    CustomerContext {
        /// The tenant.
        tenant: &'a str,
        /// The customer whom the document describes.
        customer: &'a str,
    },
    /// `cs/1/{tenant}/customer/{customer}/context/patch`: a change of that document.
    ContextPatch {
        /// The tenant.
        tenant: &'a str,
        /// The customer whom the document describes.
        customer: &'a str,
    },
    /// `cs/1/{tenant}/queue/{group}/messages/{customer}`: a group's messages in `shared` mode.
    QueueMessages {
        /// The tenant.
        tenant: &'a str,
        /// The agent group.
        group: &'a str,
        /// The customer who wrote.
        customer: &'a str,
    },
    /// `cs/1/{tenant}/control/explain`: a question of an operator.
    ControlExplain {
        /// The tenant.
        tenant: &'a str,
    },
    /// `cs/1/{tenant}/customer/{customer}/ask`: something that a customer asks for.
    CustomerAsk {
        /// The tenant.
        tenant: &'a str,
        /// The customer who asks.
        customer: &'a str,
    },
    /// `cs/1/{tenant}/agent/{agent}/presence`: what an agent says of itself.
    AgentPresence {
        /// The tenant.
        tenant: &'a str,
        /// The agent.
        agent: &'a str,
    },
    /// `cs/1/{tenant}/agent/{agent}/answer`: what an agent does with an offer or a conversation.
    AgentAnswer {
        /// The tenant.
        tenant: &'a str,
        /// The agent.
        agent: &'a str,
    },
    /// `cs/1/{tenant}/conversation/{conversation}/reply`: a message to the customer.
    Reply {
        /// The tenant.
        tenant: &'a str,
        /// The conversation, as written.
        conversation: &'a str,
    },
    /// `cs/1/{tenant}/conversation/{conversation}/ask`: an agent asks for messages.
    ConversationAsk {
        /// The tenant.
        tenant: &'a str,
        /// The conversation, as written.
        conversation: &'a str,
    },
    /// `cs/1/{tenant}/queue/{group}/put`: a backend puts a conversation into a queue.
    QueuePut {
        /// The tenant.
        tenant: &'a str,
        /// The group.
        group: &'a str,
    },
    /// `cs/1/{tenant}/control/{verb}`: a supervisor does something with a conversation, an agent or a group.
    Control {
        /// The tenant.
        tenant: &'a str,
        /// What.
        verb: &'a str,
    },
    /// What the desk alone publishes in tenants with groups in `assigned` mode: states, offers, inboxes, transcripts.
    Own {
        /// The tenant.
        tenant: &'a str,
    },
    /// A name of these shapes with an id that is none: nobody may publish to it.
    BadId,
    /// Any other name below the prefix: the desk does nothing with it.
    Other,
}

/// What a topic name is to the desk; `None` for every name outside of `cs/1/`.
///
/// Every publish passes here, so a name of somebody else costs one comparison of five bytes.
#[inline]
pub fn desk_topic(name: &str) -> Option<DeskTopic<'_>> {
    name.strip_prefix(PREFIX).map(classify)
}

fn classify(rest: &str) -> DeskTopic<'_> {
    let mut levels = rest.split('/');
    let mut next = || levels.next();
    let topic = match (next(), next(), next(), next(), next(), next()) {
        (Some(tenant), Some("customer"), Some(customer), Some("up"), None, _) => {
            DeskTopic::CustomerUp { tenant, customer }
        }
        (Some(tenant), Some("customer"), Some(customer), Some("context"), None, _) => {
            DeskTopic::CustomerContext { tenant, customer }
        }
        (Some(tenant), Some("customer"), Some(customer), Some("context"), Some("patch"), None) => {
            DeskTopic::ContextPatch { tenant, customer }
        }
        (Some(tenant), Some("queue"), Some(group), Some("messages"), Some(customer), None) => {
            DeskTopic::QueueMessages { tenant, group, customer }
        }
        (Some(tenant), Some("control"), Some("explain"), None, ..) => DeskTopic::ControlExplain { tenant },
        (Some(tenant), Some("customer"), Some(customer), Some("ask"), None, _) => {
            DeskTopic::CustomerAsk { tenant, customer }
        }
        (Some(tenant), Some("agent"), Some(agent), Some("presence"), None, _) => {
            DeskTopic::AgentPresence { tenant, agent }
        }
        (Some(tenant), Some("agent"), Some(agent), Some("answer"), None, _) => {
            DeskTopic::AgentAnswer { tenant, agent }
        }
        (Some(tenant), Some("conversation"), Some(conversation), Some("reply"), None, _) => {
            DeskTopic::Reply { tenant, conversation }
        }
        (Some(tenant), Some("customer"), Some(_), Some("down" | "state" | "answer"), None, _)
        | (Some(tenant), Some("agent"), Some(_), Some("state" | "offer" | "result"), None, _)
        | (Some(tenant), Some("agent"), Some(_), Some("inbox"), Some(_), None)
        | (Some(tenant), Some("queue"), Some(_), Some("state"), None, _)
        | (Some(tenant), Some("queue"), Some(_), Some("waiting"), Some(_), None)
        | (Some(tenant), Some("conversation"), Some(_), Some("messages" | "events"), None, _) => {
            DeskTopic::Own { tenant }
        }
        (Some(tenant), Some("conversation"), Some(conversation), Some("ask"), None, _) => {
            DeskTopic::ConversationAsk { tenant, conversation }
        }
        (Some(tenant), Some("queue"), Some(group), Some("put"), None, _) => {
            DeskTopic::QueuePut { tenant, group }
        }
        (Some(tenant), Some("control"), Some(verb), None, ..) => DeskTopic::Control { tenant, verb },
        _ => DeskTopic::Other,
    };
    let ids = match topic {
        DeskTopic::CustomerUp { tenant, customer }
        | DeskTopic::CustomerContext { tenant, customer }
        | DeskTopic::CustomerAsk { tenant, customer }
        | DeskTopic::ContextPatch { tenant, customer } => [tenant, customer, customer],
        DeskTopic::AgentPresence { tenant, agent } | DeskTopic::AgentAnswer { tenant, agent } => {
            [tenant, agent, agent]
        }
        DeskTopic::Reply { tenant, conversation } | DeskTopic::ConversationAsk { tenant, conversation } => {
            [tenant, conversation, conversation]
        }
        DeskTopic::QueuePut { tenant, group } => [tenant, group, group],
        DeskTopic::Control { tenant, verb } => [tenant, verb, verb],
        DeskTopic::QueueMessages { tenant, group, customer } => [tenant, group, customer],
        DeskTopic::ControlExplain { tenant } | DeskTopic::Own { tenant } => [tenant; 3],
        DeskTopic::BadId | DeskTopic::Other => return topic,
    };
    if ids.into_iter().all(|id| check_id(id).is_ok()) { topic } else { DeskTopic::BadId }
}

/// Whether `id` may stand for a tenant, customer, group or agent in a topic: 1 to 128 bytes of UTF-8 without
/// `/`, `+`, `#` and control characters. The error says what is wrong, in a few words.
pub fn check_id(id: &str) -> Result<(), &'static str> {
    if id.is_empty() {
        return Err("an id cannot be empty");
    }
    if id.len() > MAX_ID_BYTES {
        return Err("an id has at most 128 bytes");
    }
    // Plain ASCII, nearly every id, is told by its bytes; only the rest is decoded for U+0080 to U+009F.
    if id.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'+' | b'#')) {
        return Ok(());
    }
    if id.contains(['/', '+', '#']) {
        return Err("an id is one topic level, without / + #");
    }
    if id.contains(char::is_control) {
        return Err("an id has no control characters");
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_desk_knows_its_topics() {
        let cases = [
            ("cs/1/main/customer/42/up", DeskTopic::CustomerUp { tenant: "main", customer: "42" }),
            ("cs/1/main/customer/42/context", DeskTopic::CustomerContext { tenant: "main", customer: "42" }),
            (
                "cs/1/main/customer/42/context/patch",
                DeskTopic::ContextPatch { tenant: "main", customer: "42" },
            ),
            (
                "cs/1/main/queue/sales/messages/42",
                DeskTopic::QueueMessages { tenant: "main", group: "sales", customer: "42" },
            ),
            ("cs/1/main/control/explain", DeskTopic::ControlExplain { tenant: "main" }),
            ("cs/1/main/control/close", DeskTopic::Control { tenant: "main", verb: "close" }),
            ("cs/1/main/customer/42/ask", DeskTopic::CustomerAsk { tenant: "main", customer: "42" }),
            ("cs/1/main/queue/sales/put", DeskTopic::QueuePut { tenant: "main", group: "sales" }),
            ("cs/1/main/agent/7/presence", DeskTopic::AgentPresence { tenant: "main", agent: "7" }),
            ("cs/1/main/agent/7/answer", DeskTopic::AgentAnswer { tenant: "main", agent: "7" }),
            ("cs/1/main/conversation/7/reply", DeskTopic::Reply { tenant: "main", conversation: "7" }),
            (
                "cs/1/main/conversation/7/ask",
                DeskTopic::ConversationAsk { tenant: "main", conversation: "7" },
            ),
            ("cs/1/t ü/customer/張 3/up", DeskTopic::CustomerUp { tenant: "t ü", customer: "張 3" }),
        ];
        for (name, expected) in cases {
            assert_eq!(desk_topic(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn other_names_below_the_prefix_are_left_alone() {
        for name in [
            "cs/1/",
            "cs/1/main",
            "cs/1/main/customer/42",
            "cs/1/main/customer/42/up/",
            "cs/1/main/customer/42/up/x",
            "cs/1/main/customer/42/context/patch/x",
            "cs/1/main/customer/42/context/x",
            "cs/1/main/queue/sales/messages",
            "cs/1/main/queue/sales/messages/42/x",
            "cs/1/main/control/explain/x",
            "cs/1/main/conversation/7/note",
        ] {
            assert_eq!(desk_topic(name), Some(DeskTopic::Other), "{name}");
        }
    }

    #[test]
    fn names_that_only_look_like_the_desks_are_told() {
        for name in [
            "cs/1/main/customer//up",
            "cs/1/main/customer//context/patch",
            "cs/1//customer/42/up",
            "cs/1/main/customer/4\u{7f}2/up",
            "cs/1/main/customer/4\u{85}2/up",
            "cs/1/main/queue/sales/messages/",
            "cs/1/main/queue/sales/messages/+",
        ] {
            assert_eq!(desk_topic(name), Some(DeskTopic::BadId), "{name}");
        }
        for name in [
            "cs/1/main/customer/42/down",
            "cs/1/main/customer/42/state",
            "cs/1/main/customer/42/answer",
            "cs/1/main/queue/sales/state",
            "cs/1/main/queue/sales/waiting/01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "cs/1/main/agent/7/state",
            "cs/1/main/agent/7/offer",
            "cs/1/main/agent/7/result",
            "cs/1/main/agent/7/inbox/01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "cs/1/main/conversation/7/messages",
            "cs/1/main/conversation/7/events",
        ] {
            assert_eq!(desk_topic(name), Some(DeskTopic::Own { tenant: "main" }), "{name}");
        }
        let long = "x".repeat(129);
        assert_eq!(desk_topic(&format!("cs/1/main/customer/{long}/up")), Some(DeskTopic::BadId));
        let just = "x".repeat(128);
        assert!(matches!(
            desk_topic(&format!("cs/1/main/customer/{just}/up")),
            Some(DeskTopic::CustomerUp { .. })
        ));
    }

    #[test]
    fn names_outside_the_prefix_are_no_desk_topics() {
        for name in ["", "c", "cs/1", "cs/2/main/customer/42/up", "Cs/1/x", "/cs/1/x", "$SYS/x", "cs/11/x"] {
            assert_eq!(desk_topic(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn ids_come_back_whole_or_not_at_all(
            tenant in any::<String>(), group in any::<String>(), customer in any::<String>()
        ) {
            let valid = [&tenant, &group, &customer].into_iter().all(|id| {
                (1..=128).contains(&id.len())
                    && !id.chars().any(|c| c == '/' || c == '+' || c == '#' || c.is_control())
            });
            let name = format!("cs/1/{tenant}/queue/{group}/messages/{customer}");
            let found = desk_topic(&name).unwrap();
            let (tenant, group, customer) = (&*tenant, &*group, &*customer);
            prop_assert_eq!(found == DeskTopic::QueueMessages { tenant, group, customer }, valid);
        }

        #[test]
        fn any_name_is_classified(name in "(cs/1/)?([a-z+#\u{0}]{0,3}/|customer/|queue/|messages/|up|context|explain|control/){0,7}") {
            match desk_topic(&name) {
                None => prop_assert!(!name.starts_with(PREFIX)),
                Some(DeskTopic::CustomerUp { tenant, customer }) => {
                    prop_assert_eq!(&name, &format!("cs/1/{tenant}/customer/{customer}/up"));
                    prop_assert!(check_id(tenant).is_ok() && check_id(customer).is_ok());
                }
                Some(_) => prop_assert!(name.starts_with(PREFIX)),
            }
        }
    }
}
