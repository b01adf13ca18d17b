//! Why a model is not taken: the place in its file, and what is wrong there.

use super::{MAX_BYTES, MAX_FEATURES};

/// Why a model is not taken.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {wrong}")]
pub struct ModelError {
    /// The place in the file, e.g. `learner.gradient_booster.model.trees[3].left_children[7]`.
    pub path: String,
    /// What is wrong there.
    pub wrong: ModelFlaw,
}

/// What is wrong at a place of a model's file.
#[derive(Debug, thiserror::Error)]
pub enum ModelFlaw {
    /// The file is larger than it may be.
    #[error("{0} bytes; at most {MAX_BYTES}")]
    TooLarge(usize),
    /// The file is UBJSON.
    #[error("this is XGBoost's binary format; save the model under a name that ends in `.json`")]
    Binary,
    /// The file is no JSON.
    #[error("no JSON: {0}")]
    Json(serde_json::Error),
    /// A number is written as `NaN` or `Infinity`, which is no JSON. XGBoost 2 does so in what is not supported anyway.
    #[error(
        "NaN or Infinity where a number should be, as XGBoost 2 writes for splits by category and several outputs: {0}"
    )]
    NoNumber(serde_json::Error),
    /// A member is not there.
    #[error("missing")]
    Missing,
    /// A member is there more than once.
    #[error("`{0}` occurs twice")]
    Twice(String),
    /// A value is of another kind, or outside of what it can be.
    #[error("must be {0}")]
    Kind(&'static str),
    /// A value means something that is not evaluated here.
    #[error("{found} is not supported; {right}")]
    Unsupported {
        /// The value.
        found: String,
        /// What would be.
        right: String,
    },
    /// A split by category, not by number.
    #[error("splits by category are not supported; give the feature as a number")]
    Categorical,
    /// More than one number would come out.
    #[error("the model gives {0} numbers; only one can be a score")]
    Outputs(u32),
    /// There is more than there may be.
    #[error("{found} {what}; at most {most}")]
    TooMany {
        /// What there is.
        what: &'static str,
        /// How many or how much.
        found: usize,
        /// What may be.
        most: usize,
    },
    /// A list has not one element for each of what it tells of.
    #[error("{found} elements for {expected} {what}")]
    Length {
        /// What it tells of.
        what: &'static str,
        /// How many elements it has; one more than expected if it has more.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A child that the tree has not.
    #[error("{child} is no node of {nodes}")]
    NoNode {
        /// The child's index.
        child: i32,
        /// How many nodes the tree has.
        nodes: usize,
    },
    /// A child that is another node's child as well, or the root.
    #[error("node {0} hangs in the tree twice")]
    Shared(usize),
    /// A feature that the model has not.
    #[error("{feature} is no feature of {features}")]
    NoFeature {
        /// The feature's index.
        feature: u32,
        /// How many the model has.
        features: usize,
    },
    /// The configuration names more features, or fewer.
    #[error("the model has {model} features, but the configuration names {named}")]
    FeatureCount {
        /// How many the model was trained with.
        model: usize,
        /// How many sources are named.
        named: usize,
    },
    /// The configuration names no feature, or too many.
    #[error("{0} features are named; 1 to {MAX_FEATURES}")]
    FeaturesNamed(usize),
    /// The configuration names another feature in this place.
    #[error("the model was trained with \"{model}\" here, but the configuration names \"{named}\"")]
    FeatureName {
        /// The name in the file.
        model: String,
        /// The source in the configuration.
        named: String,
    },
    /// The trees could add up to no finite number.
    #[error("the leaves can add up to more than a 32-bit number holds")]
    Overflow,
}

impl ModelError {
    pub(super) fn new(path: impl Into<String>, wrong: ModelFlaw) -> Self {
        Self { path: path.into(), wrong }
    }
}
