//! Schedules of CronJobs: five fields or a word, and the next time that fits one.
//!
//! Pure. Called by the kind, which says what is wrong with one, and by its controller. A clock that is put forward skips what would have been
//! in the hour that is missing, and one that is put back has that hour twice.
//!
//! **Source**: `github.com/robfig/cron/v3` (`ParseStandard`, `SpecSchedule.Next`), which Kubernetes 1.37 uses.

use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned, tz::TimeZone};

/// How far ahead a time is looked for: a schedule may be of no day that there is.
const YEARS_MAX: i16 = 5;
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Words, and what they stand for.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// When something is to be done, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At the minutes that fit all fields.
    Fields {
        /// Minutes of the hour.
        minutes: Field,
        /// Hours of the day.
        hours: Field,
        /// Days of the month.
        days: Field,
        /// Months of the year.
        months: Field,
        /// Days of the week, from Sunday.
        weekdays: Field,
    },
    /// So long after the time before.
    Every(SignedDuration),
}

/// The numbers that a field of a schedule picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    bits: u64,
    /// Whether it says that all are as good, so that the other field of days alone decides.
    is_any: bool,
}

impl Field {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|n| self.bits & (1 << n) != 0)
    }

    fn parse(text: &str, (low, high): (u32, u32), names: &[&str]) -> Result<Self, String> {
        let mut field = Self { bits: 0, is_any: false };
        for part in text.split(',') {
            let (span, step) = part.split_once('/').map_or((part, None), |(span, step)| (span, Some(step)));
            let is_all = matches!(span, "*" | "?");
            let (first, last) = span.split_once('-').unwrap_or((span, span));
            let first = if is_all { low } else { number(first, names)? };
            let last = match () {
                () if is_all => high,
                // `5/10` begins at 5 and goes on to the end.
                () if step.is_some() && !span.contains('-') => high,
                () => number(last, names)?,
            };
            let step = match step.map(str::parse::<u32>) {
                None => 1,
                Some(Ok(0)) => return Err(format!("step of range should be a positive number: {part}")),
                Some(Ok(step)) => step,
                Some(Err(_)) => return Err(not_a_number(part.rsplit('/').next().unwrap_or_default())),
            };
            match () {
                () if first < low => return Err(format!("beginning of range ({first}) below minimum ({low}): {part}")),
                () if last > high => return Err(format!("end of range ({last}) above maximum ({high}): {part}")),
                () if first > last => {
                    return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
                }
                () => {}
            }
            field.is_any |= is_all && step == 1;
            field.bits |=
                (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX)).fold(0, |b, n| b | 1 << n);
        }
        Ok(field)
    }
}

fn not_a_number(text: &str) -> String {
    format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
}

/// A number, or the first letters of one of the names; the first name is the lowest number.
fn number(text: &str, names: &[&str]) -> Result<u32, String> {
    let word = text.to_lowercase();
    if let Some(at) = names.iter().position(|name| *name == word) {
        let first = u32::from(names.len() == MONTHS.len());
        return Ok(u32::try_from(at).expect("names are few") + first);
    }
    text.parse().map_err(|_not_a_number| not_a_number(text))
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it, in the words of Kubernetes.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(duration) = text.strip_prefix("@every ") {
            let every = go_duration(duration)
                .ok_or_else(|| format!("failed to parse duration {text}: time: invalid duration {duration:?}"))?;
            return Ok(Self::Every(SignedDuration::from_secs(every.as_secs().max(1))));
        }
        if text.starts_with('@') {
            let word = WORDS.iter().find(|(word, _)| *word == text);
            return word
                .map_or_else(|| Err(format!("unrecognized descriptor: {text}")), |(_, meaning)| Self::parse(meaning));
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        };
        Ok(Self::Fields {
            minutes: Field::parse(minutes, (0, 59), &[])?,
            hours: Field::parse(hours, (0, 23), &[])?,
            days: Field::parse(days, (1, 31), &[])?,
            months: Field::parse(months, (1, 12), &MONTHS)?,
            weekdays: Field::parse(weekdays, (0, 6), &DAYS)?,
        })
    }

    /// The first time after this one; `None`: there is none in the next five years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let after_secs = Timestamp::from_second(after.as_second()).ok()?;
        match self {
            Self::Every(every) => after_secs.checked_add(*every).ok(),
            Self::Fields { .. } => {
                let minute = after_secs.as_second().div_euclid(60) + 1;
                let start = Timestamp::from_second(minute * 60).ok()?.to_zoned(zone.clone());
                self.first_from(start)
            }
        }
    }

    fn first_from(&self, mut at: Zoned) -> Option<Timestamp> {
        let Self::Fields { minutes, hours, months, .. } = self else { return None };
        let year_max = at.year() + YEARS_MAX;
        while at.year() <= year_max {
            at = if !months.has(at.month()) {
                let month = at.date().first_of_month().checked_add(1.month()).ok()?;
                month.to_zoned(at.time_zone().clone()).ok()?
            } else if !self.has_day(&at) {
                at.date().tomorrow().ok()?.to_zoned(at.time_zone().clone()).ok()?
            } else if !hours.has(at.hour()) {
                at.checked_add(SignedDuration::from_mins(60 - i64::from(at.minute()))).ok()?
            } else if !minutes.has(at.minute()) {
                at.checked_add(SignedDuration::from_mins(1)).ok()?
            } else {
                return Some(at.timestamp());
            };
        }
        None
    }

    /// Whether it is a day of both fields, or of one of them if both say something.
    fn has_day(&self, at: &Zoned) -> bool {
        let Self::Fields { days, weekdays, .. } = self else { return false };
        let (of_month, of_week) = (days.has(at.day()), weekdays.has(at.weekday().to_sunday_zero_offset()));
        if days.is_any || weekdays.is_any { of_month && of_week } else { of_month || of_week }
    }
}

/// A duration as Go writes it: `1h30m`, `1.5h`, `90s`.
fn go_duration(text: &str) -> Option<SignedDuration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (mut rest, mut secs) = (text.strip_prefix('+').unwrap_or(text), 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let factor = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        secs += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    SignedDuration::try_from_secs_f64(secs).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zone with the rules of New York, written out so that no file is needed.
    fn new_york() -> TimeZone {
        TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap()
    }

    fn times(schedule: &str, from: &str, zone: &TimeZone, n: usize) -> String {
        let (schedule, mut at) = (Schedule::parse(schedule).unwrap(), from.parse().unwrap());
        let mut told = Vec::new();
        for _ in 0..n {
            let Some(next) = schedule.next(at, zone) else { return "never".to_owned() };
            told.push(next.to_zoned(zone.clone()).strftime("%m-%d %H:%M").to_string());
            at = next;
        }
        told.join(", ")
    }

    #[test]
    fn the_next_times_are_those_that_fit_every_field() {
        let from = "2026-01-31T23:58:30Z";
        for (schedule, expected) in [
            ("* * * * *", "01-31 23:59, 02-01 00:00, 02-01 00:01"),
            ("*/20 * * * *", "02-01 00:00, 02-01 00:20, 02-01 00:40"),
            ("5/20 3 * * *", "02-01 03:05, 02-01 03:25, 02-01 03:45"),
            ("0 9-17/4 * * mon-fri", "02-02 09:00, 02-02 13:00, 02-02 17:00"),
            ("0 0 1,15 * *", "02-01 00:00, 02-15 00:00, 03-01 00:00"),
            // Two fields of days: either will do.
            ("0 0 13 * fri", "02-06 00:00, 02-13 00:00, 02-20 00:00"),
            ("0 0 ? * 3", "02-04 00:00, 02-11 00:00, 02-18 00:00"),
            ("@weekly", "02-01 00:00, 02-08 00:00, 02-15 00:00"),
            ("@every 90m", "02-01 01:28, 02-01 02:58, 02-01 04:28"),
            ("59 23 31 2 *", "never"),
        ] {
            assert_eq!(times(schedule, from, &TimeZone::UTC, 3), expected, "{schedule}");
        }
        assert_eq!(times("30 6 29 FEB *", from, &TimeZone::UTC, 1), "02-29 06:30");
    }

    #[test]
    fn an_hour_that_is_missing_is_skipped_and_one_that_comes_twice_counts_twice() {
        let zone = new_york();
        let spring = "2026-03-07T12:00:00Z";
        assert_eq!(times("30 2 * * *", spring, &zone, 2), "03-09 02:30, 03-10 02:30");
        assert_eq!(times("0 3 * * *", spring, &zone, 2), "03-08 03:00, 03-09 03:00");
        assert_eq!(times("0 * * * *", "2026-03-08T06:30:00Z", &zone, 2), "03-08 03:00, 03-08 04:00");
        let autumn = "2026-11-01T04:30:00Z";
        assert_eq!(times("30 1 * * *", autumn, &zone, 3), "11-01 01:30, 11-01 01:30, 11-02 01:30");
        assert_eq!(times("0 2 * * *", autumn, &zone, 2), "11-01 02:00, 11-02 02:00");
    }

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, secs) in
            [("5m", Some(300)), ("1h30m", Some(5400)), ("1.5h", Some(5400)), ("90s", Some(90)), ("5", None)]
        {
            assert_eq!(go_duration(text).map(|d| d.as_secs()), secs, "{text}");
        }
        assert_eq!(Schedule::parse("@every 10ms").unwrap(), Schedule::Every(SignedDuration::from_secs(1)));
    }
}
