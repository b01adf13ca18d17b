//! A group's settings in `assigned` mode: from raw values to what the desk wants. What they say of other groups is
//! looked at by [`super::links`].

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::Resolve;
use super::raw::{RawAssigned, RawGroup, RawOrder, RawStep, RawWeights};
use crate::config::raw::{Count, Measured, Word};
use crate::config::units::show_duration;
use crate::config::values::switch;
use crate::desk::{Assigned, Change, Day, Order, Step, Turned, Weights, check_id};

/// Each is looked at for each conversation that waits.
const MAX_STEPS: usize = 16;
pub(super) const MAX_TEXT_BYTES: usize = 4096;
/// The weight of a model's score if there is a model.
const MODEL_WEIGHT: u32 = 100;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
const MONTH: Duration = Duration::from_hours(30 * 24);
const TEN_YEARS: Duration = Duration::from_hours(3650 * 24);

/// The value of a key as its table and the defaults have it.
macro_rules! read {
    ($of:ident.$kind:ident $table:literal $raw:ident.$key:ident as $field:ident of $default:ident in $allowed:expr) => {
        $of.values.$kind(
            concat!("tenant.group.", $table, ".", stringify!($key)),
            &$raw.$key,
            $default.$field,
            $allowed,
        )
    };
}

impl Resolve<'_> {
    /// What the tables of a group say, whatever its mode is; `holidays` are those of the tenant.
    pub(super) fn assigned(&mut self, raw: &RawGroup, holidays: &BTreeSet<Day>) -> Assigned {
        let nothing = RawAssigned::default();
        let keys = raw.assigned.as_ref().map_or(&nothing, Spanned::get_ref);
        let (model_source, scorer) = raw.model.as_ref().map_or((None, None), |model| self.model(model));
        Assigned {
            order: raw.order.as_ref().map_or_else(Order::default, |order| self.order(order.get_ref())),
            weights: self.weights(raw),
            full: self.turned(["full_group", "full_text"], &keys.full_group, &keys.full_text),
            expired: self.turned(["expired_group", "expired_text"], &keys.expired_group, &keys.expired_text),
            closed: self.turned(["closed_group", "closed_text"], &keys.closed_group, &keys.closed_text),
            steps: self.steps(&raw.step),
            hours: raw.hours.as_ref().map(|hours| Arc::new(self.hours(hours, holidays))),
            scorer,
            model_source,
            ..self.offers(keys)
        }
    }

    /// Offers and patience: the keys that are single values.
    fn offers(&mut self, raw: &RawAssigned) -> Assigned {
        let default = Assigned::default();
        let day = Duration::ZERO..=DAY;
        Assigned {
            offer_ms: read!(self.millis "assigned" raw.offer as offer_ms of default in SECOND..=60 * 60 * SECOND),
            auto_accept: switch(&raw.auto_accept, default.auto_accept),
            lapses: read!(self.count "assigned" raw.lapses as lapses of default in 1..=100),
            reject_ms: read!(self.millis "assigned" raw.reject as reject_ms of default in day.clone()),
            grace_ms: read!(self.millis "assigned" raw.grace as grace_ms of default in day.clone()),
            wrapup_ms: read!(self.millis "assigned" raw.wrapup as wrapup_ms of default in day.clone()),
            sticky_ms: read!(self.millis "assigned" raw.sticky as sticky_ms of default in day),
            affinity_ttl_ms: read!(
                self.millis "assigned" raw.affinity as affinity_ttl_ms of default in Duration::ZERO..=TEN_YEARS
            ),
            max_queue: read!(self.count "assigned" raw.max_queue as max_queue of default in 1..=10_000_000),
            max_wait_ms: read!(
                self.millis "assigned" raw.max_wait as max_wait_ms of default in Duration::ZERO..=MONTH
            ),
            ..default
        }
    }

    fn order(&mut self, raw: &RawOrder) -> Order {
        let default = Order::default();
        Order {
            priority_weight: read!(
                self.count "order" raw.priority_weight as priority_weight of default in 0..=10_000
            ),
            ageing: read!(self.count "order" raw.ageing as ageing of default in 1..=1000),
            urgency: read!(self.count "order" raw.urgency as urgency of default in 0..=1000),
            target_ms: read!(self.millis "order" raw.target as target_ms of default in Duration::ZERO..=MONTH),
        }
    }

    fn weights(&mut self, group: &RawGroup) -> Weights {
        let mut default = Weights::default();
        if group.model.is_some() {
            default.model = MODEL_WEIGHT;
        }
        let nothing = RawWeights::default();
        let raw = group.weights.as_ref().map_or(&nothing, Spanned::get_ref);
        Weights {
            skill: read!(self.count "weights" raw.skill as skill of default in 0..=1000),
            spare: read!(self.count "weights" raw.spare as spare of default in 0..=1000),
            idle: read!(self.count "weights" raw.idle as idle of default in 0..=1000),
            affinity: read!(self.count "weights" raw.affinity as affinity of default in 0..=1000),
            language: read!(self.count "weights" raw.language as language of default in 0..=1000),
            model: read!(self.count "weights" raw.model as model of default in 0..=1000),
            idle_full_ms: read!(
                self.millis "weights" raw.idle_full as idle_full_ms of default in SECOND..=DAY
            ),
        }
    }

    /// What becomes of a conversation: it goes to a group, or its customer is told a text.
    fn turned(&mut self, [to, told]: [&str; 2], group: &Word, text: &Word) -> Turned {
        if let (Some(_), Some(text)) = (group, text) {
            let wrong = format!("not beside {to}");
            self.values.problem(&text.span(), &format!("tenant.group.assigned.{told}"), wrong, "one of them");
        }
        if let Some(text) = text {
            self.length(&format!("tenant.group.assigned.{told}"), text, MAX_TEXT_BYTES);
        }
        match (group, text) {
            (Some(group), _) => Turned::To(shared(group)),
            (None, Some(text)) => Turned::Told(shared(text)),
            (None, None) => Turned::Refused,
        }
    }

    pub(super) fn length(&mut self, key: &str, text: &Spanned<String>, most_bytes: usize) {
        let bytes = text.get_ref().len();
        if !(1..=most_bytes).contains(&bytes) {
            self.values.problem(&text.span(), key, format!("{bytes} bytes"), format!("1 to {most_bytes}"));
        }
    }

    fn steps(&mut self, raw: &[Spanned<RawStep>]) -> Vec<Step> {
        let taken = self.values.at_most("tenant.group.step", raw, MAX_STEPS, "steps in a group");
        let mut before = 0;
        taken.iter().filter_map(|step| self.step(step, &mut before)).collect()
    }

    /// `before` is when the step before it comes.
    fn step(&mut self, raw: &Spanned<RawStep>, before: &mut u64) -> Option<Step> {
        let (table, raw) = (raw.span(), raw.get_ref());
        let after_ms = self.after(&table, &raw.after, before);
        let change = self.change(&table, raw);
        Some(Step { after_ms: after_ms?, change: change? })
    }

    fn after(&mut self, table: &Range<usize>, raw: &Measured, before: &mut u64) -> Option<u64> {
        let key = "tenant.group.step.after";
        let Some(written) = raw else {
            self.missing(table, key, "e.g. \"60s\"");
            return None;
        };
        let after_ms = self.values.millis(key, raw, *before, Duration::ZERO..=MONTH);
        if after_ms < *before {
            let [this, last] = [after_ms, *before].map(|ms| show_duration(Duration::from_millis(ms)));
            let wrong = format!("{this} is before the step above");
            self.values.problem(&written.span(), key, wrong, format!("{last} or later"));
        }
        *before = after_ms.max(*before);
        Some(after_ms)
    }

    /// The one thing that a step does.
    fn change(&mut self, table: &Range<usize>, raw: &RawStep) -> Option<Change> {
        let named =
            [("drop_skill", &raw.drop_skill), ("add_group", &raw.add_group), ("move_to", &raw.move_to)];
        let mut there: Vec<(&str, Range<usize>)> =
            named.iter().filter_map(|(key, word)| Some((*key, word.as_ref()?.span()))).collect();
        there.extend(raw.raise_priority.as_ref().map(|raise| ("raise_priority", raise.span())));
        there.sort_by_key(|(_, span)| span.start);
        if let [(first, _), others @ ..] = there.as_slice() {
            for (key, span) in others {
                let wrong = format!("not beside {first}");
                self.values.problem(
                    span,
                    &format!("tenant.group.step.{key}"),
                    wrong,
                    "one of them in a step",
                );
            }
        } else {
            self.idle_step(table);
        }
        self.dropped(raw.drop_skill.as_ref())
            .or(raw.add_group.as_ref().map(|group| Change::AddGroup(shared(group))))
            .or(raw.move_to.as_ref().map(|group| Change::MoveTo(shared(group))))
            .or(self.raise(&raw.raise_priority))
    }

    fn idle_step(&mut self, table: &Range<usize>) {
        let keys = ["drop_skill", "add_group", "raise_priority", "move_to"];
        if keys.iter().all(|key| !self.is_unread(table, &format!("tenant.group.step.{key}"))) {
            let right = format!("one of {}", keys.join(", "));
            self.values.problem(table, "tenant.group.step", "does nothing", right);
        }
    }

    fn dropped(&mut self, skill: Option<&Spanned<String>>) -> Option<Change> {
        let skill = skill?;
        if let Err(wrong) = check_id(skill.get_ref()) {
            let wrong = format!("{:?} is no skill: {wrong}", skill.get_ref());
            self.values.problem(&skill.span(), "tenant.group.step.drop_skill", wrong, "e.g. \"french\"");
        }
        Some(Change::DropSkill(shared(skill)))
    }

    fn raise(&mut self, raw: &Count) -> Option<Change> {
        let allowed: RangeInclusive<u16> = 1..=1000;
        let raise = self.values.count("tenant.group.step.raise_priority", raw, 1, allowed);
        raw.as_ref().map(|_| Change::Raise(raise))
    }
}

fn shared(word: &Spanned<String>) -> Arc<str> {
    Arc::from(word.get_ref().as_str())
}
