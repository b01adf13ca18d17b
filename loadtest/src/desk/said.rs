//! What the desk's JSON says, as far as anybody here listens.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// `agent/{a}/offer`
#[derive(Debug, Deserialize)]
pub(super) struct Offer<'a> {
    #[serde(rename = "offer")]
    pub(super) id: &'a str,
    pub(super) conversation: &'a str,
    #[serde(default)]
    pub(super) customer: Cow<'a, str>,
    #[serde(default)]
    pub(super) over: Option<&'a str>,
}

/// `agent/{a}/result`
#[derive(Debug, Deserialize)]
pub(super) struct Outcome<'a> {
    pub(super) verb: &'a str,
    #[serde(default)]
    pub(super) conversation: Option<&'a str>,
    pub(super) ok: bool,
    #[serde(default)]
    pub(super) reason: Option<&'a str>,
}

/// `agent/{a}/state`
#[derive(Debug, Deserialize)]
pub(super) struct AgentState<'a> {
    pub(super) show: &'a str,
}

/// `customer/{c}/state`
#[derive(Debug, Deserialize)]
pub(super) struct CustomerState<'a> {
    pub(super) state: &'a str,
    pub(super) conversation: &'a str,
}

/// `conversation/{v}/events`
#[derive(Debug, Deserialize)]
pub(super) struct Event<'a> {
    pub(super) conversation: &'a str,
    pub(super) ver: u32,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) reason: &'a str,
}

/// `agent/{a}/inbox/{v}`, `customer/{c}/down`
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    pub(super) conversation: &'a str,
    pub(super) seq: u64,
    pub(super) from: Author<'a>,
    #[serde(default, borrow)]
    pub(super) body: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Author<'a> {
    pub(super) role: &'a str,
}

/// `agent/{a}/presence`
#[derive(Debug, Serialize)]
pub(super) struct Presence<'a> {
    pub(super) show: &'a str,
    pub(super) groups: [&'a str; 1],
    pub(super) capacity: u32,
}

/// `agent/{a}/answer`
#[derive(Debug, Serialize)]
pub(super) struct Answer<'a> {
    pub(super) verb: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conversation: Option<&'a str>,
}

/// `conversation/{v}/reply`
#[derive(Debug, Serialize)]
pub(super) struct Reply<'a> {
    pub(super) body: &'a str,
}
