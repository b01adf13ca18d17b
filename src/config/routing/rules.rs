//! The rules of a tenant: their order, their conditions and the groups that they name.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use super::raw::RawRule;
use super::{MAX_GROUPS, MAX_RULES, Resolve};
use crate::desk::{Condition, Group, Rule, check_id};
use crate::spelling::suggest;

const MAX_PRIORITY: u16 = 1000;
const MAX_SKILLS: usize = 32;

impl Resolve<'_> {
    /// The rules with a condition, and the default. `known` are the names of groups, the broken ones among
    /// them: a rule may well name a group that has another problem.
    pub(super) fn rules(
        &mut self,
        table: &Range<usize>,
        raw: &[Spanned<RawRule>],
        groups: &[Arc<Group>],
        known: &[&str],
    ) -> (Vec<Rule>, Option<Rule>) {
        let Some((last, others)) = raw.split_last() else {
            self.missing(table, "tenant.rule", "at least one [[tenant.rule]], without `when`: the default");
            return (Vec::new(), None);
        };
        let taken = self.values.at_most("tenant.rule", raw, MAX_RULES, "rules in a tenant");
        if let Some(when) = &last.get_ref().when {
            let right = "end with a rule that has no `when`: the default";
            self.values.problem(&when.span(), "tenant.rule.when", "the last rule has a condition", right);
        }
        let mut after = raw.len();
        for rule in others {
            after -= 1;
            if rule.get_ref().when.is_none() {
                let follow = if after == 1 { "the rule".to_owned() } else { format!("the {after} rules") };
                let wrong = format!("missing, so {follow} after this one can never apply");
                let right = "only the last rule has no condition";
                self.absent(&rule.span(), "tenant.rule.when", &wrong, right);
            }
        }
        let mut names = HashMap::new();
        let mut rules: Vec<Option<Rule>> =
            taken.iter().map(|rule| self.rule(rule, groups, known, &mut names)).collect();
        let default = if taken.len() == raw.len() { rules.pop().flatten() } else { None };
        (rules.into_iter().flatten().collect(), default)
    }

    fn rule(
        &mut self,
        raw: &Spanned<RawRule>,
        groups: &[Arc<Group>],
        known: &[&str],
        names: &mut HashMap<String, u32>,
    ) -> Option<Rule> {
        if self.values.problems.is_full() {
            return None;
        }
        let (table, raw) = (raw.span(), raw.get_ref());
        let name = self.name(&table, raw.name.as_ref(), "tenant.rule.name", "e.g. \"vip\"", names);
        let condition = match &raw.when {
            None => Some(None),
            Some(when) => self.condition(when).map(Some),
        };
        let group = if let Some(group) = &raw.group {
            self.known_group(group, "tenant.rule.group", groups, known)
        } else {
            self.missing(&table, "tenant.rule.group", "the name of a group");
            None
        };
        let fallback = match &raw.fallback {
            None => Some(None),
            Some(fallback) => self.known_group(fallback, "tenant.rule.fallback", groups, known).map(Some),
        };
        if let (Some(group), Some(fallback)) = (&raw.group, &raw.fallback)
            && group.get_ref() == fallback.get_ref()
        {
            let wrong = format!("\"{}\" is the rule's group already", fallback.get_ref());
            self.values.problem(&fallback.span(), "tenant.rule.fallback", wrong, "another group");
        }
        let priority = self.values.count("tenant.rule.priority", &raw.priority, 0, 0..=MAX_PRIORITY);
        let skills = self.skills(raw.skills.as_ref());
        Some(Rule {
            name: name?,
            when: raw.when.as_ref().map(|when| when.get_ref().clone()),
            line: self.values.source.line(table.start),
            group: group?,
            priority,
            skills,
            fallback: fallback?,
            condition: condition?,
        })
    }

    fn condition(&mut self, when: &Spanned<String>) -> Option<Condition> {
        match Condition::compile(&self.env, when.get_ref()) {
            Ok(condition) => Some(condition),
            Err(flaws) => {
                for flaw in flaws {
                    let at = self.values.source.within(&when.span(), flaw.at);
                    self.values.problem(&(at..at), "tenant.rule.when", flaw.wrong, flaw.right);
                }
                None
            }
        }
    }

    fn known_group(
        &mut self,
        name: &Spanned<String>,
        key: &str,
        groups: &[Arc<Group>],
        known: &[&str],
    ) -> Option<Arc<Group>> {
        let text = name.get_ref().as_str();
        let found = groups.iter().find(|group| &*group.name == text).cloned();
        if found.is_none() && !known.contains(&text) {
            self.values.problem(
                &name.span(),
                key,
                format!("there is no group \"{text}\""),
                suggest(text, known.get(..MAX_GROUPS).unwrap_or(known)),
            );
        }
        found
    }

    fn skills(&mut self, skills: Option<&Spanned<Vec<Spanned<String>>>>) -> Vec<String> {
        let Some(skills) = skills else { return Vec::new() };
        if skills.get_ref().len() > MAX_SKILLS {
            let wrong = format!("{} skills", skills.get_ref().len());
            self.values.problem(&skills.span(), "tenant.rule.skills", wrong, format!("at most {MAX_SKILLS}"));
        }
        for skill in skills.get_ref() {
            if let Err(wrong) = check_id(skill.get_ref()) {
                let wrong = format!("{:?} is no skill: {wrong}", skill.get_ref());
                self.values.problem(&skill.span(), "tenant.rule.skills", wrong, "e.g. \"french\"");
            }
        }
        skills.get_ref().iter().map(|skill| skill.get_ref().clone()).collect()
    }
}
