//! How a point of a history is named on the command line.

use bytes::Bytes;
use recoverylog::player::Bound;
use recoverylog::{Offset, SeqNo};

const EXPECTED: &str = "expected 2026-11-22T10:00:00Z, @1795341600, mark:NAME, seq:N or offset:N";
const NANOS: i64 = 1_000_000_000;

/// Reads `--at`: what has no prefix is a time.
pub(crate) fn parse(text: &str) -> Result<Bound, String> {
    let number = |digits: &str| (!digits.starts_with('+')).then(|| digits.parse::<u64>().ok()).flatten();
    let bound = match text.split_once(':') {
        Some(("seq", digits)) => {
            let seq_no = number(digits).and_then(|number| i64::try_from(number).ok());
            seq_no.filter(|number| *number > 0).map(|number| Bound::Seq(SeqNo::new(number)))
        }
        Some(("offset", digits)) => number(digits).and_then(Offset::new).map(Bound::Offset),
        Some(("mark", "")) => None,
        Some(("mark", name)) => Some(Bound::Mark(Bytes::copy_from_slice(name.as_bytes()))),
        _ => text.strip_prefix('@').map_or_else(|| rfc3339(text), unix).map(Bound::Time),
    };
    bound.ok_or_else(|| EXPECTED.to_owned())
}

/// Reads seconds since the Unix epoch, perhaps with a fraction.
fn unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').map_or((text, None), |(s, f)| (s, Some(f)));
    let is_number = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = seconds.parse::<i64>().ok().filter(|_| is_number)?;
    seconds.checked_mul(NANOS)?.checked_add(fraction.map_or(Some(0), nanos)?)
}

/// Reads a date and time as RFC 3339 has it: to the second or finer, in UTC or with an offset from it.
fn rfc3339(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let (year, rest_of_date) = date.split_once('-')?;
    let (month, day) = rest_of_date.split_once('-')?;
    let (year, month, day) = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at_checked(zone)?;
    let (time, fraction) = time.split_once('.').map_or((time, None), |(t, f)| (t, Some(f)));
    let (hour, minute_second) = time.split_once(':')?;
    let (minute, second) = minute_second.split_once(':')?;
    let (hour, minute, second) = (digits(hour, 2)?, digits(minute, 2)?, digits(second, 2)?);
    // A leap second is told as the second after it.
    let is_time = hour < 24 && minute < 60 && second <= 60;
    let is_date = (1..=12).contains(&month) && day >= 1 && day <= days_of(year, month);
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - zone_seconds(zone)?;
    let nanos = fraction.map_or(Some(0), nanos)?;
    (is_time && is_date).then(|| seconds.checked_mul(NANOS)?.checked_add(nanos)).flatten()
}

/// Reads `Z` or `+HH:MM`; returns by how much local time is ahead.
fn zone_seconds(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hour, minute) = zone.get(1..)?.split_once(':')?;
    let (hour, minute) = (digits(hour, 2)?, digits(minute, 2)?);
    (hour < 24 && minute < 60).then_some(sign * (hour * 3600 + minute * 60))
}

/// Reads exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Reads what stands behind the point of a second; what is finer than a nanosecond is left out.
fn nanos(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let padded: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    padded.parse().ok()
}

const fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Counts days from the Unix epoch: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (days_from_civil).
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_time_a_mark_an_operation_or_an_offset() {
        let time = |seconds: i64, nanos: i64| Bound::Time(seconds * NANOS + nanos);
        for (text, bound) in [
            ("seq:1", Bound::Seq(SeqNo::new(1))),
            ("offset:0", Bound::Offset(Offset::ZERO)),
            ("mark:before 2:0", Bound::Mark("before 2:0".into())),
            ("mark:seq:4", Bound::Mark("seq:4".into())),
            ("@0", time(0, 0)),
            ("@1795341600.25", time(1_795_341_600, 250_000_000)),
            ("1970-01-01T00:00:00Z", time(0, 0)),
            ("2026-11-22T10:00:00Z", time(1_795_341_600, 0)),
            ("2026-11-22t10:00:00.0000000019z", time(1_795_341_600, 1)),
            ("2026-11-22T11:30:00+01:30", time(1_795_341_600, 0)),
            ("2026-11-22T09:00:00-01:00", time(1_795_341_600, 0)),
            ("2000-02-29T00:00:00Z", time(951_782_400, 0)),
            ("1969-12-31T23:59:59.5Z", time(-1, 500_000_000)),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&bound), "{text}");
        }
    }

    #[test]
    fn what_is_no_point_is_refused() {
        for text in [
            "",
            "now",
            "7",
            "seq:",
            "seq:0",
            "seq:-1",
            "seq:+1",
            "seq:9223372036854775808",
            "offset:-1",
            "offset:18446744073709551615",
            "offset:1x",
            "mark:",
            "@",
            "@-1",
            "@1.",
            "@1.2.3",
            "@9223372036854775807",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "2026-11-22 10:00:00Z",
            "2026-11-22T10:00Z",
            "2026-02-29T10:00:00Z",
            "2026-13-01T10:00:00Z",
            "2026-00-01T10:00:00Z",
            "2026-11-31T10:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:60:00Z",
            "2026-11-22T10:00:00+1:00",
            "2026-11-22T10:00:00+24:00",
            "2026-11-22T10:00:00Zz",
            "9999-11-22T10:00:00Z",
            "0000-01-01T00:00:00Z",
            "\u{0663}026-11-22T10:00:00Z",
        ] {
            assert_eq!(parse(text), Err(EXPECTED.to_owned()), "{text}");
        }
    }
}
