//! Times as people and programs read them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds with microseconds behind the point.
pub fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Milliseconds from `start` to `end`, 0 if it lies before.
pub fn ms_between(start: Instant, end: Instant) -> f64 {
    ms(end.saturating_duration_since(start))
}

/// Seconds with microseconds behind the point.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

/// As people say it, in the two largest units that matter: `0.4 ms`, `251 ms`, `12.3 s`, `3 min 05 s`, `2 h 03 min`.
pub fn spoken(duration: Duration) -> String {
    let (ms, seconds) = (duration.as_secs_f64() * 1e3, duration.as_secs());
    match seconds {
        0 if ms < 9.95 => format!("{ms:.1} ms"),
        0 if ms < 999.5 => format!("{ms:.0} ms"),
        0..60 => format!("{:.1} s", duration.as_secs_f64().min(59.9)),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Now in UTC, as RFC 3339 writes it, to the millisecond.
pub fn timestamp() -> String {
    rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// This long after 1970 in UTC, as RFC 3339 writes it.
pub fn rfc3339(since_epoch: Duration) -> String {
    let (days, second) = (since_epoch.as_secs() / 86_400, since_epoch.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since_epoch.subsec_millis())
}

/// The Gregorian date `days` after 1970-01-01.
fn date(mut days: u64) -> (u64, usize, u64) {
    let mut year = 1970;
    loop {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = if leap { 366 } else { 365 };
        if days >= length {
            days -= length;
            year += 1;
            continue;
        }
        let february = if leap { 29 } else { 28 };
        let mut month = 1;
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if days < length {
                break;
            }
            days -= length;
            month += 1;
        }
        return (year, month, days + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spoken_in_the_unit_that_fits() {
        let cases = [
            (0, "0.0 ms"),
            (412, "0.4 ms"),
            (9_960, "10 ms"),
            (41_300, "41 ms"),
            (999_400, "999 ms"),
            (999_700, "1.0 s"),
            (12_345_000, "12.3 s"),
            (59_999_999, "59.9 s"),
            (60_000_000, "1 min 00 s"),
            (185_900_000, "3 min 05 s"),
            (7_380_000_000, "2 h 03 min"),
        ];
        for (micros, text) in cases {
            assert_eq!(spoken(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn dates_around_leap_days() {
        let at = |seconds| rfc3339(Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59.000Z");
        assert_eq!(at(1_763_939_885), "2025-11-23T23:18:05.000Z");
    }
}
