//! Tenants, groups and rules as loaded, and the choice of a group for a message.

use std::fmt;
use std::sync::Arc;

use ahash::AHashMap;
use cel::Env;
use jiff::tz::TimeZone;

use super::assigned::Assigned;
use super::condition::{Condition, ConditionError};
use super::document::ContextRules;
use super::facts::Facts;
use super::json::Context;
use super::model::{Fields, Inputs};
use super::payload::Payload;
use super::topics::PREFIX;

/// The routing rules of all tenants, as read from `conf/routing.toml`. Immutable; share it as an `Arc`.
pub struct Routing {
    tenants: AHashMap<Arc<str>, Tenant>,
}

/// The groups and rules of one tenant.
pub struct Tenant {
    name: Arc<str>,
    pub(super) zone: TimeZone,
    /// Sorted by name.
    pub(super) groups: Vec<Arc<Group>>,
    /// In the order of the file, without the default.
    pub(super) rules: Vec<Rule>,
    pub(super) default: Rule,
    contexts: ContextRules,
    /// Sorted by name.
    channels: Vec<(Arc<str>, u32)>,
    /// How long transcripts are kept, in milliseconds; `None`: for ever.
    transcripts: Option<u64>,
    fields: Fields,
    pub(super) env: Arc<Env>,
}

/// An agent group. In `shared` mode agents take its messages by the shared subscription of its name, in `assigned`
/// mode the desk opens conversations and offers each to one agent at a time.
#[derive(Debug, Clone)]
pub struct Group {
    /// The name: the `ShareName` too, and a level of the group's topics.
    pub name: Arc<str>,
    /// What `assigned` mode is set to; `None`: `shared` mode. The fields below are of that one, and in `assigned` mode
    /// their defaults.
    pub assigned: Option<Arc<Assigned>>,
    /// How a message finds one of the members.
    pub strategy: Strategy,
    /// The topic level whose text a sticky strategy keys on, counted from 1 over the whole topic name: in
    /// `cs/1/main/queue/sales/messages/42` level 1 is `cs` and level 7, the default, is the customer.
    pub key_level: u8,
    /// The most messages that wait while no member of the group can take them.
    pub backlog_messages: u32,
    /// The most bytes of such messages.
    pub backlog_bytes: u64,
}

/// How a shared subscription chooses a member for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The same member for the same key, see [`Group::key_level`].
    Sticky,
    /// Each member in turn.
    RoundRobin,
    /// The member with the fewest messages under way.
    LeastInflight,
    /// Any member.
    Random,
}

/// A rule: a message of which its condition holds goes to its group.
pub struct Rule {
    /// The name, unique in its tenant.
    pub name: Arc<str>,
    /// The text of the condition; `None` for the default.
    pub when: Option<String>,
    /// Where the rule stands in the file, from 1.
    pub line: u32,
    /// The group.
    pub group: Arc<Group>,
    /// The base priority, 0 (the default) to 1000.
    pub priority: u16,
    /// The wanted skills.
    pub skills: Vec<String>,
    /// The group that takes the message when the first's backlog is full.
    pub fallback: Option<Arc<Group>>,
    pub(crate) condition: Option<Condition>,
}

/// A customer's message as the rules see it. Reading it borrows; nothing is parsed before a rule asks.
#[derive(Debug, Clone, Copy)]
pub struct Inbound<'a> {
    /// The customer who wrote.
    pub customer: &'a str,
    /// The topic it was published to.
    pub topic: &'a str,
    /// What was published.
    pub payload: &'a Payload<'a>,
    /// The publish's user properties.
    pub properties: &'a [(&'a str, &'a str)],
    /// The customer's context document; needed only if [`Tenant::uses_context`].
    pub context: Option<&'a Context>,
    /// The group and the agent of the customer's conversation before this one; empty if there was none.
    pub previous: (&'a str, &'a str),
    /// The time in milliseconds since the epoch.
    pub now_ms: i64,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'r> {
    /// The rule that held first, or the default. It names the group, the priority and the rest.
    pub rule: &'r Rule,
    /// How many of the rules before it could not be evaluated (a missing key, a wrong type, …) and so did not
    /// hold. To be counted; `control/explain` tells them apart.
    pub failed_rules: u32,
}

impl Decision<'_> {
    /// The group that the message goes to.
    pub fn group(&self) -> &Group {
        &self.rule.group
    }
}

impl Rule {
    /// The group that takes a message now: the rule's own, or its fallback while the own one's backlog is `full`.
    pub fn choose(&self, full: impl Fn(&Group) -> bool) -> &Group {
        match &self.fallback {
            Some(fallback) if full(&self.group) => fallback,
            _ => &self.group,
        }
    }
}

impl Routing {
    /// Of two tenants with one name the last stays.
    pub(crate) fn new(tenants: impl IntoIterator<Item = Tenant>) -> Self {
        Self { tenants: tenants.into_iter().map(|tenant| (Arc::clone(&tenant.name), tenant)).collect() }
    }

    /// A tenant by name.
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.get(name)
    }

    /// All tenants, in no particular order.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.values()
    }

    /// Whether any tenant's rules look at context documents; without, nobody need keep or parse them.
    pub fn uses_context(&self) -> bool {
        self.tenants().any(Tenant::uses_context)
    }

    /// The group that a shared subscription belongs to: `share` is its `ShareName`, `filter` what follows. Only
    /// `$share/{g}/cs/1/{t}/queue/{g}/messages/+` does, with the name of a group twice.
    pub fn shared_group(&self, share: &str, filter: &str) -> Option<&Group> {
        let rest = filter.strip_prefix(PREFIX)?.strip_suffix("/messages/+")?;
        let (tenant, group) = rest.split_once("/queue/")?;
        if group != share {
            return None;
        }
        self.tenant(tenant)?.group(group)
    }
}

impl Tenant {
    /// `env` is what the conditions of `rules` were compiled with, `rules` in the order to try them in, `default`
    /// the one without a condition, `contexts` what customers' context documents are kept by.
    pub(crate) fn new(
        name: Arc<str>,
        zone: TimeZone,
        env: Arc<Env>,
        mut groups: Vec<Arc<Group>>,
        rules: Vec<Rule>,
        default: Rule,
        contexts: ContextRules,
    ) -> Self {
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        let scorers = groups.iter().filter_map(|group| group.assigned.as_ref()?.scorer.as_deref());
        let fields = Fields::of(scorers);
        let channels = Vec::new();
        Self { name, zone, groups, rules, default, contexts, channels, transcripts: None, fields, env }
    }

    /// With the time in milliseconds for which transcripts are kept behind the end of their conversations.
    pub(crate) fn with_transcripts(self, transcripts: Option<u64>) -> Self {
        Self { transcripts, ..self }
    }

    /// How long transcripts are kept behind the end of their conversations, in milliseconds; `None`: for ever.
    pub fn transcript_keep_ms(&self) -> Option<u64> {
        self.transcripts
    }

    /// With the weights of channels by name.
    #[must_use]
    pub(crate) fn with_channels(self, mut channels: Vec<(Arc<str>, u32)>) -> Self {
        channels.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self { channels, ..self }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The time zone of `now` in conditions.
    pub fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// A group by name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        let at = self.groups.binary_search_by(|group| (*group.name).cmp(name)).ok()?;
        self.groups.get(at).map(|group| &**group)
    }

    /// The groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().map(|group| &**group)
    }

    /// How much of an agent's capacity a conversation on this channel takes, 1 to 1000; 1 for a channel that the file
    /// does not name.
    pub fn channel_weight(&self, channel: &str) -> u32 {
        let at = self.channels.binary_search_by(|(name, _)| (**name).cmp(channel));
        at.ok().and_then(|at| self.channels.get(at)).map_or(1, |(_, weight)| *weight)
    }

    /// Whether any group is in `assigned` mode.
    pub fn has_assigned(&self) -> bool {
        self.groups().any(Group::is_assigned)
    }

    /// What the tenant's models are told of a conversation that is opened now; `None`: there are no models. Without a
    /// payload nothing was written yet.
    pub fn inputs(
        &self,
        payload: Option<&Payload<'_>>,
        context: Option<&Context>,
        now_ms: i64,
    ) -> Option<Box<Inputs>> {
        if !self.fields.any() {
            return None;
        }
        let now = super::facts::zoned(now_ms, &self.zone);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(Box::new(Inputs {
            size: payload.map(|payload| count(payload.bytes().len())),
            length: payload.and_then(Payload::characters).map(count),
            hour: now.hour().unsigned_abs(),
            weekday: now.weekday().to_monday_one_offset().unsigned_abs(),
            customer: self.fields.read(context),
        }))
    }

    /// The rules in their order, the default last.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().chain([&self.default])
    }

    /// How customers' context documents are kept.
    pub fn contexts(&self) -> &ContextRules {
        &self.contexts
    }

    /// Whether a rule looks at the customer's context document.
    pub fn uses_context(&self) -> bool {
        self.rules.iter().filter_map(|rule| rule.condition.as_ref()).any(Condition::uses_context)
    }

    /// Chooses the group for a message: that of the first rule whose condition holds. A condition that cannot
    /// be evaluated does not hold.
    pub fn route(&self, message: &Inbound<'_>) -> Decision<'_> {
        let mut failed_rules = 0;
        let rule = self.first_that_holds(message, |_, result| failed_rules += u32::from(result.is_err()));
        Decision { rule, failed_rules }
    }

    /// Tries the rules in order and shows each outcome, the default's among them.
    pub(super) fn first_that_holds<'r>(
        &'r self,
        message: &Inbound<'_>,
        mut tried: impl FnMut(&'r Rule, Result<bool, ConditionError>),
    ) -> &'r Rule {
        let facts = Facts::new(message, &self.zone);
        for rule in &self.rules {
            let result =
                rule.condition.as_ref().map_or(Ok(true), |condition| condition.holds(&self.env, &facts));
            let holds = matches!(result, Ok(true));
            tried(rule, result);
            if holds {
                return rule;
            }
        }
        tried(&self.default, Ok(true));
        &self.default
    }

    /// The topic of a group's messages of one customer: `cs/1/{tenant}/queue/{group}/messages/{customer}`.
    pub fn queue_topic(&self, group: &Group, customer: &str) -> String {
        format!("{PREFIX}{}/queue/{}/messages/{customer}", self.name, group.name)
    }

    /// The filter by which the members of a group take its messages:
    /// `$share/{group}/cs/1/{tenant}/queue/{group}/messages/+`.
    pub fn queue_filter(&self, group: &Group) -> String {
        format!("$share/{0}/{PREFIX}{1}/queue/{0}/messages/+", group.name, self.name)
    }
}

impl Group {
    /// Whether it is in `assigned` mode.
    pub fn is_assigned(&self) -> bool {
        self.assigned.is_some()
    }

    /// What a sticky strategy keys on in a topic name: its level [`Group::key_level`], or nothing if the name
    /// has fewer.
    pub fn key<'t>(&self, topic: &'t str) -> &'t str {
        topic.split('/').nth(usize::from(self.key_level).saturating_sub(1)).unwrap_or_default()
    }
}

impl Strategy {
    /// All, by the names they have in files.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("sticky", Self::Sticky),
        ("round_robin", Self::RoundRobin),
        ("least_inflight", Self::LeastInflight),
        ("random", Self::Random),
    ];

    /// The name it has in files.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, strategy)| *strategy == self).map_or("", |(name, _)| name)
    }
}

impl fmt::Debug for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tenants.values()).finish()
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant")
            .field("name", &self.name)
            .field("groups", &self.groups)
            .field("rules", &self.rules().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("name", &self.name)
            .field("when", &self.when)
            .field("group", &self.group.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[tenant]]
name = "main"
[[tenant.group]]
name = "sales"
[[tenant.group]]
name = "support"
strategy = "random"
[[tenant]]
name = "other"
[[tenant.rule]]
name = "any"
group = "x"
[[tenant.group]]
name = "x"
"#;

    const RULES: &str = r#"
[[tenant.rule]]
name = "number"
when = 'message.body.n > 3'
group = "sales"
[[tenant.rule]]
name = "gold"
when = 'customer.tier == "gold"'
group = "sales"
priority = 5
[[tenant.rule]]
name = "rest"
group = "support"
[[tenant]]
name = "other""#;

    fn routing() -> Routing {
        let text = FILE.replacen("[[tenant]]\nname = \"other\"", RULES, 1);
        Routing::parse(&text, "r.toml").unwrap()
    }

    fn decide(routing: &Routing, payload: &[u8], context: Option<&str>) -> (String, String, u32) {
        let context = context.map(|text| Context::parse(text.as_bytes()).unwrap());
        let payload = Payload::new(payload);
        let message = Inbound {
            customer: "42",
            topic: "cs/1/main/customer/42/up",
            payload: &payload,
            properties: &[],
            context: context.as_ref(),
            previous: ("", ""),
            now_ms: 0,
        };
        let decision = routing.tenant("main").unwrap().route(&message);
        (decision.rule.name.to_string(), decision.group().name.to_string(), decision.failed_rules)
    }

    #[test]
    fn the_first_rule_that_holds_names_the_group() {
        let routing = routing();
        let own = b"{\"body\":{\"n\":4}}";
        let gold = Some("{\"tier\":\"gold\"}");
        assert_eq!(decide(&routing, own, gold), ("number".into(), "sales".into(), 0));
        assert_eq!(decide(&routing, b"{\"body\":{\"n\":3}}", gold), ("gold".into(), "sales".into(), 0));
        assert_eq!(
            decide(&routing, b"{\"body\":{\"n\":3}}", Some("{\"tier\":\"tin\"}")),
            ("rest".into(), "support".into(), 0)
        );
    }

    #[test]
    fn a_rule_that_cannot_be_evaluated_does_not_hold_and_is_counted() {
        let routing = routing();
        let gold = Some("{\"tier\":\"gold\"}");
        assert_eq!(decide(&routing, b"hello", gold), ("gold".into(), "sales".into(), 1));
        assert_eq!(decide(&routing, b"hello", None), ("rest".into(), "support".into(), 2));
        assert_eq!(decide(&routing, b"\xff", None), ("rest".into(), "support".into(), 2));
    }

    #[test]
    fn only_rules_about_the_customer_want_the_context() {
        let routing = routing();
        assert!(routing.tenant("main").unwrap().uses_context());
        assert!(!routing.tenant("other").unwrap().uses_context());
        assert!(routing.uses_context());
        assert_eq!(routing.tenants().count(), 2);
    }

    #[test]
    fn a_group_has_its_topic_filter_and_key() {
        let routing = routing();
        let tenant = routing.tenant("main").unwrap();
        let group = tenant.group("sales").unwrap();
        let topic = tenant.queue_topic(group, "42");
        assert_eq!(topic, "cs/1/main/queue/sales/messages/42");
        assert_eq!(tenant.queue_filter(group), "$share/sales/cs/1/main/queue/sales/messages/+");
        assert_eq!(group.key(&topic), "42");
        let level = |key_level| Group { key_level, ..group.clone() };
        assert_eq!(level(1).key(&topic), "cs");
        assert_eq!(level(5).key(&topic), "sales");
        assert_eq!(level(7).key("a/b"), "", "a name with fewer levels");
        assert!(tenant.group("x").is_none(), "another tenant's");
    }

    #[test]
    fn only_the_groups_own_shared_subscription_is_its_queue() {
        let routing = routing();
        let group = |share: &str, filter: &str| routing.shared_group(share, filter).map(|group| &*group.name);
        assert_eq!(group("sales", "cs/1/main/queue/sales/messages/+"), Some("sales"));
        assert_eq!(group("x", "cs/1/other/queue/x/messages/+"), Some("x"));
        for (share, filter) in [
            ("others", "cs/1/main/queue/sales/messages/+"),
            ("sales", "cs/1/main/queue/sales/messages/#"),
            ("sales", "cs/1/main/queue/sales/messages/42"),
            ("sales", "cs/1/main/queue/+/messages/+"),
            ("sales", "cs/1/none/queue/sales/messages/+"),
            ("none", "cs/1/main/queue/none/messages/+"),
            ("sales", "cs/1/main/queue/support/messages/+"),
            ("", "cs/1/main/queue//messages/+"),
            ("sales", "a/b"),
        ] {
            assert_eq!(group(share, filter), None, "{share} {filter}");
        }
    }

    #[test]
    fn shards_may_share_it() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<Routing>();
        shared::<Context>();
    }
}
