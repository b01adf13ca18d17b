//! `switchboard acl test`: what a client may, and which rule says so. Part of the program: it asks the library and makes
//! lines of the answer.

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use switchboard::auth::acl::{Act, By, Explanation, Subject, Tried};
use switchboard::auth::{Principal, Role};
use switchboard::config::AccessRules;
use switchboard::topic::{Limits, check_name, parse_filter};

/// The answer is no.
const EXIT_REFUSED: u8 = 3;
/// As clap's, for arguments that are none.
const EXIT_ARGUMENTS: u8 = 2;

/// Who wants what. Without a role: a client that came in without a login.
#[derive(Args)]
#[command(group(ArgGroup::new("act").required(true).args(["publish", "subscribe", "receive"])))]
pub(crate) struct Wish {
    /// The client identifier.
    #[arg(long, value_name = "ID", default_value = "")]
    client: String,
    /// customer, agent, bot, supervisor, operator or device.
    #[arg(long)]
    role: Option<Role>,
    /// The user name that it proved to own.
    #[arg(long, requires = "role")]
    user: Option<String>,
    /// Its tenant.
    #[arg(long, requires = "role", default_value = "main")]
    tenant: String,
    /// Its id in the tenant: the customer, the agent. Without it the user name.
    #[arg(long, requires = "role")]
    id: Option<String>,
    /// A group that it is in. Repeatable.
    #[arg(long, requires = "role")]
    group: Vec<String>,
    /// Whether it may publish to this topic.
    #[arg(long, value_name = "TOPIC")]
    publish: Option<String>,
    /// Whether it may subscribe to this filter; $share/NAME/FILTER, too.
    #[arg(long, value_name = "FILTER")]
    subscribe: Option<String>,
    /// Whether it may be sent a message with this topic.
    #[arg(long, value_name = "TOPIC")]
    receive: Option<String>,
    /// The QoS of the message or of the subscription, 0 to 2.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// The message is to be retained.
    #[arg(long, conflicts_with_all = ["subscribe", "receive"])]
    retain: bool,
    /// Show every rule that was asked.
    #[arg(long, short)]
    verbose: bool,
}

/// The lines to print, and the exit code: 0 allowed, 3 refused, 2 for a topic that is none. `authentication` says whether
/// there are logins.
pub(crate) fn answer(wish: &Wish, access: &AccessRules, authentication: bool) -> (Vec<String>, ExitCode) {
    let act = match act(wish) {
        Ok(act) => act,
        Err(wrong) => return (vec![wrong], ExitCode::from(EXIT_ARGUMENTS)),
    };
    let principal = principal(wish);
    let subject = Subject { client_id: &wish.client, principal: principal.as_ref() };
    // Whoever has a role has it by a login, whether this configuration has some or not yet.
    let acl = access.acl(authentication || principal.is_some());
    let explanation = acl.explain(&subject, &act);
    let mut lines = vec![verdict(&explanation, &act, access)];
    if wish.verbose {
        lines.extend(tried(&explanation, access));
    }
    let code = if explanation.decision.allowed { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) };
    (lines, code)
}

fn act(wish: &Wish) -> Result<Act<'_>, String> {
    let limits = Limits { max_levels: usize::MAX, max_bytes: 65_535 };
    if let Some(filter) = &wish.subscribe {
        parse_filter(filter, &limits).map_err(|error| format!("{filter:?}: {error}"))?;
        return Ok(Act::Subscribe { filter, qos: wish.qos });
    }
    let topic = wish.publish.as_ref().or(wish.receive.as_ref()).map_or("", String::as_str);
    check_name(topic, &limits).map_err(|error| format!("{topic:?}: {error}"))?;
    Ok(match wish.publish {
        Some(_) => Act::Publish { topic, qos: wish.qos, retain: wish.retain },
        None => Act::Receive { topic },
    })
}

fn principal(wish: &Wish) -> Option<Principal> {
    let user = wish.user.as_deref().unwrap_or_default();
    wish.role.map(|role| Principal {
        user: user.into(),
        tenant: wish.tenant.as_str().into(),
        role,
        id: wish.id.as_deref().unwrap_or(user).into(),
        groups: wish.group.iter().map(|group| group.as_str().into()).collect(),
        expires_at: None,
    })
}

fn verdict(explanation: &Explanation, act: &Act<'_>, access: &AccessRules) -> String {
    let decision = explanation.decision;
    let by = place(decision.by, access);
    let last = explanation.tried.last().filter(|last| last.outcome.decides());
    let says = last.map(|last| format!(", {}", last.rule)).unwrap_or_default();
    if !decision.allowed {
        let why = last.map(|last| format!(", which {}", last.outcome)).unwrap_or_default();
        return format!("refused by {by}{says}{why}");
    }
    match *act {
        Act::Subscribe { qos, .. } => format!("allowed at QoS {} by {by}{says}", qos.min(decision.max_qos)),
        Act::Publish { .. } | Act::Receive { .. } => format!("allowed by {by}{says}"),
    }
}

fn tried(explanation: &Explanation, access: &AccessRules) -> Vec<String> {
    let line = |tried: &Tried| format!("  {}: {}: {}", place(tried.by, access), tried.rule, tried.outcome);
    explanation.tried.iter().map(line).collect()
}

/// `conf/acl.toml:12`, or the name in the default list.
fn place(by: By, access: &AccessRules) -> String {
    match (by, &access.file) {
        (By::File { line }, Some(file)) => format!("{}:{line}", file.display()),
        (by, _) => by.to_string(),
    }
}

/// What to say when a configuration has been read and is fine.
pub(crate) fn summary(access: &AccessRules) -> String {
    match (&access.file, access.rules.len()) {
        (Some(file), rules) if rules > 0 => format!(", {rules} access rules of {}", file.display()),
        _ => String::new(),
    }
}
