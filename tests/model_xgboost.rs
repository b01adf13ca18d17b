//! Our evaluation of models against XGBoost's own: `tests/model/run.sh` has it train, save and predict.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::fs;
use std::path::Path;

use switchboard::desk::{FeatureSource, Scorer};

/// How far a prediction may be off, as part of it if it is more than 1.
const MOST: f32 = 1e-5;

/// What each model that cannot be taken is refused for.
const REFUSED: [(&str, &str); 7] = [
    ("refused_binary", "the model file: this is XGBoost's binary format; save the model under a name that"),
    ("refused_categories", "learner.feature_types[2]: splits by category are not supported"),
    (
        "refused_classes",
        "learner.objective.name: \"multi:softprob\" is not supported; one of reg:squarederror, ",
    ),
    ("refused_linear", "learner.gradient_booster.name: \"gblinear\" is not supported; one of gbtree, dart"),
    ("refused_objective", "learner.objective.name: \"count:poisson\" is not supported"),
    ("refused_targets", "learner.learner_model_param.num_target: the model gives 2 numbers"),
    ("refused_vectors", "learner.learner_model_param.num_target: the model gives 2 numbers"),
];

#[test]
#[ignore = "needs XGBoost from PyPI: tests/model/run.sh"]
fn predictions_are_those_of_xgboost() {
    let folder = std::env::var("SWITCHBOARD_MODELS").unwrap();
    let folder = Path::new(&folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let (mut compared, mut refused, mut worst) = (0, 0, 0.0_f32);
    for name in names {
        let parsed = parse(folder, &name);
        if let Some((_, told)) = REFUSED.iter().find(|(model, _)| *model == name) {
            let error = parsed.unwrap_err();
            assert!(error.starts_with(told), "{name}: {error}");
            refused += 1;
            continue;
        }
        let scorer = parsed.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (rows, predictions) = (floats(folder, &name, "rows"), floats(folder, &name, "predictions"));
        let width = rows.len() / predictions.len();
        let mut largest = 0.0_f32;
        let mut same = 0;
        for (row, expected) in rows.chunks(width).zip(&predictions) {
            let found = scorer.predict(row);
            let off = (found - expected).abs() / expected.abs().max(1.0);
            assert!(off <= MOST, "{name}: {found} instead of {expected} for {row:?}");
            largest = largest.max(off);
            same += usize::from(found.to_bits() == expected.to_bits());
        }
        println!(
            "{name}: {} predictions, {same} the same to the bit, off by {largest:e} at most; {scorer:?}",
            predictions.len()
        );
        compared += predictions.len();
        worst = worst.max(largest);
    }
    assert_eq!(refused, REFUSED.len(), "models that must be refused are not there");
    assert!(compared >= 40_000, "only {compared} predictions were there to compare");
    println!("{compared} predictions, off by {worst:e} at most; {refused} models refused");
}

fn parse(folder: &Path, name: &str) -> Result<Scorer, String> {
    let features = fs::read_to_string(folder.join(format!("{name}.features"))).unwrap();
    let features: Vec<FeatureSource> = features.lines().map(|line| line.parse().unwrap()).collect();
    let json = fs::read(folder.join(format!("{name}.json"))).unwrap();
    Scorer::parse(&json, features).map_err(|error| error.to_string())
}

fn floats(folder: &Path, name: &str, kind: &str) -> Vec<f32> {
    let bytes = fs::read(folder.join(format!("{name}.{kind}"))).unwrap();
    let (numbers, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
