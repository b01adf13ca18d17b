//! Who may do what by the default list alone, line by line.
#![expect(clippy::panic, reason = "tests")]

use super::*;
use crate::auth::Role;

/// `yes` or `no`, who (see [`principal`]), act, topic. Acts: `pub`, `pub-r` (retained), `sub`, `get` (receive).
const TABLE: &str = "
# A customer: its own topics, each in its direction.
yes customer    pub    cs/1/main/customer/42/up
yes customer    pub    cs/1/main/customer/42/ask
yes customer    pub    cs/1/main/customer/42/signal
no  customer    pub-r  cs/1/main/customer/42/up
no  customer    pub-r  cs/1/main/customer/42/signal
no  customer    pub    cs/1/main/customer/42/down
no  customer    pub    cs/1/main/customer/42/state
no  customer    pub    cs/1/main/customer/42/answer
no  customer    pub    cs/1/main/customer/42/context
no  customer    pub-r  cs/1/main/customer/42/context
no  customer    pub    cs/1/main/customer/42/context/patch
no  customer    pub    cs/1/main/customer/42
no  customer    pub    cs/1/main/customer/42/
no  customer    pub    cs/1/main/customer/42/up/
no  customer    pub    cs/1/main/customer/42/up/x
no  customer    pub    cs/1/main/customer/42//up
yes customer    sub    cs/1/main/customer/42/down
yes customer    sub    cs/1/main/customer/42/state
yes customer    sub    cs/1/main/customer/42/answer
yes customer    sub    cs/1/main/customer/42/signal
no  customer    sub    cs/1/main/customer/42/up
no  customer    sub    cs/1/main/customer/42/context
no  customer    sub    cs/1/main/customer/42/context/patch
yes customer    get    cs/1/main/customer/42/down
no  customer    get    cs/1/main/customer/42/context
no  customer    get    cs/1/main/customer/43/down
yes customer    sub    $share/phones/cs/1/main/customer/42/down

# Wider than what it may have.
no  customer    sub    #
no  customer    sub    +
no  customer    sub    +/#
no  customer    sub    /#
no  customer    sub    cs/#
no  customer    sub    cs/1/#
no  customer    sub    cs/1/main/#
no  customer    sub    cs/1/main/customer/#
no  customer    sub    cs/1/main/customer/+/down
no  customer    sub    cs/1/+/customer/42/down
no  customer    sub    cs/+/main/customer/42/down
no  customer    sub    +/1/main/customer/42/down
no  customer    sub    cs/1/main/+/42/down
no  customer    sub    cs/1/main/customer/42/#
no  customer    sub    cs/1/main/customer/42/+
no  customer    sub    cs/1/main/customer/42/down/#
no  customer    sub    cs/1/main/customer/42/down/+
no  customer    sub    cs/1/main/customer/42
no  customer    sub    cs/1/main/customer/42/
no  customer    sub    /cs/1/main/customer/42/down
no  customer    sub    cs/1/main/customer/42/down/
no  customer    sub    $share/x/#
no  customer    sub    $share/x/cs/1/main/customer/+/down
no  customer    sub    $share/x/cs/1/main/customer/43/down
no  customer    sub    $share/care/cs/1/main/queue/care/messages/+

# Names that only look like its own.
no  customer    pub    cs/1/main/customer/421/up
no  customer    pub    cs/1/main/customer/4/up
no  customer    pub    cs/1/main/customer/4/2/up
no  customer    pub    cs/1/main/customer/42x/up
no  customer    pub    cs/1/main/customer/42 /up
no  customer    pub    cs/1/main/customer/ 42/up
no  customer    pub    cs/1/main/customer/４２/up
no  customer    pub    cs/1/main/customer/42\u{200b}/up
no  customer    pub    cs/1/main/customer/42/UP
no  customer    pub    cs/1/MAIN/customer/42/up
no  customer    pub    cs/1/main/customer/42/../43/up
no  customer    pub    cs/1/main/customer/43/../42/up
no  customer    pub    cs/1/main/customer/42/./up
no  customer    pub    cs/1/main/customer/%i/up
no  customer    pub    cs/1/%t/customer/42/up
no  customer    pub    cs/1/main/customer//up
no  customer    pub    cs/1//customer/42/up
no  customer    pub    cs//1/main/customer/42/up
no  customer    pub    cs/11/main/customer/42/up
no  customer    pub    cs/2/main/customer/42/up
no  customer    pub    /cs/1/main/customer/42/up
no  customer    pub    xcs/1/main/customer/42/up
no  customer    sub    cs/1/main/customer/421/down
no  customer    sub    cs/1/main/customer/4/down
no  customer    sub    cs/1/main/customer/42/../43/down

# Another tenant, other parts of the desk.
no  customer    pub    cs/1/other/customer/42/up
no  customer    sub    cs/1/other/customer/42/down
no  customer    pub    cs/1/main/agent/42/presence
no  customer    pub    cs/1/main/agent/42/answer
no  customer    pub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/reply
no  customer    pub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/ask
no  customer    pub    cs/1/main/queue/care/put
no  customer    pub    cs/1/main/control/explain
no  customer    pub    weather/berlin
no  customer    sub    cs/1/main/agent/42/#
no  customer    sub    cs/1/main/agent/7/inbox/01ARZ3NDEKTSV4RRFFQ69G5FAV
no  customer    sub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/messages
no  customer    sub    cs/1/main/queue/care/state
no  customer    sub    weather/#

# $ topics: read by operators, written by nobody.
no  customer    sub    $SYS/#
no  customer    sub    $SYS/broker/uptime
no  customer    sub    $share/x/$SYS/#
no  customer    pub    $SYS/broker/uptime
no  customer    pub    $share/x/cs/1/main/customer/42/up
no  agent       sub    $SYS/#
no  supervisor  sub    $SYS/#
no  supervisor  sub    +/broker/uptime
no  supervisor  pub    $SYS/x
yes operator    sub    $SYS/#
yes operator    sub    $SYS/broker/+
yes operator    sub    $share/x/$SYS/#
no  operator    sub    $other/#
no  operator    pub    $SYS/broker/uptime
no  operator    pub    $other
no  operator    pub    $share/x/a

# Answers.
yes customer    sub    response/phone-1/#
yes customer    sub    response/phone-1/a
yes customer    sub    response/phone-1
no  customer    sub    response/phone-2/#
no  customer    sub    response/phone-11/#
no  customer    sub    response/#
no  customer    sub    response/+/a
no  customer    pub    response/phone-1/a
no  customer    pub    response/console-7/a
yes agent       sub    response/console-7/#
no  agent       sub    response/#
no  agent       sub    response/phone-1/#
yes agent       pub    response/phone-1/a
no  agent       pub-r  response/phone-1/a
no  agent       pub    response
yes bot         pub    response/phone-1/a/b
yes supervisor  pub    response/phone-1/a
yes operator    sub    response/#
no  device      sub    response/gate-1/#
no  device      pub    response/phone-1/a

# An agent: itself, its groups, any conversation to write to.
yes agent       pub    cs/1/main/agent/7/presence
yes agent       pub    cs/1/main/agent/7/answer
no  agent       pub    cs/1/main/agent/7/offer
no  agent       pub    cs/1/main/agent/7/state
no  agent       pub    cs/1/main/agent/7/inbox/01ARZ3NDEKTSV4RRFFQ69G5FAV
no  agent       pub    cs/1/main/agent/77/presence
no  agent       pub    cs/1/main/agent/8/answer
no  agent       pub    cs/1/other/agent/7/presence
yes agent       sub    cs/1/main/agent/7/#
yes agent       sub    cs/1/main/agent/7/inbox/+
yes agent       sub    cs/1/main/agent/7/offer
no  agent       sub    cs/1/main/agent/+/offer
no  agent       sub    cs/1/main/agent/8/offer
no  agent       sub    cs/1/main/agent/77/#
no  agent       sub    cs/1/main/agent/#
no  agent       sub    cs/1/main/#
no  agent       sub    #
no  agent       sub    $share/x/cs/1/main/agent/7/#
no  agent       sub    $share/care/cs/1/main/agent/7/inbox/+
yes agent       pub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/reply
yes agent       pub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/note
yes agent       pub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/ask
no  agent       pub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/messages
no  agent       pub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/events
no  agent       pub-r  cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/note
no  agent       pub    cs/1/other/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/reply
yes agent       sub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/note
no  agent       sub    cs/1/main/conversation/+/note
no  agent       sub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/+
no  agent       sub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/#
no  agent       sub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/messages
no  agent       sub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/events
no  agent       sub    $share/x/cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/note
yes agent       sub    cs/1/main/customer/42/context
no  agent       sub    cs/1/main/customer/+/context
yes agent       sub    cs/1/main/customer/42/signal
no  agent       sub    cs/1/main/customer/42/down
no  agent       sub    cs/1/main/customer/42/#
yes agent       pub    cs/1/main/customer/42/signal
yes agent       pub    cs/1/main/customer/42/down
yes agent       pub    cs/1/main/customer/42/context/patch
no  agent       pub-r  cs/1/main/customer/42/context
no  agent       pub    cs/1/main/customer/42/up
no  agent       pub    cs/1/main/customer/42/ask
yes agent       sub    cs/1/main/queue/care/#
yes agent       sub    cs/1/main/queue/billing/state
yes agent       sub    cs/1/main/queue/care/messages/+
no  agent       sub    cs/1/main/queue/sales/state
no  agent       sub    cs/1/main/queue/+/state
no  agent       sub    cs/1/main/queue/#
no  agent       sub    cs/1/main/queue/car/state
no  agent       sub    cs/1/main/queue/care2/state
yes agent       sub    $share/care/cs/1/main/queue/care/messages/+
yes agent       sub    $share/care/cs/1/main/queue/care/messages/42
yes agent       sub    $share/billing/cs/1/main/queue/billing/messages/+
no  agent       sub    $share/billing/cs/1/main/queue/care/messages/+
no  agent       sub    $share/mine/cs/1/main/queue/care/messages/+
no  agent       sub    $share/care2/cs/1/main/queue/care/messages/+
no  agent       sub    $share/care/cs/1/main/queue/care/#
no  agent       sub    $share/care/cs/1/main/queue/+/messages/+
no  agent       sub    $share/care/cs/1/other/queue/care/messages/+
no  agent       sub    $share/sales/cs/1/main/queue/sales/messages/+
no  agent       sub    $share/care/#
no  agent       pub    cs/1/main/queue/care/messages/42
no  agent       pub    cs/1/main/queue/care/put
no  agent       pub    cs/1/main/queue/care/state
no  agent       pub    cs/1/main/control/close
yes agent       get    cs/1/main/queue/care/messages/42
yes agent       get    cs/1/main/agent/7/inbox/x
no  agent       get    cs/1/main/agent/8/inbox/x
no  agent       get    $SYS/broker/uptime

# A bot: an agent that also writes for others.
yes bot         pub    cs/1/main/agent/b1/presence
yes bot         pub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/reply
yes bot         pub    cs/1/main/queue/sales/put
yes bot         pub-r  cs/1/main/customer/42/context
yes bot         pub    cs/1/main/customer/42/context/patch
no  bot         pub    cs/1/main/control/close
no  bot         pub    cs/1/other/queue/sales/put
no  bot         sub    cs/1/main/#
no  bot         sub    cs/1/main/customer/+/context
yes bot         sub    $share/care/cs/1/main/queue/care/messages/+

# A supervisor: reads its tenant, steers it, answers as itself.
yes supervisor  sub    cs/1/main/#
yes supervisor  sub    cs/1/main/conversation/+/messages
yes supervisor  sub    cs/1/main/+/+/state
yes supervisor  sub    $share/audit/cs/1/main/conversation/+/events
no  supervisor  sub    cs/1/+/conversation/+/messages
no  supervisor  sub    cs/1/other/#
no  supervisor  sub    cs/1/#
no  supervisor  sub    #
no  supervisor  sub    cs/1/main2/#
yes supervisor  pub    cs/1/main/control/close
yes supervisor  pub    cs/1/main/control/explain
no  supervisor  pub    cs/1/main/control/a/b
no  supervisor  pub    cs/1/other/control/close
yes supervisor  pub    cs/1/main/queue/sales/put
yes supervisor  pub    cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/reply
yes supervisor  pub-r  cs/1/main/customer/42/context
yes supervisor  pub    cs/1/main/agent/s1/presence
no  supervisor  pub    cs/1/main/agent/7/presence
no  supervisor  pub    cs/1/main/agent/7/answer
no  supervisor  pub    cs/1/main/customer/42/up
no  supervisor  pub    cs/1/main/customer/42/ask
no  supervisor  pub    weather/berlin
yes supervisor  get    cs/1/main/conversation/x/messages

# An operator: everything.
yes operator    pub    cs/1/other/control/drain
yes operator    pub-r  weather/berlin
yes operator    pub    cs/1/main/customer/42/up
yes operator    sub    #
yes operator    sub    +/+
yes operator    sub    cs/1/+/conversation/+/messages
yes operator    sub    $share/any/#
yes operator    get    anything/at/all
yes operator    get    $SYS/broker/uptime

# A device, and whoever came in without a login although there are some: nothing.
no  device      pub    sensors/gate-1/t
no  device      pub    cs/1/main/customer/gate-1/up
no  device      sub    sensors/gate-1/#
no  device      sub    #
no  device      get    a
no  anonymous   pub    a
no  anonymous   pub    cs/1/main/customer/42/up
no  anonymous   sub    #
no  anonymous   sub    cs/1/main/customer/42/down
no  anonymous   sub    response/phone-1/#
no  anonymous   get    a

# Ids, tenants, groups and client identifiers that would be more than one level.
no  id-plus     pub    cs/1/main/customer/42/up
no  id-plus     pub    cs/1/main/customer/+/up
no  id-plus     sub    cs/1/main/customer/+/down
no  id-plus     sub    cs/1/main/customer/42/down
no  id-hash     sub    cs/1/main/customer/#
no  id-hash     sub    cs/1/main/customer/42/down
no  id-slash    pub    cs/1/main/customer/42/x/up
no  id-slash    sub    cs/1/main/customer/42/x/down
no  id-null     pub    cs/1/main/customer/4\u{0}2/up
no  id-empty    pub    cs/1/main/customer//up
no  id-empty    sub    cs/1/main/customer//down
yes id-plus     sub    response/phone-1/#
no  tenant-plus sub    cs/1/main/#
no  tenant-plus sub    cs/1/+/#
no  tenant-plus pub    cs/1/main/control/close
no  group-plus  sub    cs/1/main/queue/sales/#
no  group-plus  sub    cs/1/main/queue/+/#
no  group-plus  sub    $share/+/cs/1/main/queue/+/messages/+
yes group-plus  sub    cs/1/main/queue/care/#
no  no-groups   sub    cs/1/main/queue/care/#
no  no-groups   sub    cs/1/main/queue//#
no  client-plus sub    response/+/#
no  client-plus sub    response/phone-1/#
no  client-path sub    response/a/b/#
no  client-path sub    response/a/#
yes id-unicode  pub    cs/1/main/customer/ünï·張/up
no  id-unicode  pub    cs/1/main/customer/u\u{308}nï·張/up
yes id-percent  pub    cs/1/main/customer/%c/up
no  id-percent  pub    cs/1/main/customer/phone-1/up
yes id-dollar   pub    cs/1/main/customer/$SYS/up

# No filter, and filters that are none.
no  operator    sub    a/#/b
no  operator    sub    $share/g
no  operator    sub    a+
";

/// Client identifier, role, id, groups, tenant.
fn principal(who: &str) -> (&'static str, Option<Principal>) {
    let (client, role, id, groups, tenant): (_, _, _, &[&str], _) = match who {
        "customer" => ("phone-1", Role::Customer, "42", &[], "main"),
        "agent" => ("console-7", Role::Agent, "7", &["care", "billing"], "main"),
        "bot" => ("bot-1", Role::Bot, "b1", &["care"], "main"),
        "supervisor" => ("desk-1", Role::Supervisor, "s1", &[], "main"),
        "operator" => ("ops-1", Role::Operator, "o1", &[], "main"),
        "device" => ("gate-1", Role::Device, "gate-1", &[], "main"),
        "id-plus" => ("phone-1", Role::Customer, "+", &[], "main"),
        "id-hash" => ("phone-1", Role::Customer, "#", &[], "main"),
        "id-slash" => ("phone-1", Role::Customer, "42/x", &[], "main"),
        "id-null" => ("phone-1", Role::Customer, "4\u{0}2", &[], "main"),
        "id-empty" => ("phone-1", Role::Customer, "", &[], "main"),
        "id-unicode" => ("phone-1", Role::Customer, "ünï·張", &[], "main"),
        "id-percent" => ("phone-1", Role::Customer, "%c", &[], "main"),
        "id-dollar" => ("phone-1", Role::Customer, "$SYS", &[], "main"),
        "tenant-plus" => ("desk-1", Role::Supervisor, "s1", &[], "+"),
        "group-plus" => ("console-7", Role::Agent, "7", &["+", "#", "", "care"], "main"),
        "no-groups" => ("console-7", Role::Agent, "7", &[], "main"),
        "client-plus" => ("+", Role::Customer, "42", &[], "main"),
        "client-path" => ("a/b", Role::Customer, "42", &[], "main"),
        "anonymous" => return ("phone-1", None),
        other => panic!("who is {other}?"),
    };
    let principal = Principal {
        user: "someone".into(),
        tenant: tenant.into(),
        role,
        id: id.into(),
        groups: groups.iter().map(|&group| group.into()).collect(),
        expires_at: None,
    };
    (client, Some(principal))
}

#[test]
fn the_default_list_line_by_line() {
    let acl = Acl::new(Arc::default(), true);
    let mut lines = 0;
    let mut wrong = Vec::new();
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (answer, rest) = line.split_once(' ').unwrap_or_default();
        let (who, rest) = rest.trim_start().split_once(' ').unwrap_or_default();
        let (act, topic) = rest.trim_start().split_once(' ').unwrap_or_default();
        let topic = topic.trim_start();
        let (client_id, principal) = principal(who);
        let subject = Subject { client_id, principal: principal.as_ref() };
        let act = match act {
            "pub" => Act::Publish { topic, qos: 1, retain: false },
            "pub-r" => Act::Publish { topic, qos: 1, retain: true },
            "sub" => Act::Subscribe { filter: topic, qos: 1 },
            "get" => Act::Receive { topic },
            other => panic!("what is {other}?"),
        };
        let decision = acl.decide(&subject, &act);
        if decision.allowed != (answer == "yes") {
            wrong.push(format!("{line}: {}", decision.by));
        }
        super::tests::agree(&acl, &subject, &act);
        lines += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(lines >= 150, "{lines}");
}
