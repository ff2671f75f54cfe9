//! Durations on the command line: `90s`, `5m`, `1h30m`.

use std::time::Duration;

/// Parses one, for clap.
///
/// # Errors
/// A sentence that shows the form.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let bad = || DurationError(text.to_owned());
    let parsed: jiff::SignedDuration = text.parse().map_err(|_ignored| bad())?;
    Duration::try_from(parsed).map_err(|_negative| bad())
}

/// Not a duration.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a duration like 90s, 5m or 1h30m")]
pub struct DurationError(String);

/// A duration for people: `0.4s`, `12s`, `3m05s`, `2h10m`, `3d04h`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 if seconds % 3600 < 60 => format!("{}h", seconds / 3600),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// Writes an age, known to the second.
pub fn age(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { human(Duration::from_secs(seconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        for bad in ["90", "-5m", "soon", ""] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_are_written_short() {
        let written =
            [0.42, 9.96, 59.0, 60.0, 185.0, 7200.0, 7800.0, 273_600.0].map(|s| human(Duration::from_secs_f64(s)));
        assert_eq!(written, ["0.4s", "10.0s", "59s", "1m", "3m05s", "2h", "2h10m", "3d04h"]);
        // What is known to the second has no tenths.
        assert_eq!([0, 9, 59, 60, 185].map(age), ["0s", "9s", "59s", "1m", "3m05s"]);
    }
}
