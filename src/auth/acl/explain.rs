//! Why a client may or may not: every rule that was asked, and what came of it.

use std::fmt;

use super::rule::Rule;
use super::values::Values;
use super::{Act, By, Decision, Subject};
use crate::topic::ParsedFilter;

/// How a decision came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// The rules that were asked, in their order; the last one has decided, if one has.
    pub tried: Vec<Tried>,
}

/// A rule that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Where it stands.
    pub by: By,
    /// What it says, in a few words.
    pub rule: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a rule has to say about something that a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It allows it.
    Allowed,
    /// It denies it.
    Denied,
    /// It denies a part of what the filter matches, and so the filter.
    DeniedPart,
    /// It allows the topic, and nothing retained.
    NotRetained,
    /// It allows the topic up to this QoS.
    QosAbove(u8),
    /// It speaks of other clients: this key of it does not hold.
    OtherClient(&'static str),
    /// It does not speak of publishing, or not of subscribing.
    OtherAct,
    /// It speaks of other topics.
    OtherTopic,
    /// It allows only a part of what the filter matches.
    AllowsPart,
    /// It allows only filters without wildcards.
    NoWildcards,
    /// It has placeholders for which the client has no value, or none that may stand in a topic.
    NoValue,
}

impl Outcome {
    /// Whether no other rule is asked.
    pub const fn decides(self) -> bool {
        matches!(
            self,
            Self::Allowed | Self::Denied | Self::DeniedPart | Self::NotRetained | Self::QosAbove(_)
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allows it",
            Self::Denied => "denies it",
            Self::DeniedPart => "denies a part of what the filter matches",
            Self::NotRetained => "allows nothing retained",
            Self::QosAbove(most) => return write!(f, "allows QoS {most} at most"),
            Self::OtherClient(key) => return write!(f, "of other clients: {key}"),
            Self::OtherAct => "not about this act",
            Self::OtherTopic => "other topics",
            Self::AllowsPart => "allows only a part of what the filter matches",
            Self::NoWildcards => "allows only filters without wildcards",
            Self::NoValue => "the client has no value that can stand for a placeholder",
        })
    }
}

/// What came of asking a rule, from the same answers that decide.
pub(super) fn outcome(
    rule: &Rule,
    subject: &Subject<'_>,
    values: &Values,
    act: &Act<'_>,
    wanted: Option<&ParsedFilter<'_>>,
) -> Outcome {
    if let Some(key) = rule.who.differs(subject) {
        return Outcome::OtherClient(key);
    }
    if let Some(allowed) = super::answer(rule, values, act, wanted) {
        return decided(rule, values, act, wanted, allowed);
    }
    let speaks = match act {
        Act::Publish { .. } => rule.publish,
        Act::Subscribe { .. } | Act::Receive { .. } => rule.subscribe,
    };
    let touched = wanted.is_some_and(|wanted| rule.topics.iter().any(|t| t.overlaps(values, wanted)));
    let covered = wanted.is_some_and(|wanted| rule.topics.iter().any(|t| t.covers(values, wanted)));
    match () {
        () if !speaks => Outcome::OtherAct,
        () if covered => Outcome::NoWildcards,
        () if touched => Outcome::AllowsPart,
        () if rule.topics.iter().all(|t| !t.is_possible(values)) => Outcome::NoValue,
        () => Outcome::OtherTopic,
    }
}

fn decided(
    rule: &Rule,
    values: &Values,
    act: &Act<'_>,
    wanted: Option<&ParsedFilter<'_>>,
    allowed: bool,
) -> Outcome {
    let whole = wanted.is_none_or(|wanted| rule.topics.iter().any(|t| t.covers(values, wanted)));
    match act {
        _ if allowed => Outcome::Allowed,
        Act::Publish { qos, .. } if rule.allow && *qos > rule.max_qos => Outcome::QosAbove(rule.max_qos),
        Act::Publish { .. } if rule.allow => Outcome::NotRetained,
        _ if whole => Outcome::Denied,
        _ => Outcome::DeniedPart,
    }
}
