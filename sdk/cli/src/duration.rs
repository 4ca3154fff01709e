//! Durations as they are written on the command line, and as people are shown them.

use std::time::Duration;

/// Reads `500ms`, `15s`, `2m`, `1h 30m`; `0s` is nothing.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if digits(text) {
        return Err(format!(
            "{text} of what? A unit is missing: write {text}ms, {text}s, {text}m or {text}h"
        ));
    }
    if text.starts_with('-') {
        return Err("no time is negative: write 500ms, 15s, 2m or 1h".into());
    }
    // What the parser says is about its own steps ("expected number at 0"), not about what was meant.
    humantime::parse_duration(text).map_err(|_| "write 500ms, 15s, 2m, 1h or 1h 30m".into())
}

/// A TTL: 1 s to 24 h, as the cluster takes it.
pub(crate) fn ttl(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_secs(1), DAY, "a TTL is 1s to 24h")
}

/// A wait in a queue: to 24 h.
pub(crate) fn wait(text: &str) -> Result<Duration, String> {
    within(text, Duration::ZERO, DAY, "a wait is 0s (only try) to 24h")
}

/// How long nobody is granted what its holder did not give up: to 1 min.
pub(crate) fn lock_delay(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(60);
    within(text, Duration::ZERO, most, "a lock delay is 0s to 1m")
}

/// A time that a call may take: 100 ms to 1 h.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let least = Duration::from_millis(100);
    within(text, least, HOUR, "100ms to 1h is accepted")
}

/// How long nothing may have changed before it is acted upon: to 1 h.
pub(crate) fn settle(text: &str) -> Result<Duration, String> {
    within(text, Duration::ZERO, HOUR, "0s to 1h is accepted")
}

/// How long a token lasts: 1 s to ten years.
pub(crate) fn token(text: &str) -> Result<Duration, String> {
    let most = Duration::from_millis(tenure::api::MAX_TOKEN_MS);
    within(
        text,
        Duration::from_secs(1),
        most,
        "a token lasts 1s to 3650d",
    )
}

const HOUR: Duration = Duration::from_secs(3600);

/// The longest TTL and the longest wait.
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

fn within(text: &str, least: Duration, most: Duration, rule: &str) -> Result<Duration, String> {
    let length = parse(text)?;
    if (least..=most).contains(&length) {
        Ok(length)
    } else {
        Err(format!("{text} is out of range: {rule}"))
    }
}

/// For people: `850ms`, `14.2s`, `3m 20s`, `2h 5m`.
pub(crate) fn shown(length: Duration) -> String {
    let (millis, seconds) = (length.as_millis(), length.as_secs());
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{:.1}s", length.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The same of milliseconds.
pub(crate) fn shown_ms(millis: u64) -> String {
    shown(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        let check = |text: &str, millis: u64| {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        };
        check("500ms", 500);
        check("15s", 15_000);
        check("2m", 120_000);
        check("1h 30m", 5_400_000);
        check("1h30m", 5_400_000);
        check("0s", 0);
    }

    #[test]
    fn what_is_no_duration_is_told_what_would_be_one() {
        let check = |told: Result<Duration, String>, part: &str| {
            let told = told.expect_err("it is refused");
            assert!(told.contains(part), "{told}");
        };
        check(parse("15"), "write 15ms, 15s, 15m or 15h");
        check(parse("15 parsecs"), "write 500ms");
        check(parse(""), "write 500ms");
        check(parse("-1s"), "no time is negative");
        check(ttl("500ms"), "500ms is out of range: a TTL is 1s to 24h");
        check(ttl("25h"), "1s to 24h");
        check(wait("2days"), "0s (only try) to 24h");
        check(timeout("0s"), "100ms to 1h");
        check(
            settle("100000000years"),
            "100000000years is out of range: 0s to 1h is accepted",
        );
        check(lock_delay("61s"), "a lock delay is 0s to 1m");
        check(token("3651d"), "a token lasts 1s to 3650d");
    }

    #[test]
    fn lengths_are_shown_by_their_two_largest_units() {
        let check = |millis: u64, text: &str| assert_eq!(shown_ms(millis), text);
        check(850, "850ms");
        check(14_230, "14.2s");
        check(200_000, "3m 20s");
        check(7_500_000, "2h 5m");
        check(90_000_000, "1d 1h");
    }
}
