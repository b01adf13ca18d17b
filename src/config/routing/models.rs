//! A group's model: its file and its features, and from them what scores.
//!
//! What the file is called is the routing file's, its bytes come from whoever reads that.

use std::sync::Arc;

use toml::Spanned;

use super::Resolve;
use super::assigned::MAX_TEXT_BYTES;
use super::raw::RawModel;
use crate::desk::{FeatureSource, ModelFlaw, ModelSource, Scorer};

const FILE: &str = "tenant.group.model.file";
const FEATURES: &str = "tenant.group.model.features";

impl Resolve<'_> {
    /// Where a model comes from, and the model if it was read; each `None` only with a problem told, the second also
    /// if nobody reads models.
    pub(super) fn model(&mut self, raw: &Spanned<RawModel>) -> (Option<ModelSource>, Option<Arc<Scorer>>) {
        let (table, raw) = (raw.span(), raw.get_ref());
        if let Some(file) = &raw.file {
            self.length(FILE, file, MAX_TEXT_BYTES);
        } else {
            self.missing(&table, FILE, "the name of a file");
        }
        let Some(features) = &raw.features else {
            self.missing(&table, FEATURES, "e.g. [\"message.size\"]");
            return (None, None);
        };
        let sources = self.features(features);
        let Some(file) = raw.file.as_ref().filter(|file| !file.get_ref().is_empty()) else {
            return (None, None);
        };
        let names = features.get_ref().iter().map(|feature| feature.get_ref().clone()).collect();
        let source = ModelSource { file: file.get_ref().clone(), features: names };
        let scorer = sources.and_then(|sources| self.scorer(&source, sources, file, features));
        (Some(source), scorer)
    }

    /// `None` only with a problem told.
    fn features(&mut self, features: &Spanned<Vec<Spanned<String>>>) -> Option<Vec<FeatureSource>> {
        let count = features.get_ref().len();
        let may_be = 1..=Scorer::MAX_FEATURES;
        if !may_be.contains(&count) {
            let right = format!("1 to {}", Scorer::MAX_FEATURES);
            self.values.problem(&features.span(), FEATURES, format!("{count} features"), right);
        }
        let mut sources = Vec::with_capacity(count);
        for feature in features.get_ref().iter().take(Scorer::MAX_FEATURES) {
            match feature.get_ref().parse() {
                Ok(source) => sources.push(source),
                Err(crate::desk::FeatureError { wrong, right }) => {
                    self.values.problem(&feature.span(), FEATURES, wrong, right);
                }
            }
        }
        (may_be.contains(&count) && sources.len() == count).then_some(sources)
    }

    /// `None` only with a problem told, or if nobody reads models.
    fn scorer(
        &mut self,
        source: &ModelSource,
        sources: Vec<FeatureSource>,
        file: &Spanned<String>,
        features: &Spanned<Vec<Spanned<String>>>,
    ) -> Option<Arc<Scorer>> {
        let models = self.models.filter(|_| !self.values.problems.is_full())?;
        if let Some((_, scorer)) = self.read.iter().find(|(read, _)| read == source) {
            return Some(scorer.clone());
        }
        let bytes = match models(&source.file) {
            Ok(bytes) => bytes,
            Err(error) => {
                let wrong = format!("\"{}\" cannot be read: {error}", source.file);
                self.values.problem(&file.span(), FILE, wrong, "");
                return None;
            }
        };
        match Scorer::parse(&bytes, sources) {
            Ok(scorer) => {
                let scorer = Arc::new(scorer);
                self.read.push((source.clone(), scorer.clone()));
                Some(scorer)
            }
            Err(error) => {
                let named =
                    matches!(error.wrong, ModelFlaw::FeatureCount { .. } | ModelFlaw::FeatureName { .. });
                let (span, key) = if named { (features.span(), FEATURES) } else { (file.span(), FILE) };
                self.values.problem(&span, key, format!("\"{}\": {error}", source.file), "");
                None
            }
        }
    }
}
