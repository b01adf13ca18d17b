//! When groups are open: from texts such as `"08:00-12:00, 13:00-18:00"` and `"12-25"` to what the desk wants.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use jiff::civil::Date;
use toml::Spanned;

use super::Resolve;
use super::raw::RawHours;
use crate::desk::{DAY_MIN, Day, Hours, Span};

const MAX_OPENINGS: usize = 16;
const MAX_DAYS: usize = 1000;
/// It has a 29 February.
const LEAP_YEAR: i16 = 2000;

const OPENINGS: &str = "such as \"08:00-12:00, 13:00-18:00\", \"22:00-06:00\" or \"24h\"";
const DAYS: &str = "a day such as \"2026-12-24\", or \"12-25\" for every year";

impl Resolve<'_> {
    /// The hours of a group in a tenant with these holidays.
    pub(super) fn hours(&mut self, raw: &Spanned<RawHours>, holidays: &BTreeSet<Day>) -> Hours {
        let (table, raw) = (raw.span(), raw.get_ref());
        let days = [
            ("monday", &raw.monday),
            ("tuesday", &raw.tuesday),
            ("wednesday", &raw.wednesday),
            ("thursday", &raw.thursday),
            ("friday", &raw.friday),
            ("saturday", &raw.saturday),
            ("sunday", &raw.sunday),
        ];
        let week = days.map(|(day, text)| {
            let key = format!("tenant.group.hours.{day}");
            text.as_ref().map(|text| self.openings(&key, text)).unwrap_or_default()
        });
        if days.iter().all(|(_, text)| text.is_none()) && raw.open_on.is_empty() {
            self.never_open(&table, &days.map(|(day, _)| day));
        }
        let mut closed_on = self.closed_on("tenant.group.hours.closed_on", raw.closed_on.as_ref());
        let open_on = self.open_on(&raw.open_on, &closed_on);
        closed_on.extend(holidays);
        Hours { week, closed_on, open_on }
    }

    fn never_open(&mut self, table: &Range<usize>, days: &[&str]) {
        let unread = |day: &&str| self.is_unread(table, &format!("tenant.group.hours.{day}"));
        if !days.iter().any(unread) && !self.is_unread(table, "tenant.group.hours.open_on") {
            let right = "at least one day, such as monday = \"08:00-18:00\"";
            self.values.problem(table, "tenant.group.hours", "never open", right);
        }
    }

    /// The days of a list of closed ones.
    pub(super) fn closed_on(
        &mut self,
        key: &str,
        raw: Option<&Spanned<Vec<Spanned<String>>>>,
    ) -> BTreeSet<Day> {
        let mut days = BTreeSet::new();
        let Some(raw) = raw else { return days };
        for text in self.values.at_most(key, raw.get_ref(), MAX_DAYS, "days") {
            let Some(day) = self.day(key, text) else { continue };
            if !days.insert(day) {
                let wrong = format!("\"{}\" is there twice", text.get_ref());
                self.values.problem(&text.span(), key, wrong, "once");
            }
        }
        days
    }

    /// Days with openings of their own; `closed_on` are those of the same group.
    fn open_on(
        &mut self,
        raw: &BTreeMap<Spanned<String>, Spanned<String>>,
        closed_on: &BTreeSet<Day>,
    ) -> BTreeMap<Day, Vec<Span>> {
        let key = "tenant.group.hours.open_on";
        let mut days = BTreeMap::new();
        if let Some((first, _)) = raw.iter().nth(MAX_DAYS) {
            let wrong = format!("{} days", raw.len());
            self.values.problem(&first.span(), key, wrong, format!("at most {MAX_DAYS}"));
        }
        for (text, openings) in raw.iter().take(MAX_DAYS) {
            let day = self.day(key, text);
            let openings = self.openings(key, openings);
            if day.is_some_and(|day| closed_on.contains(&day)) {
                let wrong = format!("\"{}\" is in closed_on as well", text.get_ref());
                self.values.problem(&text.span(), key, wrong, "in one of them");
            }
            days.extend(day.map(|day| (day, openings)));
        }
        days
    }

    fn day(&mut self, key: &str, text: &Spanned<String>) -> Option<Day> {
        let day = day(text.get_ref());
        if day.is_none() {
            self.values.problem(&text.span(), key, format!("{:?} is no day", text.get_ref()), DAYS);
        }
        day
    }

    /// The openings of a day, with a problem at each that is none or is at the time of another.
    fn openings(&mut self, key: &str, text: &Spanned<String>) -> Vec<Span> {
        let mut found: Vec<(Span, &str)> = Vec::new();
        let mut at = 0;
        for (count, piece) in text.get_ref().split(',').enumerate() {
            let place = at + piece.len() - piece.trim_start().len();
            at += piece.len() + 1;
            let piece = piece.trim();
            let told = if count == MAX_OPENINGS {
                Err((format!("more than {MAX_OPENINGS} openings"), "fewer"))
            } else {
                opening(piece).and_then(|opening| apart(opening, piece, &found))
            };
            match told {
                Ok(opening) => found.push((opening, piece)),
                Err((wrong, right)) => {
                    let place = self.values.source.within(&text.span(), place);
                    self.values.problem(&(place..place), key, wrong, right);
                }
            }
            if count == MAX_OPENINGS {
                break;
            }
        }
        found.into_iter().map(|(opening, _)| opening).collect()
    }
}

/// What is wrong and what would be right.
type Wrong = (String, &'static str);

/// `"08:00-12:00"`; over midnight if it ends before it begins.
fn opening(text: &str) -> Result<Span, Wrong> {
    if text == "24h" {
        return Ok(Span { from_min: 0, to_min: DAY_MIN });
    }
    let times = text.split_once('-').map(|(from, to)| (minute(from.trim_end()), minute(to.trim_start())));
    let Some((Some(from_min), Some(to_min))) = times else {
        return Err((format!("{text:?} is no time of a day"), OPENINGS));
    };
    if from_min >= DAY_MIN {
        return Err((format!("{text:?} begins when the day is over"), "00:00 of the next day"));
    }
    if from_min == to_min {
        return Err((format!("{text:?} has no length"), "a whole day is \"24h\""));
    }
    Ok(Span { from_min, to_min: if to_min < from_min { to_min + DAY_MIN } else { to_min } })
}

/// The minute of the day of `"08:30"`, up to `"24:00"`.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (number(hour, 1..=2)?, number(minute, 2..=2)?);
    let of_day = hour * 60 + minute;
    (minute < 60 && of_day <= DAY_MIN).then_some(of_day)
}

/// A number of so many digits.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u16> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// The opening, if it is not at the time of another one.
fn apart(opening: Span, text: &str, others: &[(Span, &str)]) -> Result<Span, Wrong> {
    let at_once = |other: &Span| opening.from_min < other.to_min && other.from_min < opening.to_min;
    match others.iter().find(|(other, _)| at_once(other)) {
        Some((_, other)) => Err((format!("{text:?} overlaps {other:?}"), "one after the other")),
        None => Ok(opening),
    }
}

/// `"2026-12-24"` or `"12-25"`.
fn day(text: &str) -> Option<Day> {
    let parts: Vec<&str> = text.split('-').collect();
    let two = |text: &str| number(text, 2..=2).and_then(|number| i8::try_from(number).ok());
    match *parts.as_slice() {
        [year, month, day] => {
            let year = i16::try_from(number(year, 4..=4)?).ok()?;
            Date::new(year, two(month)?, two(day)?).ok().map(Day::Once)
        }
        [month, day] => {
            let (month, day) = (two(month)?, two(day)?);
            Date::new(LEAP_YEAR, month, day).ok().map(|_| Day::Yearly { month, day })
        }
        _ => None,
    }
}
