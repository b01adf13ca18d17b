//! What a model's score costs: `cargo test --release --test model_measure -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "figures for people")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use switchboard::desk::{FeatureSource, Features, Scorer};

const SOURCES: [&str; 8] = [
    "message.size",
    "message.length",
    "conversation.priority",
    "conversation.waited_s",
    "agent.used",
    "agent.spare",
    "agent.idle_s",
    "now.hour",
];

/// Full trees of this depth with splits at random.
fn model(trees: usize, depth: u32, rng: &mut impl FnMut() -> f32) -> String {
    let nodes = (2 << depth) - 1;
    let inner = nodes / 2;
    let list = |of: &mut dyn FnMut(usize) -> String| (0..nodes).map(of).collect::<Vec<_>>().join(",");
    let mut all = String::new();
    for tree in 0..trees {
        let left = list(&mut |node| if node < inner { (2 * node + 1).to_string() } else { "-1".into() });
        let right = list(&mut |node| if node < inner { (2 * node + 2).to_string() } else { "-1".into() });
        let feature = list(&mut |_| ((rng() * 8.0) as usize).to_string());
        let number = list(&mut |_| rng().to_string());
        let zero = list(&mut |_| "0".into());
        let comma = if tree == 0 { "" } else { "," };
        write!(
            all,
            r#"{comma}{{"tree_param":{{"num_nodes":"{nodes}"}},"left_children":[{left}],"right_children":[{right}],
            "split_indices":[{feature}],"split_conditions":[{number}],"default_left":[{zero}],"split_type":[{zero}]}}"#
        )
        .unwrap();
    }
    let info = vec!["0"; trees].join(",");
    format!(
        r#"{{"version":[3,2,0],"learner":{{"objective":{{"name":"binary:logistic"}},
        "learner_model_param":{{"base_score":"[5E-1]","num_feature":"8"}},
        "gradient_booster":{{"name":"gbtree","model":{{"gbtree_model_param":{{"num_trees":"{trees}"}},
        "tree_info":[{info}],"trees":[{all}]}}}}}}}}"#
    )
}

#[test]
#[ignore = "measures: cargo test --release --test model_measure -- --ignored --nocapture"]
fn what_a_score_costs() {
    let mut state = 1_u32;
    let mut rng = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 24) as f32
    };
    for (trees, depth) in [(10, 6), (100, 3), (100, 6), (100, 8), (1000, 6), (5000, 6)] {
        let json = model(trees, depth, &mut rng);
        let begun = Instant::now();
        let sources: Vec<FeatureSource> = SOURCES.map(|name| name.parse().unwrap()).into();
        let scorer = Scorer::parse(json.as_bytes(), sources).unwrap();
        let parsed = begun.elapsed();
        let rows: Vec<Features<'_>> = (0..4096)
            .map(|_| Features {
                message_size: Some(rng()),
                message_length: Some(rng()),
                priority: Some(rng()),
                waited_s: Some(rng()),
                agent_used: Some(rng()),
                agent_spare: Some(rng()),
                agent_idle_s: Some(rng()),
                hour: Some(rng()).filter(|hour| *hour > 0.1),
                ..Features::default()
            })
            .collect();
        let rounds = 4_000_000 / (trees * depth as usize * rows.len()) + 1;
        let mut best = f64::MAX;
        for _ in 0..7 {
            let begun = Instant::now();
            for _ in 0..rounds {
                for row in &rows {
                    black_box(scorer.score(black_box(row)));
                }
            }
            let each = begun.elapsed().as_secs_f64() * 1e9 / (rounds * rows.len()) as f64;
            best = best.min(each);
        }
        println!(
            "{trees:5} trees of depth {depth}: {best:9.0} ns a score, cost {}; {} KiB of JSON read in {parsed:?}",
            scorer.cost(),
            json.len() / 1024
        );
    }
}
