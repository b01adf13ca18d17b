//! `conf/routing.toml`: from text to [`Routing`], or to all that is wrong with it.
//!
//! The text is read into flat structures whose every key may be missing; one pass then resolves them. What is
//! wrong is collected, never the end of the run, so an operator sees everything at once. What a rule means is
//! `crate::desk`'s, which knows no file.

mod assigned;
mod context;
mod groups;
mod hours;
mod links;
mod models;
mod raw;
mod rules;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use super::problem::{Problem, Problems, Source};
use super::unread::Unread;
use super::values::Values;
use crate::desk::{self, Group, ModelSource, Routing, Scorer, Tenant, check_id};
use raw::{RawFile, RawTenant};

const MAX_TENANTS: usize = 256;
/// Each keeps a backlog for as long as the broker runs.
const MAX_GROUPS: usize = 256;
/// Each rule may be evaluated for each message.
const MAX_RULES: usize = 256;

impl Routing {
    /// Reads a routing file and compiles its conditions. `file` is the name that problems are shown with.
    ///
    /// # Errors
    /// What is wrong, in the order of the file: the first [`MAX_PROBLEMS`](super::problem::MAX_PROBLEMS), and a word
    /// about the others.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Problem>> {
        read(text, file, None).map_err(|problems| problems.sorted(file))
    }

    /// As [`Routing::parse`], with the models of its groups. `models` gives the bytes of a model's file, by the name
    /// that stands in the routing file; of one that is larger than [`Scorer::MAX_BYTES`] one byte more than that is
    /// enough. Without it no model is read, and no group has one.
    ///
    /// # Errors
    /// As there, and what is wrong with the models.
    pub fn parse_with_models(
        text: &str,
        file: &str,
        models: &dyn Fn(&str) -> io::Result<Vec<u8>>,
    ) -> Result<Self, Vec<Problem>> {
        read(text, file, Some(models)).map_err(|problems| problems.sorted(file))
    }
}

/// Gives the bytes of a model's file, by its name.
type Models<'m> = &'m dyn Fn(&str) -> io::Result<Vec<u8>>;

/// As [`Routing::parse_with_models`], with the problems as they were found.
pub(super) fn read(text: &str, file: &str, models: Option<Models<'_>>) -> Result<Routing, Problems> {
    let source = Source::new(file, text);
    let (raw, problems) = source.read::<RawFile>();
    let unread = Unread::new(&problems);
    let values = Values { source: &source, folder: None, problems };
    let mut resolve = Resolve { values, unread, env: desk::environment(), models, read: Vec::new() };
    let tenants = raw.map(|raw| resolve.tenants(&raw)).unwrap_or_default();
    if resolve.values.problems.is_empty() {
        return Ok(Routing::new(tenants));
    }
    Err(resolve.values.problems)
}

struct Resolve<'t> {
    values: Values<'t>,
    /// They are not missing as well.
    unread: Unread,
    env: Arc<cel::Env>,
    models: Option<Models<'t>>,
    /// The models that were read so far: groups that name the same share it.
    read: Vec<(ModelSource, Arc<Scorer>)>,
}

impl Resolve<'_> {
    /// A key that must be there; `table` is its table.
    fn missing(&mut self, table: &Range<usize>, key: &str, right: &str) {
        self.absent(table, key, "missing", right);
    }

    /// As [`Self::missing`], with what comes of it.
    fn absent(&mut self, table: &Range<usize>, key: &str, wrong: &str, right: &str) {
        if self.values.problems.is_full() {
            return;
        }
        if !self.is_unread(table, key) {
            self.values.problem(table, key, wrong, right);
        }
    }

    /// Whether a key of a table is there and could not be read.
    fn is_unread(&self, table: &Range<usize>, key: &str) -> bool {
        self.unread.has(self.values.source, table, key)
    }

    fn tenants(&mut self, raw: &RawFile) -> Vec<Tenant> {
        if raw.tenant.is_empty() {
            self.missing(&(0..0), "tenant", "at least one [[tenant]]");
        }
        let mut names = HashMap::new();
        let tenants = self.values.at_most("tenant", &raw.tenant, MAX_TENANTS, "tenants");
        tenants.iter().filter_map(|raw| self.tenant(raw, &mut names)).collect()
    }

    /// `None` only with a problem told.
    fn tenant(&mut self, raw: &Spanned<RawTenant>, names: &mut HashMap<String, u32>) -> Option<Tenant> {
        if self.values.problems.is_full() {
            return None;
        }
        let (span, raw) = (raw.span(), raw.get_ref());
        let name = self.name(&span, raw.name.as_ref(), "tenant.name", "e.g. \"main\"", names);
        let zone = self.zone(raw.time_zone.as_ref());
        let holidays = self.closed_on("tenant.holidays.closed_on", raw.holidays.closed_on.as_ref());
        let mut group_names = HashMap::new();
        let taken = self.values.at_most("tenant.group", &raw.group, MAX_GROUPS, "groups in a tenant");
        let groups: Vec<Arc<Group>> = taken
            .iter()
            .filter_map(|group| self.group(group, &mut group_names, &holidays))
            .map(Arc::new)
            .collect();
        if raw.group.is_empty() {
            self.missing(&span, "tenant.group", "at least one [[tenant.group]]");
        }
        let known: Vec<&str> = raw
            .group
            .iter()
            .filter_map(|group| group.get_ref().name.as_ref())
            .map(|name| name.get_ref().as_str())
            .collect();
        self.links(taken, &raw.rule);
        let (rules, default) = self.rules(&span, &raw.rule, &groups, &known);
        let contexts = self.context(&raw.context);
        let channels = self.channels(&raw.channel);
        let keep = self.transcript_keep(&raw.transcript.keep);
        let env = Arc::clone(&self.env);
        let tenant = Tenant::new(name?, zone?, env, groups, rules, default?, contexts);
        Some(tenant.with_channels(channels).with_transcripts(keep))
    }

    /// A name that may stand as a topic level and was not there before; `names` knows the lines of those.
    fn name(
        &mut self,
        table: &Range<usize>,
        name: Option<&Spanned<String>>,
        key: &str,
        example: &str,
        names: &mut HashMap<String, u32>,
    ) -> Option<Arc<str>> {
        let Some(name) = name else {
            self.missing(table, key, example);
            return None;
        };
        let (span, name) = (name.span(), name.get_ref());
        if let Err(wrong) = check_id(name) {
            self.values.problem(&span, key, format!("{name:?} is not a topic level: {wrong}"), example);
            return None;
        }
        let line = self.values.source.line(span.start);
        if let Some(first) = names.get(name) {
            let wrong = format!("\"{name}\" is there twice");
            self.values.problem(&span, key, wrong, format!("the first is in line {first}"));
            return None;
        }
        names.insert(name.clone(), line);
        Some(Arc::from(name.as_str()))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_assigned;
#[cfg(test)]
mod tests_models;
