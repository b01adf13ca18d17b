//! A model's opinion of an agent for a conversation: gradient-boosted trees that were trained elsewhere.
//!
//! Reads what XGBoost 2 and 3 write with `Booster.save_model("x.json")` and evaluates it as they do, in 32 bits and in
//! the same order, so that the predictions agree (`tests/model/run.sh` compares them). Taken are the boosters `gbtree`
//! and `dart`, the objectives `reg:squarederror`, `reg:logistic`, `binary:logistic`, `binary:logitraw` and `rank:*`,
//! splits by number, and missing values. All trees count, as for `Booster.predict`: whoever stopped early and wants
//! only the best ones saves `booster[: booster.best_iteration + 1]`.
//!
//! A file comes from outside. Its bytes, trees, nodes and depth are bounded, each index is checked, and so is what one
//! score costs at most: [`Scorer::cost`] steps, which run while a shard does nothing else. Scoring takes no memory
//! and cannot fail. Measured (`tests/model_measure.rs`): 1.2 µs for 100 trees of depth 6, about 1.7 ns a step.

mod features;
mod flaw;
mod inputs;
mod place;
mod read;
mod trees;

use std::fmt;

pub use features::{FeatureError, FeatureSource, Features};
pub use flaw::{ModelError, ModelFlaw};
pub(in crate::desk) use inputs::InputsRecord;
pub use inputs::{Fields, Inputs};

use super::json::Context;
use trees::{Group, Node};

/// The largest file in bytes.
const MAX_BYTES: usize = Scorer::MAX_BYTES;

/// The most features of a model: as many values are laid out for each score.
const MAX_FEATURES: usize = Scorer::MAX_FEATURES;

/// The most trees of a model.
const MAX_TREES: usize = 10_000;

/// The most nodes of all trees.
const MAX_NODES: usize = 1_000_000;

/// The deepest tree; the root alone has depth 0.
const MAX_DEPTH: u32 = 64;

/// The most steps of one score.
const MAX_COST: u32 = 100_000;

/// A model that scores.
pub struct Scorer {
    nodes: Box<[Node]>,
    groups: Box<[Group]>,
    features: Box<[FeatureSource]>,
    /// What the trees are added to.
    base: f32,
    output: Output,
    cost: u32,
}

/// What a model makes of the sum of its trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// The sum itself.
    Margin,
    /// The logistic function of it.
    Probability,
}

impl Scorer {
    /// The largest file in bytes.
    pub const MAX_BYTES: usize = 16 << 20;

    /// The most features of a model.
    pub const MAX_FEATURES: usize = 64;

    /// Reads a model's file. `features` says where the value of each of its features comes from, in their order; if the
    /// model has names for them, they must be the same.
    ///
    /// # Errors
    /// The first thing that is wrong with it, and where.
    pub fn parse(json: &[u8], features: Vec<FeatureSource>) -> Result<Self, ModelError> {
        read::read(json, features)
    }

    /// How good this is, between 0 and 1: the model's probability, or the logistic function of what else it gives.
    pub fn score(&self, features: &Features<'_>) -> f32 {
        let mut values = [f32::NAN; MAX_FEATURES];
        features.fill(&self.features, &mut values);
        logistic(self.margin(&mut values))
    }

    /// What XGBoost's `Booster.predict` gives for a row. A value that is not finite, or not there, is missing.
    pub fn predict(&self, row: &[f32]) -> f32 {
        let mut values = [f32::NAN; MAX_FEATURES];
        values.iter_mut().zip(row).for_each(|(value, given)| *value = *given);
        let margin = self.margin(&mut values);
        match self.output {
            Output::Margin => margin,
            Output::Probability => logistic(margin),
        }
    }

    /// The values of the model's customer fields, for [`Features::customer`]. It is the same for all agents, so one look
    /// into the document is enough for a conversation.
    pub fn customer(&self, context: Option<&Context>) -> Vec<Option<f32>> {
        features::customer(&self.features, context)
    }

    /// The most steps of one score: how many nodes it looks at. That is the depth of each tree and one more; the trees
    /// go in groups of eight, each of them as far as the deepest.
    pub fn cost(&self) -> u32 {
        self.cost
    }

    fn margin(&self, values: &mut [f32; MAX_FEATURES]) -> f32 {
        values.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = f32::NAN);
        self.groups.iter().fold(self.base, |sum, group| self.add(sum, group, values))
    }

    /// Walks the trees of a group side by side: each step waits for memory, and so they wait together.
    fn add(&self, sum: f32, group: &Group, values: &[f32; MAX_FEATURES]) -> f32 {
        let node = |at: u32| self.nodes.get(at as usize).copied().unwrap_or(Node::NOTHING);
        let mut lanes = group.roots;
        for _ in 0..group.depth {
            let mut moved = 0;
            for at in &mut lanes {
                let node = node(*at);
                let next = node.next(values.get(node.feature()).copied().unwrap_or(f32::NAN));
                moved |= *at ^ next;
                *at = next;
            }
            if moved == 0 {
                break;
            }
        }
        lanes.iter().take(group.trees as usize).fold(sum, |sum, at| sum + node(*at).number())
    }
}

impl fmt::Debug for Scorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scorer")
            .field("trees", &self.groups.iter().map(|group| group.trees).sum::<u32>())
            .field("nodes", &self.nodes.len())
            .field("features", &self.features.len())
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

/// XGBoost's own, with its bound on what goes into the exponential function.
fn logistic(margin: f32) -> f32 {
    1.0 / ((-margin).min(88.7).exp() + 1.0 + 1e-16)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const MODEL: &str = "/learner/gradient_booster/model";

    fn sources() -> Vec<FeatureSource> {
        vec![FeatureSource::Waited, FeatureSource::Customer("age".into())]
    }

    /// Two trees, written out by hand: by the wait, then by the age; and by the age alone. Node 5 of the first was cut
    /// off.
    fn model() -> Value {
        json!({
            "version": [3, 2, 0],
            "learner": {
                "attributes": { "best_iteration": "0" },
                "feature_names": ["conversation.waited_s", "customer.age"],
                "feature_types": ["float", "int"],
                "gradient_booster": {
                    "name": "gbtree",
                    "model": {
                        "gbtree_model_param": { "num_parallel_tree": "1", "num_trees": "2" },
                        "tree_info": [0, 0],
                        "trees": [
                            {
                                "tree_param": { "num_nodes": "6", "size_leaf_vector": "1", "num_deleted": "1" },
                                "left_children": [2, -1, -1, 4, -1, 77],
                                "right_children": [3, -1, -1, 1, -1, 77],
                                "split_indices": [0, 0, 0, 1, 0, 2_147_483_647],
                                "split_conditions": [10.0, 0.5, -1.0, 18, 2.0, 9.0],
                                "default_left": [1, 0, 0, 0, 0, 0],
                                "split_type": [0, 0, 0, 0, 0, 0],
                                "parents": [2_147_483_647, 3, 0, 0, 3, 0],
                            },
                            {
                                "tree_param": { "num_nodes": "3", "size_leaf_vector": "1" },
                                "left_children": [1, -1, -1],
                                "right_children": [2, -1, -1],
                                "split_indices": [1, 0, 0],
                                "split_conditions": [30.0, 0.25, -0.25],
                                "default_left": [0, 0, 0],
                                "split_type": [0, 0, 0],
                            },
                        ],
                    },
                },
                "learner_model_param": {
                    "base_score": "[2.5E-1]", "num_class": "0", "num_feature": "2", "num_target": "1",
                },
                "objective": { "name": "reg:squarederror" },
            },
        })
    }

    fn scorer(model: &Value) -> Result<Scorer, ModelError> {
        Scorer::parse(model.to_string().as_bytes(), sources())
    }

    /// What is told of the model with one value replaced, or, without a value, removed.
    fn refusal(pointer: &str, value: Option<Value>) -> String {
        let mut model = model();
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        match (model.pointer_mut(parent).unwrap(), value) {
            (Value::Object(members), Some(value)) => drop(members.insert(last.to_owned(), value)),
            (Value::Object(members), None) => assert!(members.remove(last).is_some()),
            (list, value) => list[last.parse::<usize>().unwrap()] = value.unwrap(),
        }
        scorer(&model).unwrap_err().to_string()
    }

    #[test]
    fn trees_are_walked_and_added_up() {
        let scorer = scorer(&model()).unwrap();
        let nan = f32::NAN;
        for (row, expected) in [
            ([9.0, 20.0], 0.25 - 1.0 + 0.25),
            // What is as large as the condition goes right.
            ([10.0, 18.0], 0.25 + 0.5 + 0.25),
            ([10.0, 17.9], 0.25 + 2.0 + 0.25),
            ([11.0, 30.0], 0.25 + 0.5 - 0.25),
            // A missing wait goes left, a missing age right.
            ([nan, 20.0], 0.25 - 1.0 + 0.25),
            ([11.0, nan], 0.25 + 0.5 - 0.25),
            ([f32::INFINITY, f32::NEG_INFINITY], 0.25 - 1.0 - 0.25),
            ([-0.0, -1.0], 0.25 - 1.0 + 0.25),
        ] {
            assert!((scorer.predict(&row) - expected).abs() < 1e-6, "{row:?}");
            let customer = [Some(row[1])];
            let features = Features { waited_s: Some(row[0]), customer: &customer, ..Features::default() };
            let logistic = 1.0 / (1.0 + (-expected).exp());
            assert!((scorer.score(&features) - logistic).abs() < 1e-6, "{row:?}");
        }
        assert_eq!(scorer.predict(&[]).to_bits(), scorer.predict(&[nan; 100]).to_bits());
        // Eight lanes, each two levels and a leaf.
        assert_eq!(scorer.cost(), 24);
        assert_eq!(format!("{scorer:?}"), "Scorer { trees: 2, nodes: 8, features: 2, cost: 24, .. }");
        assert_eq!(scorer.customer(None), [None]);
    }

    #[test]
    fn an_objective_says_what_comes_out() {
        let with = |objective: &str, base: &str| {
            let mut model = model();
            model["learner"]["objective"]["name"] = json!(objective);
            model["learner"]["learner_model_param"]["base_score"] = json!(base);
            scorer(&model).unwrap().predict(&[9.0, 20.0])
        };
        let near = |found: f32, expected: f32| assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        for objective in ["reg:squarederror", "binary:logitraw", "rank:pairwise", "rank:ndcg", "rank:map"] {
            near(with(objective, "[2.5E-1]"), -0.5);
            near(with(objective, "-1e1"), -10.75);
        }
        for objective in ["reg:logistic", "binary:logistic"] {
            // The trees give -0.75, from a chance of one in four.
            near(with(objective, "2.5E-1"), 1.0 / (1.0 + 3.0 * 0.75_f32.exp()));
        }
    }

    #[test]
    fn the_trees_of_dart_have_weights() {
        let mut model = model();
        let booster = &mut model["learner"]["gradient_booster"];
        *booster = json!({ "name": "dart", "gbtree": booster.take(), "weight_drop": [0.5, 2.0] });
        let found = scorer(&model).unwrap().predict(&[9.0, 20.0]);
        assert!((found - (0.25 - 0.5 + 0.5)).abs() < 1e-6, "{found}");
        for (weights, told) in [
            (json!([1.0]), "learner.gradient_booster.weight_drop: 1 elements for 2 trees"),
            (
                json!([1.0, 1e39]),
                "learner.gradient_booster.weight_drop[1]: must be a finite number of 32 bits",
            ),
            (
                json!([3e38, 1.0]),
                "learner.gradient_booster: the leaves can add up to more than a 32-bit number holds",
            ),
        ] {
            model["learner"]["gradient_booster"]["weight_drop"] = weights;
            assert_eq!(scorer(&model).unwrap_err().to_string(), told);
        }
    }

    #[test]
    fn names_are_not_needed() {
        for names in [None, Some(json!([]))] {
            let mut model = model();
            match names {
                None => drop(model["learner"].as_object_mut().unwrap().remove("feature_names")),
                Some(names) => model["learner"]["feature_names"] = names,
            }
            assert!(scorer(&model).is_ok());
        }
    }

    #[test]
    fn what_is_wrong_with_a_model_is_told_with_its_place() {
        let parameter = |name| format!("/learner/learner_model_param/{name}");
        let tree = |rest| format!("{MODEL}/trees/0/{rest}");
        for (pointer, value, told) in [
            ("/version".to_owned(), None, "version: missing"),
            (
                "/version".to_owned(),
                Some(json!([1, 7, 6])),
                "version: 1.7.6 is not supported; save it with XGBoost 2 or 3",
            ),
            ("/version".to_owned(), Some(json!([3, 2])), "version: 2 elements for 3 parts"),
            ("/version/1".to_owned(), Some(json!("2")), "version[1]: must be a whole number"),
            ("/learner".to_owned(), None, "learner: missing"),
            ("/learner".to_owned(), Some(json!([])), "learner: must be an object"),
            ("/learner/objective/name".to_owned(), None, "learner.objective.name: missing"),
            (
                "/learner/objective/name".to_owned(),
                Some(json!("multi:softmax")),
                "learner.objective.name: \"multi:softmax\" is not supported; one of reg:squarederror, reg:logistic, \
                 binary:logistic, binary:logitraw, rank:pairwise, rank:ndcg, rank:map",
            ),
            (
                "/learner/objective/name".to_owned(),
                Some(json!(1)),
                "learner.objective.name: must be a string",
            ),
            (
                "/learner/gradient_booster/name".to_owned(),
                Some(json!("gblinear")),
                "learner.gradient_booster.name: \"gblinear\" is not supported; one of gbtree, dart",
            ),
            (
                "/learner/gradient_booster/name".to_owned(),
                Some(json!("dart")),
                "learner.gradient_booster.weight_drop: missing",
            ),
            (
                parameter("num_class"),
                Some(json!("3")),
                "learner.learner_model_param.num_class: the model gives 3 numbers; only one can be a score",
            ),
            (
                parameter("num_target"),
                Some(json!("2")),
                "learner.learner_model_param.num_target: the model gives 2 numbers; only one can be a score",
            ),
            (
                parameter("num_feature"),
                Some(json!("3")),
                "learner.learner_model_param.num_feature: the model has 3 features, but the configuration names 2",
            ),
            (
                parameter("num_feature"),
                Some(json!(2)),
                "learner.learner_model_param.num_feature: must be a string",
            ),
            (
                parameter("num_feature"),
                Some(json!("-2")),
                "learner.learner_model_param.num_feature: must be a whole number in a string, e.g. \"1\"",
            ),
            (
                parameter("base_score"),
                Some(json!("[1,2,3]")),
                "learner.learner_model_param.base_score: the model gives 3 numbers; only one can be a score",
            ),
            (
                parameter("base_score"),
                Some(json!("inf")),
                "learner.learner_model_param.base_score: must be a finite number in a string",
            ),
            (
                parameter("base_score"),
                Some(json!("[3e38]")),
                "learner.gradient_booster: the leaves can add up to more than a 32-bit number holds",
            ),
            (
                "/learner/feature_names/1".to_owned(),
                Some(json!("customer.size")),
                "learner.feature_names[1]: the model was trained with \"customer.size\" here, but the configuration \
                 names \"customer.age\"",
            ),
            (
                "/learner/feature_names/1".to_owned(),
                Some(json!(7)),
                "learner.feature_names[1]: must be a string",
            ),
            (
                "/learner/feature_names".to_owned(),
                Some(json!(["conversation.waited_s"])),
                "learner.feature_names: 1 elements for 2 features",
            ),
            (
                "/learner/feature_names".to_owned(),
                Some(json!(vec!["x"; 65])),
                "learner.feature_names: 65 names; at most 64",
            ),
            (
                "/learner/feature_types/1".to_owned(),
                Some(json!("c")),
                "learner.feature_types[1]: splits by category are not supported; give the feature as a number",
            ),
            (
                format!("{MODEL}/gbtree_model_param/num_trees"),
                Some(json!("3")),
                "learner.gradient_booster.model.trees: 2 elements for 3 trees",
            ),
            (
                format!("{MODEL}/trees"),
                Some(json!([])),
                "learner.gradient_booster.model.trees: must be at least one tree",
            ),
            (
                format!("{MODEL}/trees"),
                Some(json!(vec![0; 10_001])),
                "learner.gradient_booster.model.trees: 10001 trees; at most 10000",
            ),
            (
                format!("{MODEL}/trees/1"),
                Some(json!(null)),
                "learner.gradient_booster.model.trees[1]: must be an object",
            ),
            (
                format!("{MODEL}/tree_info"),
                Some(json!([0, 0, 0])),
                "learner.gradient_booster.model.tree_info: 3 elements for 2 trees",
            ),
            (
                format!("{MODEL}/tree_info/1"),
                Some(json!(1)),
                "learner.gradient_booster.model.tree_info[1]: the model gives 2 numbers; only one can be a score",
            ),
            (
                tree("tree_param/size_leaf_vector"),
                Some(json!("2")),
                "learner.gradient_booster.model.trees[0].tree_param.size_leaf_vector: the model gives 2 numbers; only \
                 one can be a score",
            ),
            (
                tree("tree_param/num_nodes"),
                Some(json!("0")),
                "learner.gradient_booster.model.trees[0].tree_param.num_nodes: must be at least 1",
            ),
            (
                tree("tree_param/num_nodes"),
                Some(json!("1000001")),
                "learner.gradient_booster.model.trees[0].tree_param.num_nodes: 1000001 nodes in all; at most 1000000",
            ),
            (tree("left_children"), None, "learner.gradient_booster.model.trees[0].left_children: missing"),
            (
                tree("left_children"),
                Some(json!([2, -1])),
                "learner.gradient_booster.model.trees[0].left_children: 2 elements for 6 nodes",
            ),
            (
                tree("left_children"),
                Some(json!(vec![-1; 7])),
                "learner.gradient_booster.model.trees[0].left_children: 7 elements for 6 nodes",
            ),
            (
                tree("left_children"),
                Some(json!("none")),
                "learner.gradient_booster.model.trees[0].left_children: must be a list",
            ),
            (
                tree("left_children/3"),
                Some(json!(6)),
                "learner.gradient_booster.model.trees[0].left_children[3]: 6 is no node of 6",
            ),
            (
                tree("left_children/0"),
                Some(json!(-2)),
                "learner.gradient_booster.model.trees[0].left_children[0]: -2 is no node of 6",
            ),
            (
                tree("right_children/0"),
                Some(json!(-1)),
                "learner.gradient_booster.model.trees[0].right_children[0]: -1 is no node of 6",
            ),
            (
                tree("left_children/0"),
                Some(json!(-1)),
                "learner.gradient_booster.model.trees[0].left_children[0]: -1 is no node of 6",
            ),
            (
                tree("left_children/0"),
                Some(json!(0)),
                "learner.gradient_booster.model.trees[0].left_children[0]: node 0 hangs in the tree twice",
            ),
            (
                tree("right_children/0"),
                Some(json!(2)),
                "learner.gradient_booster.model.trees[0].right_children[0]: node 2 hangs in the tree twice",
            ),
            (
                tree("right_children/3"),
                Some(json!(3)),
                "learner.gradient_booster.model.trees[0].right_children[3]: node 3 hangs in the tree twice",
            ),
            (
                tree("left_children/1"),
                Some(json!(1.5)),
                "learner.gradient_booster.model.trees[0].left_children[1]: must be a whole number of 32 bits",
            ),
            (
                tree("left_children/1"),
                Some(json!(4_294_967_295_u32)),
                "learner.gradient_booster.model.trees[0].left_children[1]: must be a whole number of 32 bits",
            ),
            (
                tree("split_indices/3"),
                Some(json!(2)),
                "learner.gradient_booster.model.trees[0].split_indices[3]: 2 is no feature of 2",
            ),
            (
                tree("split_indices/3"),
                Some(json!(-1)),
                "learner.gradient_booster.model.trees[0].split_indices[3]: must be the index of a feature",
            ),
            (
                tree("split_conditions/2"),
                Some(json!("x")),
                "learner.gradient_booster.model.trees[0].split_conditions[2]: must be a finite number of 32 bits",
            ),
            (
                tree("split_conditions/2"),
                Some(json!(1e39)),
                "learner.gradient_booster.model.trees[0].split_conditions[2]: must be a finite number of 32 bits",
            ),
            (
                tree("split_conditions/0"),
                Some(json!(-1e39)),
                "learner.gradient_booster.model.trees[0].split_conditions[0]: must be a finite number of 32 bits",
            ),
            (
                tree("split_conditions/2"),
                Some(json!(2e38)),
                "learner.gradient_booster: the leaves can add up to more than a 32-bit number holds",
            ),
            (
                tree("default_left/0"),
                Some(json!(2)),
                "learner.gradient_booster.model.trees[0].default_left[0]: must be 0 or 1",
            ),
            (
                tree("split_type/3"),
                Some(json!(1)),
                "learner.gradient_booster.model.trees[0].split_type[3]: splits by category are not supported; give the \
                 feature as a number",
            ),
        ] {
            assert_eq!(refusal(&pointer, value), told);
        }
    }

    #[test]
    fn a_probability_starts_from_one() {
        for base in ["0", "1", "-0.5", "[1.5E0]"] {
            let mut model = model();
            model["learner"]["objective"]["name"] = json!("binary:logistic");
            model["learner"]["learner_model_param"]["base_score"] = json!(base);
            assert_eq!(
                scorer(&model).unwrap_err().to_string(),
                "learner.learner_model_param.base_score: must be a probability between 0 and 1, for this objective"
            );
        }
    }

    #[test]
    fn what_is_no_model_is_told() {
        let many = (0..257).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",");
        for (file, told) in [
            (&b""[..], "the model file: no JSON: EOF while parsing a value at line 1 column 0"),
            (b"{} x", "the model file: no JSON: trailing characters at line 1 column 4"),
            (b"\xff", "the model file: no JSON: expected value at line 1 column 1"),
            (b"[]", "the model file: must be an object"),
            (
                b"{L\0\0\0\0\0\0\0\x07learner",
                "the model file: this is XGBoost's binary format; save the model un",
            ),
            (
                b"{\"a\":\n[1,NaN]}",
                "the model file: NaN or Infinity where a number should be, as XGBoost 2 writes",
            ),
            (b"{\"a\":-Infinity}", "the model file: NaN or Infinity where a number should be"),
            (b"{\"a\":1,\"a\":1}", "the model file: `a` occurs twice"),
            (format!("{{{many}}}").as_bytes(), "the model file: 257 members; at most 256"),
            (&vec![b' '; MAX_BYTES + 1], "the model file: 16777217 bytes; at most 16777216"),
            (&vec![b'['; 1_000_000], "the model file: no JSON: EOF while parsing a list"),
        ] {
            let error = Scorer::parse(file, sources()).unwrap_err().to_string();
            assert!(error.starts_with(told), "{told}: {error}");
        }
        for named in [0, 65] {
            let error = Scorer::parse(b"", vec![FeatureSource::Hour; named]).unwrap_err().to_string();
            assert_eq!(error, format!("the model file: {named} features are named; 1 to 64"));
        }
    }

    /// A tree in which each node's right child goes on.
    fn chain(depth: i32) -> Value {
        let nodes = 2 * depth + 1;
        let child =
            |of: i32| (0..nodes).map(|n| if n % 2 == 0 && n + 1 < nodes { n + of } else { -1 }).collect();
        let (left, right): (Vec<i32>, Vec<i32>) = (child(1), child(2));
        let zeros = vec![0; left.len()];
        json!({
            "tree_param": { "num_nodes": nodes.to_string() },
            "left_children": left,
            "right_children": right,
            "split_indices": zeros,
            "split_conditions": (0..nodes).collect::<Vec<i32>>(),
            "default_left": zeros,
            "split_type": zeros,
        })
    }

    fn with_trees(trees: &[Value]) -> Value {
        let mut model = model();
        let booster = &mut model["learner"]["gradient_booster"]["model"];
        booster["gbtree_model_param"]["num_trees"] = json!(trees.len().to_string());
        booster["tree_info"] = json!(vec![0; trees.len()]);
        booster["trees"] = json!(trees);
        model
    }

    #[test]
    fn depth_and_cost_are_bounded() {
        let deepest = scorer(&with_trees(&[chain(64)])).unwrap();
        assert_eq!(deepest.cost(), 8 * 65);
        for (waited, leaf) in [(-1.0, 1.0), (0.0, 3.0), (61.0, 63.0), (62.0, 65.0), (1e6, 128.0)] {
            assert!((deepest.predict(&[waited]) - leaf - 0.25).abs() < 1e-6, "{waited}");
        }
        assert_eq!(
            scorer(&with_trees(&[chain(65)])).unwrap_err().to_string(),
            "learner.gradient_booster.model.trees[0].left_children[128]: 65 levels; at most 64"
        );
        // 192 groups with 520 steps each are within the bound, one more is not.
        assert_eq!(scorer(&with_trees(&vec![chain(64); 192 * 8])).unwrap().cost(), 99_840);
        assert_eq!(
            scorer(&with_trees(&vec![chain(64); 192 * 8 + 1])).unwrap_err().to_string(),
            "learner.gradient_booster: 100360 steps; at most 100000"
        );
    }

    #[test]
    fn a_group_of_trees_is_the_sum_of_them() {
        for trees in 1..40 {
            let depths = (0..trees).map(|tree| tree * 7 % 11);
            let scorer = scorer(&with_trees(&depths.clone().map(chain).collect::<Vec<_>>())).unwrap();
            for waited in [-1_i16, 0, 3, 8, 20] {
                // The leaf left of the first condition that is larger, or the last.
                let leaf = |depth: i32| {
                    (0..depth).find(|n| i32::from(waited) < 2 * n).map_or(2 * depth, |n| 2 * n + 1)
                };
                let sum = depths.clone().map(leaf).sum::<i32>();
                let found = scorer.predict(&[waited.into()]) - 0.25;
                assert!((found - f32::from(i16::try_from(sum).unwrap())).abs() < 1e-3, "{trees} {waited}");
            }
        }
    }

    #[test]
    fn a_score_is_between_0_and_1() {
        for base in ["3e38", "-3e38", "1e3", "-1e3", "0"] {
            let mut model = with_trees(&[chain(0)]);
            model["learner"]["learner_model_param"]["base_score"] = json!(base);
            let Ok(scorer) = scorer(&model) else { continue };
            let score = scorer.score(&Features::default());
            assert!((0.0..=1.0).contains(&score), "{base}: {score}");
        }
    }

    /// Whatever becomes of a file, what is taken of it gives numbers.
    fn try_bytes(bytes: &[u8]) -> bool {
        let Ok(scorer) = Scorer::parse(bytes, sources()) else { return false };
        for value in [f32::NAN, -1.0, 0.0, 10.0, 18.0, 1e30] {
            assert!(scorer.predict(&[value, -value]).is_finite());
            let features = Features { waited_s: Some(value), customer: &[None], ..Features::default() };
            assert!((0.0..=1.0).contains(&scorer.score(&features)));
        }
        assert!(scorer.cost() <= MAX_COST);
        true
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-3_i64..8).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[-+0-9a-z:.]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-z_]{1,8}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Every place of a document.
    fn places(value: &Value, at: &str, into: &mut Vec<String>) {
        into.push(at.to_owned());
        match value {
            Value::Array(list) => {
                (0..).zip(list).for_each(|(n, value): (u32, _)| places(value, &format!("{at}/{n}"), into));
            }
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), into));
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..8)
        ) {
            let mut bytes = model().to_string().into_bytes();
            for (index, byte, kind) in edits {
                let at = index.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, b"0123456789-.eE[]{}\","[usize::from(byte) % 20]),
                    _ => drop(bytes.remove(at)),
                }
            }
            try_bytes(&bytes);
        }

        #[test]
        fn no_json_makes_it_panic(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any_json()), 1..4)
        ) {
            let mut model = model();
            for (index, value) in edits {
                let mut all = Vec::new();
                places(&model, "", &mut all);
                let place: &String = index.get(&all);
                *model.pointer_mut(place).unwrap() = value;
            }
            try_bytes(model.to_string().as_bytes());
        }

        #[test]
        fn no_tree_makes_it_panic(
            children in prop::collection::vec((-1..8_i32, -1..8_i32), 8),
            numbers in prop::collection::vec(any::<f32>().prop_filter("JSON", |n| n.is_finite()), 8),
            features in prop::collection::vec(0..3_u32, 8),
        ) {
            let (left, right): (Vec<i32>, Vec<i32>) = children.into_iter().unzip();
            let zeros = [0; 8];
            let tree = json!({
                "tree_param": { "num_nodes": "8" },
                "left_children": left, "right_children": right, "split_indices": features,
                "split_conditions": numbers, "default_left": zeros, "split_type": zeros,
            });
            try_bytes(with_trees(&[tree]).to_string().as_bytes());
        }
    }
}
