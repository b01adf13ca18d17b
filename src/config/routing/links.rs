//! What groups in `assigned` mode and rules say of such groups: the names are there, and nobody is sent in a circle.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use toml::Spanned;

use super::groups::Mode;
use super::raw::{RawGroup, RawRule};
use super::{MAX_GROUPS, MAX_RULES, Resolve};
use crate::config::raw::Word;
use crate::spelling::suggest;

/// A longer circle is told in part.
const SHOWN: usize = 8;

/// The groups of a tenant by name, with their modes: the first of each name, in the order of the file.
struct Known<'r> {
    names: Vec<&'r str>,
    modes: Vec<Option<Mode>>,
    places: HashMap<&'r str, usize>,
    /// The names of those in `assigned` mode.
    assigned: Vec<&'r str>,
}

/// A conversation can go from one group to another.
struct Link {
    from: usize,
    to: usize,
    key: &'static str,
    span: Range<usize>,
}

/// Where a group names another one.
struct Mention<'r> {
    key: &'static str,
    name: &'r Spanned<String>,
    /// Whether the conversation leaves for it.
    goes: bool,
}

impl Resolve<'_> {
    /// Looks at every name of a group that a group in `assigned` mode or a rule's fallback has.
    pub(super) fn links(&mut self, groups: &[Spanned<RawGroup>], rules: &[Spanned<RawRule>]) {
        let known = self.known(groups);
        let mut links = Vec::new();
        let mut seen = HashSet::new();
        for group in groups {
            let (table, raw) = (group.span(), group.get_ref());
            let from = raw.name.as_ref().and_then(|name| known.places.get(name.get_ref().as_str())).copied();
            if let Some(from) = from
                && seen.insert(from)
                && self.mode_of(&table, raw) != Some(Mode::Shared)
            {
                links.extend(
                    mentions(raw).into_iter().filter_map(|mention| self.link(&known, from, &mention)),
                );
            }
        }
        let rules = rules.get(..MAX_RULES).unwrap_or(rules);
        links.extend(rules.iter().filter_map(|rule| self.fallback(&known, rule.get_ref())));
        self.circles(&known, &links);
    }

    fn known<'r>(&self, groups: &'r [Spanned<RawGroup>]) -> Known<'r> {
        let mut known =
            Known { names: Vec::new(), modes: Vec::new(), places: HashMap::new(), assigned: Vec::new() };
        for group in groups.iter().take(MAX_GROUPS) {
            let Some(name) = &group.get_ref().name else { continue };
            let name = name.get_ref().as_str();
            if known.places.contains_key(name) {
                continue;
            }
            let mode = self.mode_of(&group.span(), group.get_ref());
            known.places.insert(name, known.names.len());
            known.names.push(name);
            known.modes.push(mode);
            known.assigned.extend((mode == Some(Mode::Assigned)).then_some(name));
        }
        known
    }

    /// The link that a group makes by naming another; `None` also if it is no group to name.
    fn link(&mut self, known: &Known<'_>, from: usize, mention: &Mention<'_>) -> Option<Link> {
        let Mention { key, name, goes } = *mention;
        let text = name.get_ref().as_str();
        let to = known.places.get(text).copied();
        let mode = to.and_then(|to| known.modes.get(to)).copied();
        let wrong = match mode {
            None => Some(format!("there is no group \"{text}\"")),
            Some(Some(Mode::Shared)) => Some(format!("\"{text}\" is in shared mode")),
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            let own = known.names.get(from).copied().unwrap_or_default();
            let others: Vec<&str> = known.assigned.iter().copied().filter(|name| *name != own).collect();
            let right = match others.as_slice() {
                [] => "a group with mode = \"assigned\"".to_owned(),
                others => suggest(text, others),
            };
            self.values.problem(&name.span(), key, wrong, right);
            return None;
        }
        if !goes && to == Some(from) {
            let wrong = format!("\"{text}\" is the group itself");
            self.values.problem(&name.span(), key, wrong, "another group");
        }
        goes.then_some(Link { from, to: to?, key, span: name.span() })
    }

    /// The link that a rule makes by its fallback. That both are there and not the same is told with the rule.
    fn fallback(&mut self, known: &Known<'_>, rule: &RawRule) -> Option<Link> {
        let place = |word: &Word| known.places.get(word.as_ref()?.get_ref().as_str()).copied();
        let (from, to) = (place(&rule.group)?, place(&rule.fallback)?);
        let mode = |place: usize| known.modes.get(place).copied().flatten();
        let (key, span) = ("tenant.rule.fallback", rule.fallback.as_ref()?.span());
        match (mode(from)?, mode(to)?) {
            (Mode::Assigned, Mode::Assigned) => (from != to).then_some(Link { from, to, key, span }),
            (Mode::Shared, Mode::Shared) => None,
            (group, fallback) => {
                let name = |place: usize| known.names.get(place).copied().unwrap_or_default();
                let wrong = format!("\"{}\" is in {} mode", name(to), fallback.name());
                let right = format!("a group in {} mode, like \"{}\"", group.name(), name(from));
                self.values.problem(&span, key, wrong, right);
                None
            }
        }
    }

    /// Tells circles: without the links that are told there is none.
    fn circles(&mut self, known: &Known<'_>, links: &[Link]) {
        let mut leaving: Vec<Vec<&Link>> = known.names.iter().map(|_| Vec::new()).collect();
        for link in links {
            if let Some(leaving) = leaving.get_mut(link.from) {
                leaving.push(link);
            }
        }
        let mut walk = Walk { leaving, way: Vec::new(), done: HashSet::new(), closing: Vec::new() };
        (0..known.names.len()).for_each(|group| walk.visit(group));
        for (circle, link) in walk.closing {
            let names: Vec<&str> =
                circle.iter().filter_map(|group| known.names.get(*group)).copied().collect();
            let Some(first) = names.first() else { continue };
            let wrong = format!("leads in a circle: {}", shown(&names));
            let right = format!("a group from which no way leads to \"{first}\"");
            self.values.problem(&link.span, link.key, wrong, right);
        }
    }
}

/// A walk along all links, depth first.
struct Walk<'l> {
    leaving: Vec<Vec<&'l Link>>,
    /// The groups on the way to where it is.
    way: Vec<usize>,
    /// Groups from which everything has been walked.
    done: HashSet<usize>,
    /// Links that lead back to a group on the way, with the groups from there on.
    closing: Vec<(Vec<usize>, &'l Link)>,
}

impl Walk<'_> {
    /// No deeper than there are groups.
    fn visit(&mut self, group: usize) {
        if self.done.contains(&group) {
            return;
        }
        self.way.push(group);
        let links = self.leaving.get_mut(group).map(std::mem::take).unwrap_or_default();
        for link in links {
            match self.way.iter().position(|passed| *passed == link.to) {
                Some(at) => self.closing.push((self.way.iter().skip(at).copied().collect(), link)),
                None => self.visit(link.to),
            }
        }
        self.way.pop();
        self.done.insert(group);
    }
}

/// `care → night → care`.
fn shown(circle: &[&str]) -> String {
    let mut names: Vec<&str> = circle.iter().copied().take(SHOWN).collect();
    if circle.len() > SHOWN {
        names.push("…");
    }
    names.extend(circle.first());
    names.join(" → ")
}

fn mentions(raw: &RawGroup) -> Vec<Mention<'_>> {
    let mut words = Vec::new();
    if let Some(keys) = raw.assigned.as_ref().map(Spanned::get_ref) {
        words.push(("tenant.group.assigned.full_group", &keys.full_group, true));
        words.push(("tenant.group.assigned.closed_group", &keys.closed_group, true));
        words.push(("tenant.group.assigned.expired_group", &keys.expired_group, true));
    }
    for step in raw.step.iter().map(Spanned::get_ref) {
        words.push(("tenant.group.step.add_group", &step.add_group, false));
        words.push(("tenant.group.step.move_to", &step.move_to, true));
    }
    let all = words.into_iter();
    all.filter_map(|(key, word, goes)| Some(Mention { key, name: word.as_ref()?, goes })).collect()
}
