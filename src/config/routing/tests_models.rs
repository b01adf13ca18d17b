//! Models that groups name, read from files that are not there.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use crate::desk::{Context, Features, Inputs, Payload, Routing, Scorer};

const RULES: &str = r#"
[[tenant]]
name = "main"
[[tenant.group]]
name = "care"
mode = "assigned"
[tenant.group.model]
file = "care.json"
features = ["message.size", "agent.idle_s"]
[[tenant.group]]
name = "night"
mode = "assigned"
[[tenant.rule]]
name = "rest"
group = "care"
"#;

/// One split: whoever is idle for less than a minute is bad.
const MODEL: &str = r#"{"version":[3,2,0],"learner":{"objective":{"name":"binary:logistic"},
    "learner_model_param":{"base_score":"[5E-1]","num_feature":"2"},
    "gradient_booster":{"name":"gbtree","model":{"gbtree_model_param":{"num_trees":"1"},"tree_info":[0],"trees":[
    {"tree_param":{"num_nodes":"3"},"left_children":[1,-1,-1],"right_children":[2,-1,-1],"split_indices":[1,0,0],
    "split_conditions":[60,-2,2],"default_left":[0,0,0],"split_type":[0,0,0]}]}}}}"#;

fn shown(text: &str, model: &[u8]) -> Vec<String> {
    let read = |name: &str| {
        if name == "nowhere.json" {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it is not there"));
        }
        Ok(model.to_vec())
    };
    let problems = Routing::parse_with_models(text, "r.toml", &read).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

fn scorer(routing: &Routing, group: &str) -> Option<Arc<Scorer>> {
    routing.tenant("main").unwrap().group(group).unwrap().assigned.as_ref().unwrap().scorer.clone()
}

#[test]
fn a_group_that_names_a_model_has_it() {
    let named = format!(
        "{}[tenant.group.model]\nfile = \"care.json\"\nfeatures = [\"message.size\", \"agent.idle_s\"]\n",
        RULES.replacen("[[tenant.rule]]", "#", 1).split('#').next().unwrap()
    );
    let text = named + "[[tenant.rule]]\nname = \"rest\"\ngroup = \"care\"\n";
    let reads = Cell::new(0);
    let read = |name: &str| {
        assert_eq!(name, "care.json");
        reads.set(reads.get() + 1);
        Ok(MODEL.as_bytes().to_vec())
    };
    let routing = Routing::parse_with_models(&text, "r.toml", &read).unwrap();
    let care = scorer(&routing, "care").unwrap();
    let idle = |idle: f32| care.score(&Features { agent_idle_s: Some(idle), ..Features::default() });
    assert!(idle(10.0) < 0.2 && idle(100.0) > 0.8);
    assert!(Arc::ptr_eq(&care, &scorer(&routing, "night").unwrap()), "groups that name the same share it");
    assert_eq!(reads.get(), 1);
    assert!(scorer(&Routing::parse(&text, "r.toml").unwrap(), "care").is_none(), "nobody reads models");
    let routing = Routing::parse_with_models(RULES, "r.toml", &read).unwrap();
    assert!(scorer(&routing, "care").is_some() && scorer(&routing, "night").is_none());
}

#[test]
fn a_wrong_model_is_told_where_it_is_named() {
    let of = |from: &str, to: &str| {
        assert_eq!(RULES.matches(from).count(), 1, "{from}");
        RULES.replacen(from, to, 1)
    };
    let good = MODEL.as_bytes();
    assert_eq!(shown(RULES, good), [""; 0]);
    assert_eq!(
        shown(&of("care.json", "nowhere.json"), good),
        ["r.toml:8:8  tenant.group.model.file: \"nowhere.json\" cannot be read: it is not there"]
    );
    assert_eq!(
        shown(&of("\"agent.idle_s\"", "\"agent.idle\", \"customer.\""), good),
        [
            "r.toml:9:29  tenant.group.model.features: \"agent.idle\" is no source of features; did you mean \"agent.idle_s\"?",
            "r.toml:9:43  tenant.group.model.features: the field is not named; e.g. `customer.age`",
        ]
    );
    assert_eq!(
        shown(&of(", \"agent.idle_s\"", ""), good),
        [
            "r.toml:9:12  tenant.group.model.features: \"care.json\": learner.learner_model_param.num_feature: the model has 2 features, but the configuration names 1",
        ]
    );
    let told = shown(RULES, MODEL.replacen("gbtree\"", "gblinear\"", 1).as_bytes());
    assert!(
        told.len() == 1
            && told.iter().all(|told| told.contains(
                "r.toml:8:8  tenant.group.model.file: \"care.json\": learner.gradient_booster.name: "
            )),
        "{told:?}"
    );
    assert_eq!(
        shown(RULES, &vec![b' '; Scorer::MAX_BYTES + 1]),
        [
            "r.toml:8:8  tenant.group.model.file: \"care.json\": the model file: 16777217 bytes; at most 16777216",
        ]
    );
    // Everything at once.
    let text = of("\"agent.idle_s\"", "\"agent.idle\"").replacen("name = \"night\"", "name = \"ni/ght\"", 1);
    assert_eq!(shown(&text, good).len(), 2);
}

#[test]
fn what_models_are_told_is_taken_when_a_conversation_is_opened() {
    let fields = RULES
        .replacen("\"message.size\", \"agent.idle_s\"", "\"customer.vip\", \"customer.age\"", 1)
        .replacen("name = \"main\"", "name = \"main\"\ntime_zone = \"Europe/Berlin\"", 1);
    let read = |_: &str| Ok(MODEL.as_bytes().to_vec());
    let routing = Routing::parse_with_models(&fields, "r.toml", &read).unwrap();
    let tenant = routing.tenant("main").unwrap();
    let context = Context::parse(br#"{"age":42,"vip":true,"name":"x"}"#).unwrap();
    // 12:00 in Berlin on a Sunday.
    let noon_ms = 1_795_345_200_000;
    let told = |payload: Option<&[u8]>, context| {
        let payload = payload.map(Payload::new);
        *tenant.inputs(payload.as_ref(), context, noon_ms).unwrap()
    };
    let customer = [Some(42.0), Some(1.0)].into();
    let expected = Inputs { size: Some(6), length: Some(5), hour: 12, weekday: 7, customer };
    assert_eq!(told(Some("h\u{e9}llo".as_bytes()), Some(&context)), expected);
    let lengths = [&br#"{"body":"h\u00e9y"}"#[..], br#"{"body":{"a":1}}"#, b"\xff"]
        .map(|payload| told(Some(payload), None).length);
    assert_eq!(lengths, [Some(3), None, None]);
    let nothing = told(None, None);
    assert_eq!((nothing.size, nothing.length, &*nothing.customer), (None, None, &[None, None][..]));
    let without = Routing::parse(&fields, "r.toml").unwrap();
    assert!(without.tenant("main").unwrap().inputs(None, Some(&context), noon_ms).is_none());
}
