//! When a group is open: by weekday, but for holidays and special days. Pure: the time zone and the moment are
//! arguments.
//!
//! Hours are what the clock on the wall shows in the tenant's time zone. Where daylight saving makes it jump over an
//! hour, a group that would open within that hour opens at its end and one that would close then closes at its start;
//! of an hour that comes twice, what is open is so twice.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// Minutes from one midnight to the next.
pub const DAY_MIN: u16 = 24 * 60;

/// How far ahead a change is looked for: a day more than any year has, so that a yearly one is found, and some.
const HORIZON_MS: i64 = 400 * 86_400_000;

/// Span hours, to be asked with the time zone of their tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hours {
    /// From Monday to Sunday; a day without openings is closed.
    pub week: [Vec<Span>; 7],
    /// Days that are closed whatever their weekday.
    pub closed_on: BTreeSet<Day>,
    /// Days with openings of their own, whatever their weekday and [`Hours::closed_on`] say. A single date goes before
    /// a day of every year.
    pub open_on: BTreeMap<Day, Vec<Span>>,
}

/// A time of a day at which a group is open, in minutes after midnight as the clock on the wall shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first minute, less than [`DAY_MIN`].
    pub from_min: u16,
    /// The minute at which it is closed again, more than `from_min`; beyond [`DAY_MIN`] it is one of the next day, at most
    /// `from_min` there.
    pub to_min: u16,
}

/// A day in the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Day {
    /// Of one year.
    Once(Date),
    /// Of every year that has it.
    Yearly {
        /// From 1.
        month: i8,
        /// From 1.
        day: i8,
    },
}

impl Day {
    fn yearly(date: Date) -> Self {
        Self::Yearly { month: date.month(), day: date.day() }
    }
}

impl Hours {
    /// Whether it is open at a moment in milliseconds since the epoch. At the minute of closing it is closed.
    pub fn is_open(&self, zone: &TimeZone, unix_ms: i64) -> bool {
        Timestamp::from_millisecond(unix_ms).is_ok_and(|now| self.open_at(zone, now))
    }

    /// The first moment after this one at which it opens or closes, both in milliseconds since the epoch; `None` if it
    /// does neither within 400 days.
    pub fn next_change(&self, zone: &TimeZone, unix_ms: i64) -> Option<i64> {
        let now = Timestamp::from_millisecond(unix_ms).ok()?;
        let end = Timestamp::from_millisecond(unix_ms.saturating_add(HORIZON_MS)).unwrap_or(Timestamp::MAX);
        let open = self.open_at(zone, now);
        let mut from = now;
        let mut transitions = zone.following(now);
        loop {
            let next = transitions.next().map(|transition| transition.timestamp()).filter(|at| *at < end);
            if let Some(change) = self.change_between(zone, from, next.unwrap_or(end), open) {
                return Some(change.as_millisecond());
            }
            from = next?;
            if self.open_at(zone, from) != open {
                return Some(from.as_millisecond());
            }
        }
    }

    fn open_at(&self, zone: &TimeZone, now: Timestamp) -> bool {
        let local = zone.to_datetime(now);
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        covers(&self.spans(zone, local.date()), minute)
    }

    /// The first moment between two at which it is not `open`; the clock on the wall does not jump between them.
    fn change_between(
        &self,
        zone: &TimeZone,
        from: Timestamp,
        until: Timestamp,
        open: bool,
    ) -> Option<Timestamp> {
        let offset = zone.to_offset(from);
        let last = offset.to_datetime(until).date();
        let mut date = offset.to_datetime(from).date();
        while date <= last {
            let spans = self.spans(zone, date);
            let changes = edges(&spans).into_iter().filter(|minute| covers(&spans, *minute) != open);
            let mut moments = changes.filter_map(|minute| moment(date, minute, offset));
            if let Some(change) = moments.find(|at| *at > from) {
                return (change < until).then_some(change);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The minutes of a day, from and to, at which it is open, those left of the day before among them.
    fn spans(&self, zone: &TimeZone, date: Date) -> Vec<(u16, u16)> {
        let before = day_before(zone, date).map(|before| self.openings(before)).unwrap_or_default();
        let left = before.iter().filter(|opening| opening.to_min > DAY_MIN);
        let left = left.map(|opening| (0, opening.to_min.saturating_sub(DAY_MIN)));
        let own = self.openings(date).iter();
        left.chain(own.map(|opening| (opening.from_min, opening.to_min.min(DAY_MIN)))).collect()
    }

    /// The openings that begin on a day.
    fn openings(&self, date: Date) -> &[Span] {
        let days = [Day::Once(date), Day::yearly(date)];
        if let Some(special) = days.iter().find_map(|day| self.open_on.get(day)) {
            return special;
        }
        if days.iter().any(|day| self.closed_on.contains(day)) {
            return &[];
        }
        let weekday = usize::from(date.weekday().to_monday_zero_offset().unsigned_abs());
        self.week.get(weekday).map(Vec::as_slice).unwrap_or_default()
    }
}

fn covers(spans: &[(u16, u16)], minute: u16) -> bool {
    spans.iter().any(|(from, to)| (*from..*to).contains(&minute))
}

/// The minutes of a day at which something can change, in order; that at which the day begins is one.
fn edges(spans: &[(u16, u16)]) -> Vec<u16> {
    let mut edges: Vec<u16> = spans.iter().flat_map(|(from, to)| [*from, *to]).chain([0]).collect();
    edges.retain(|minute| *minute < DAY_MIN);
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// When the clock on the wall, so far from UTC, shows this minute of a day.
fn moment(date: Date, minute: u16, offset: Offset) -> Option<Timestamp> {
    let hour = i8::try_from(minute / 60).ok()?;
    let time = Time::new(hour, i8::try_from(minute % 60).ok()?, 0, 0).ok()?;
    offset.to_timestamp(date.to_datetime(time)).ok()
}

/// The day before this one. Islands that went over the date line left one out: nobody opened on it.
fn day_before(zone: &TimeZone, date: Date) -> Option<Date> {
    let before = date.yesterday().ok()?;
    match zone.to_ambiguous_timestamp(before.at(12, 0, 0, 0)).offset() {
        AmbiguousOffset::Gap { before: old, after: new } if new.seconds() - old.seconds() >= 86_400 => {
            before.yesterday().ok()
        }
        _ => Some(before),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use jiff::civil::DateTime;
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    /// `"2026-03-29T01:00:00Z"` as milliseconds.
    fn ms(utc: &str) -> i64 {
        utc.parse::<Timestamp>().unwrap().as_millisecond()
    }

    /// When the clock on the wall shows this; it must do so once.
    fn local(zone: &TimeZone, text: &str) -> i64 {
        let at: DateTime = text.parse().unwrap();
        zone.to_ambiguous_timestamp(at).unambiguous().unwrap().as_millisecond()
    }

    fn opening(from: &str, to: &str) -> Span {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':').unwrap();
            hour.parse::<u16>().unwrap() * 60 + minute.parse::<u16>().unwrap()
        };
        let (from_min, to_min) = (minute(from), minute(to));
        Span { from_min, to_min: if to_min > from_min { to_min } else { to_min + DAY_MIN } }
    }

    fn openings(text: &str) -> Vec<Span> {
        text.split(", ").filter_map(|one| one.split_once('-')).map(|(from, to)| opening(from, to)).collect()
    }

    /// The same hours every day.
    fn daily(text: &str) -> Hours {
        Hours { week: std::array::from_fn(|_| openings(text)), ..Hours::default() }
    }

    /// All changes after `from` up to and with `to`, as UTC without seconds.
    fn changes(hours: &Hours, zone: &TimeZone, from: &str, to: &str) -> Vec<String> {
        let (mut at, end) = (ms(from), ms(to));
        let mut found = Vec::new();
        while let Some(next) = hours.next_change(zone, at).filter(|next| *next <= end) {
            let open = if hours.is_open(zone, next) { "opens" } else { "closes" };
            assert_eq!(hours.is_open(zone, next - 1), !hours.is_open(zone, next));
            let utc = Timestamp::from_millisecond(next).unwrap().strftime("%d %H:%M");
            found.push(format!("{utc} {open}"));
            at = next;
        }
        found
    }

    #[test]
    fn a_day_has_its_openings_and_the_minute_of_closing_is_closed() {
        let berlin = zone("Europe/Berlin");
        let mut hours = daily("");
        hours.week[0] = openings("08:00-12:00, 13:00-18:00");
        // Monday 15 June 2026.
        for (at, open) in [
            ("2026-06-15T07:59:59.999", false),
            ("2026-06-15T08:00", true),
            ("2026-06-15T11:59:59.999", true),
            ("2026-06-15T12:00", false),
            ("2026-06-15T12:59", false),
            ("2026-06-15T13:00", true),
            ("2026-06-15T18:00", false),
            ("2026-06-16T09:00", false),
            ("2026-06-14T09:00", false),
        ] {
            assert_eq!(hours.is_open(&berlin, local(&berlin, at)), open, "{at}");
        }
        let next = |at: &str| hours.next_change(&berlin, local(&berlin, at)).unwrap();
        assert_eq!(next("2026-06-15T08:00"), local(&berlin, "2026-06-15T12:00"), "not the opening itself");
        assert_eq!(next("2026-06-15T07:59:59.999"), local(&berlin, "2026-06-15T08:00"));
        assert_eq!(next("2026-06-15T18:00"), local(&berlin, "2026-06-22T08:00"));
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        let kolkata = zone("Asia/Kolkata");
        let mut hours = daily("");
        hours.week[4] = openings("22:00-06:00");
        // Friday 12 June 2026.
        assert!(!hours.is_open(&kolkata, local(&kolkata, "2026-06-12T05:00")), "Thursday has no night");
        assert!(hours.is_open(&kolkata, local(&kolkata, "2026-06-13T05:59")));
        assert!(!hours.is_open(&kolkata, local(&kolkata, "2026-06-13T06:00")));
        let told = changes(&hours, &kolkata, "2026-06-08T00:00:00Z", "2026-06-15T00:00:00Z");
        assert_eq!(told, ["12 16:30 opens", "13 00:30 closes"]);
        // A holiday on Saturday leaves the night that began on Friday, one on Friday takes it away.
        hours.closed_on = BTreeSet::from([Day::Yearly { month: 6, day: 13 }]);
        assert!(hours.is_open(&kolkata, local(&kolkata, "2026-06-13T05:59")));
        hours.closed_on = BTreeSet::from([Day::Once("2026-06-12".parse().unwrap())]);
        assert!(!hours.is_open(&kolkata, local(&kolkata, "2026-06-13T05:59")));
    }

    #[test]
    fn special_days_go_before_holidays_and_those_before_the_week() {
        let berlin = zone("Europe/Berlin");
        let mut hours = daily("09:00-17:00");
        let once = |text: &str| Day::Once(text.parse().unwrap());
        let yearly = |month, day| Day::Yearly { month, day };
        hours.closed_on = BTreeSet::from([yearly(12, 25), once("2026-12-27"), yearly(2, 29)]);
        hours.open_on = BTreeMap::from([
            (once("2026-12-27"), openings("10:00-14:00")),
            (yearly(12, 24), openings("09:00-12:00")),
            (once("2027-12-24"), openings("09:00-13:00")),
        ]);
        let open = |at: &str| hours.is_open(&berlin, local(&berlin, at));
        assert!(open("2026-12-24T11:59") && !open("2026-12-24T12:00"));
        assert!(open("2027-12-24T12:59"), "one date goes before every year");
        assert!(!open("2026-12-25T10:00") && !open("2031-12-25T10:00"));
        assert!(open("2026-12-26T10:00"));
        assert!(!open("2026-12-27T09:59") && open("2026-12-27T10:00") && !open("2026-12-27T14:00"));
        assert!(open("2027-12-27T09:00"), "another year");
        assert!(!open("2028-02-29T10:00") && open("2027-03-01T10:00"));
    }

    #[test]
    fn a_whole_day_has_no_midnight_in_it() {
        let berlin = zone("Europe/Berlin");
        let mut hours = daily("00:00-24:00");
        assert_eq!(hours.next_change(&berlin, ms("2026-01-01T00:00:00Z")), None);
        assert_eq!(daily("").next_change(&berlin, ms("2026-01-01T00:00:00Z")), None);
        hours.closed_on = BTreeSet::from([Day::Yearly { month: 1, day: 1 }]);
        let told = changes(&hours, &berlin, "2026-01-01T12:00:00Z", "2027-01-02T00:00:00Z");
        assert_eq!(told, ["01 23:00 opens", "31 23:00 closes", "01 23:00 opens"]);
        // Farther away than anybody looks.
        hours.closed_on = BTreeSet::from([Day::Once("2028-01-01".parse().unwrap())]);
        assert_eq!(hours.next_change(&berlin, ms("2026-01-02T00:00:00Z")), None);
    }

    #[test]
    fn berlin_goes_over_an_hour_in_march() {
        let berlin = zone("Europe/Berlin");
        let on = |text: &str| changes(&daily(text), &berlin, "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z");
        // 02:00 CET is 03:00 CEST, 01:00 UTC.
        assert_eq!(on("01:00-04:00"), ["29 00:00 opens", "29 02:00 closes"], "two hours");
        assert_eq!(on("01:00-02:30"), ["29 00:00 opens", "29 01:00 closes"]);
        assert_eq!(on("02:30-05:00"), ["29 01:00 opens", "29 03:00 closes"]);
        assert_eq!(on("02:00-03:00"), [] as [&str; 0], "an hour that was not");
        assert_eq!(on("08:00-18:00"), ["29 06:00 opens", "29 16:00 closes"]);
        assert_eq!(on("22:00-06:00"), ["29 04:00 closes", "29 20:00 opens"]);
    }

    #[test]
    fn berlin_has_an_hour_twice_in_october() {
        let berlin = zone("Europe/Berlin");
        let on = |text: &str| changes(&daily(text), &berlin, "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z");
        // 03:00 CEST is 02:00 CET, 01:00 UTC.
        assert_eq!(on("01:00-04:00"), ["24 23:00 opens", "25 03:00 closes"], "four hours");
        assert_eq!(
            on("01:00-02:30"),
            ["24 23:00 opens", "25 00:30 closes", "25 01:00 opens", "25 01:30 closes"]
        );
        assert_eq!(on("02:00-03:00"), ["25 00:00 opens", "25 02:00 closes"]);
        assert_eq!(
            on("02:30-05:00"),
            ["25 00:30 opens", "25 01:00 closes", "25 01:30 opens", "25 04:00 closes"]
        );
        assert_eq!(on("08:00-18:00"), ["25 07:00 opens", "25 17:00 closes"]);
    }

    #[test]
    fn new_york_changes_on_other_days() {
        let york = zone("America/New_York");
        let hours = daily("09:00-17:00");
        let told = changes(&hours, &york, "2026-03-07T12:00:00Z", "2026-03-09T00:00:00Z");
        assert_eq!(told, ["07 14:00 opens", "07 22:00 closes", "08 13:00 opens", "08 21:00 closes"]);
        let told = changes(&hours, &york, "2026-10-31T12:00:00Z", "2026-11-02T00:00:00Z");
        assert_eq!(told, ["31 13:00 opens", "31 21:00 closes", "01 14:00 opens", "01 22:00 closes"]);
    }

    /// Samoa went from Thursday 29 to Saturday 31 December 2011.
    #[test]
    fn apia_left_out_a_friday() {
        let apia = zone("Pacific/Apia");
        let mut hours = daily("");
        hours.week[3] = openings("22:00-06:00");
        hours.week[4] = openings("08:00-09:00, 20:00-05:00");
        let told = changes(&hours, &apia, "2011-12-29T12:00:00Z", "2012-01-05T00:00:00Z");
        // Midnight was at 10:00 UTC: Thursday's night goes on into Saturday, and there was no Friday's.
        assert_eq!(told, ["30 08:00 opens", "30 16:00 closes"]);
        assert!(hours.is_open(&apia, ms("2011-12-30T15:59:59Z")));
        let told = changes(&hours, &apia, "2026-06-17T00:00:00Z", "2026-06-20T00:00:00Z");
        assert_eq!(
            told,
            [
                "18 09:00 opens",
                "18 17:00 closes",
                "18 19:00 opens",
                "18 20:00 closes",
                "19 07:00 opens",
                "19 16:00 closes"
            ]
        );
    }

    #[test]
    fn no_moment_is_too_early_or_too_late() {
        let berlin = zone("Europe/Berlin");
        for hours in [daily("08:00-12:00, 22:00-06:00"), daily("00:00-24:00")] {
            for at in
                [i64::MIN, i64::MAX, Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond(), -1]
            {
                let _ = (hours.is_open(&berlin, at), hours.next_change(&berlin, at));
            }
        }
        assert_eq!(daily("08:00-12:00").next_change(&berlin, i64::MAX), None);
    }

    /// On a grid of 15 minutes, as all of these zones' changes are.
    fn any_opening() -> impl Strategy<Value = Span> {
        (0..96_u16, 1..=96_u16)
            .prop_map(|(from, length)| Span { from_min: from * 15, to_min: (from + length) * 15 })
    }

    fn any_day() -> impl Strategy<Value = Day> {
        prop_oneof![
            (1..=12_i8, 1..=28_i8).prop_map(|(month, day)| Day::Yearly { month, day }),
            (2025..=2028_i16, 1..=12_i8, 1..=28_i8)
                .prop_map(|(year, month, day)| Day::Once(Date::new(year, month, day).unwrap())),
        ]
    }

    fn any_hours() -> impl Strategy<Value = Hours> {
        let openings = || proptest::collection::vec(any_opening(), 0..3);
        (
            proptest::array::uniform7(openings()),
            proptest::collection::btree_set(any_day(), 0..20),
            proptest::collection::btree_map(any_day(), openings(), 0..20),
        )
            .prop_map(|(week, closed_on, open_on)| Hours { week, closed_on, open_on })
    }

    const ZONES: [(&str, &str); 9] = [
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("America/New_York", "2026-11-01T06:00:00Z"),
        ("Asia/Kolkata", "2026-06-01T00:00:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("America/Havana", "2026-11-01T05:00:00Z"),
        ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_next_change_is_where_it_flips(
            hours in any_hours(),
            place in 0..ZONES.len(),
            from in -3 * 24 * HOUR_MS..3 * 24 * HOUR_MS,
        ) {
            let (name, about) = ZONES[place];
            let zone = zone(name);
            let now = ms(about) + from;
            let open = hours.is_open(&zone, now);
            let next = hours.next_change(&zone, now);
            let end = next.unwrap_or(now + HORIZON_MS);
            prop_assert!(end > now && end <= now + HORIZON_MS);
            let grid = HOUR_MS / 4;
            let mut at = now - now.rem_euclid(grid) + grid;
            while at < end {
                prop_assert_eq!(hours.is_open(&zone, at), open, "{} of {:?}", at, next);
                at += grid;
            }
            if let Some(next) = next {
                prop_assert_eq!(hours.is_open(&zone, next - 1), open);
                prop_assert_eq!(hours.is_open(&zone, next), !open);
            }
        }
    }
}
