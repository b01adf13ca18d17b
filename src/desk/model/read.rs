//! The file of a model, as XGBoost's `Booster.save_model` writes it, without its trees.

use super::features::FeatureSource;
use super::flaw::{ModelError, ModelFlaw};
use super::place::{FILE, Object, Place};
use super::trees::{Forest, Group};
use super::{MAX_BYTES, MAX_COST, MAX_FEATURES, MAX_TREES, Output, Scorer};

/// The objectives that give one number, and what of it comes out.
///
/// `binary:logitraw` keeps its `base_score` as a margin, unlike the two with a probability.
const OBJECTIVES: [(&str, Output); 7] = [
    ("reg:squarederror", Output::Margin),
    ("reg:logistic", Output::Probability),
    ("binary:logistic", Output::Probability),
    ("binary:logitraw", Output::Margin),
    ("rank:pairwise", Output::Margin),
    ("rank:ndcg", Output::Margin),
    ("rank:map", Output::Margin),
];

/// XGBoost's versions whose files were compared with it (`tests/model/run.sh`).
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;

pub(super) fn read(bytes: &[u8], features: Vec<FeatureSource>) -> Result<Scorer, ModelError> {
    if bytes.len() > MAX_BYTES {
        return Err(ModelError::new(FILE, ModelFlaw::TooLarge(bytes.len())));
    }
    if features.is_empty() || features.len() > MAX_FEATURES {
        return Err(ModelError::new(FILE, ModelFlaw::FeaturesNamed(features.len())));
    }
    if bytes.starts_with(b"{L") {
        return Err(ModelError::new(FILE, ModelFlaw::Binary));
    }
    let file = Place::file(bytes)?.object()?;
    version(&file.get("version")?)?;
    let learner = file.get("learner")?.object()?;
    let output = objective(&learner)?;
    let base = parameters(&learner, output, features.len())?;
    feature_names(&learner, &features)?;
    feature_types(&learner, features.len())?;
    let forest = booster(&learner, features.len())?;
    let path = "learner.gradient_booster";
    // Half of the range, for what adding rounds up.
    if forest.most + f64::from(base).abs() > f64::from(f32::MAX / 2.0) {
        return Err(ModelError::new(path, ModelFlaw::Overflow));
    }
    let groups = forest.groups();
    let found = groups.iter().map(Group::cost).sum();
    if found > MAX_COST {
        let costly = ModelFlaw::TooMany { what: "steps", found: found as usize, most: MAX_COST as usize };
        return Err(ModelError::new(path, costly));
    }
    Ok(Scorer {
        nodes: forest.nodes.into(),
        groups: groups.into(),
        features: features.into(),
        base,
        output,
        cost: found,
    })
}

fn version(version: &Place<'_>) -> Result<(), ModelError> {
    let numbers: Vec<u32> = version.one_for_each("a whole number", 3, "parts")?;
    match numbers.first() {
        Some(major) if VERSIONS.contains(major) => Ok(()),
        _ => {
            let found = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
            let right = format!("save it with XGBoost {} or {}", VERSIONS.start(), VERSIONS.end());
            Err(version.wrong(ModelFlaw::Unsupported { found, right }))
        }
    }
}

fn objective(learner: &Object<'_>) -> Result<Output, ModelError> {
    let place = learner.get("objective")?.object()?.get("name")?;
    let name = place.text()?;
    let known = OBJECTIVES.iter().find(|(known, _)| *known == name).map(|(_, output)| *output);
    known.ok_or_else(|| {
        let names = OBJECTIVES.map(|(known, _)| known).join(", ");
        unsupported(&place, &name, format!("one of {names}"))
    })
}

/// What the trees are added to. Also checks that one number comes out of so many features.
fn parameters(learner: &Object<'_>, output: Output, features: usize) -> Result<f32, ModelError> {
    let parameters = learner.get("learner_model_param")?.object()?;
    for name in ["num_class", "num_target"] {
        if let Some(place) = parameters.find(name) {
            let outputs = place.count()?;
            if outputs > 1 {
                return Err(place.wrong(ModelFlaw::Outputs(outputs)));
            }
        }
    }
    let place = parameters.get("num_feature")?;
    let model = place.count()? as usize;
    if model != features {
        return Err(place.wrong(ModelFlaw::FeatureCount { model, named: features }));
    }
    base_score(&parameters.get("base_score")?, output)
}

/// `5E-1`, or `[5E-1]` since 3.1: a probability where one comes out, which the trees start from as a margin.
fn base_score(place: &Place<'_>, output: Output) -> Result<f32, ModelError> {
    let text = place.text()?;
    let list = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let numbers = list.unwrap_or(&text);
    if numbers.contains(',') {
        return Err(place.wrong(ModelFlaw::Outputs(numbers.split(',').count() as u32)));
    }
    let number = numbers.parse().ok().filter(|number: &f32| number.is_finite());
    let base: f32 = number.ok_or_else(|| place.wrong(ModelFlaw::Kind("a finite number in a string")))?;
    match output {
        Output::Margin => Ok(base),
        Output::Probability if base > 0.0 && base < 1.0 => Ok(-(1.0 / base - 1.0).ln()),
        Output::Probability => {
            Err(place.wrong(ModelFlaw::Kind("a probability between 0 and 1, for this objective")))
        }
    }
}

fn feature_names(learner: &Object<'_>, features: &[FeatureSource]) -> Result<(), ModelError> {
    let Some(place) = learner.find("feature_names") else { return Ok(()) };
    let names: Vec<String> = place.list("a string", MAX_FEATURES, "names")?;
    if names.is_empty() {
        return Ok(());
    }
    if names.len() != features.len() {
        let (found, expected) = (names.len(), features.len());
        return Err(place.wrong(ModelFlaw::Length { what: "features", found, expected }));
    }
    for (index, (model, named)) in names.into_iter().zip(features).enumerate() {
        let named = named.to_string();
        if model != named {
            let model = shown(&model);
            return Err(place.wrong_at(index, ModelFlaw::FeatureName { model, named }));
        }
    }
    Ok(())
}

/// Numbers of any kind are the same to a tree; a category is none.
fn feature_types(learner: &Object<'_>, features: usize) -> Result<(), ModelError> {
    let Some(place) = learner.find("feature_types") else { return Ok(()) };
    let types: Vec<String> = place.list("a string", features, "types")?;
    match types.iter().position(|kind| kind == "c") {
        Some(index) => Err(place.wrong_at(index, ModelFlaw::Categorical)),
        None => Ok(()),
    }
}

fn booster(learner: &Object<'_>, features: usize) -> Result<Forest, ModelError> {
    let booster = learner.get("gradient_booster")?.object()?;
    let place = booster.get("name")?;
    match place.text()?.as_str() {
        "gbtree" => trees(&booster, None, features),
        "dart" => {
            let weights = booster.get("weight_drop")?;
            trees(&booster.get("gbtree")?.object()?, Some(&weights), features)
        }
        other => Err(unsupported(&place, other, "one of gbtree, dart".to_owned())),
    }
}

/// `weights`: what the leaves of each tree are multiplied by.
fn trees(booster: &Object<'_>, weights: Option<&Place<'_>>, features: usize) -> Result<Forest, ModelError> {
    let model = booster.get("model")?.object()?;
    let place = model.get("trees")?;
    let trees = place.elements(MAX_TREES, "trees")?;
    if trees.is_empty() {
        return Err(place.wrong(ModelFlaw::Kind("at least one tree")));
    }
    let told = model.get("gbtree_model_param")?.object()?.get("num_trees")?;
    let expected = told.count()? as usize;
    if expected != trees.len() {
        return Err(place.wrong(ModelFlaw::Length { what: "trees", found: trees.len(), expected }));
    }
    let info = model.get("tree_info")?;
    let outputs: Vec<u32> = info.one_for_each("the number of an output", trees.len(), "trees")?;
    if let Some(index) = outputs.iter().position(|output| *output != 0) {
        let outputs = outputs.iter().max().map_or(0, |last| last.saturating_add(1));
        return Err(info.wrong_at(index, ModelFlaw::Outputs(outputs)));
    }
    let weights =
        weights.map_or_else(|| Ok(vec![1.0; trees.len()]), |place| weight_drop(place, trees.len()))?;
    let mut forest = Forest::default();
    for (tree, weight) in trees.iter().zip(weights) {
        forest.add(&tree.object()?, features, weight)?;
    }
    Ok(forest)
}

fn weight_drop(place: &Place<'_>, trees: usize) -> Result<Vec<f32>, ModelError> {
    let finite = "a finite number of 32 bits";
    let weights: Vec<f32> = place.one_for_each(finite, trees, "trees")?;
    match weights.iter().position(|weight| !weight.is_finite()) {
        Some(index) => Err(place.wrong_at(index, ModelFlaw::Kind(finite))),
        None => Ok(weights),
    }
}

fn unsupported(place: &Place<'_>, found: &str, right: String) -> ModelError {
    place.wrong(ModelFlaw::Unsupported { found: format!("\"{}\"", shown(found)), right })
}

/// As much of a name as an error has room for.
fn shown(name: &str) -> String {
    const MOST: usize = 128;
    name.chars().take(MOST).collect()
}
