//! Durations: what is read, what is written back, and what is refused with which words.

use pilotguard::api::duration::Duration;
use proptest::prelude::*;

#[test]
fn durations_are_elapsed_time_and_have_one_canonical_text() {
    // Text, seconds, canonical text.
    let cases = [
        ("0s", 0, "0s"),
        ("0h0m", 0, "0s"),
        ("90s", 90, "1m30s"),
        ("1h30m", 5_400, "1h30m"),
        ("30m1h", 5_400, "1h30m"),
        ("1d", 86_400, "1d"),
        ("24h", 86_400, "1d"),
        ("1w", 604_800, "7d"),
        ("2w1d", 1_296_000, "15d"),
        ("3650d", 315_360_000, "3650d"),
        ("1000ms", 1, "1s"),
    ];
    for (text, seconds, canonical) in cases {
        let duration = Duration::parse(text).unwrap();
        assert_eq!(duration.as_signed().as_secs(), seconds, "{text}");
        assert_eq!(duration.to_string(), canonical, "{text}");
        let json = serde_json::to_string(&duration).unwrap();
        assert_eq!(json, format!("\"{canonical}\""));
        assert_eq!(serde_json::from_str::<Duration>(&json).unwrap(), duration);
    }
    assert_eq!(Duration::parse("1500ms").unwrap().to_string(), "1s500ms");
    assert_eq!(Duration::minutes(90).to_string(), "1h30m");
}

#[test]
fn what_is_not_a_duration_is_refused_by_name_and_with_an_example() {
    let malformed = [
        "", " ", "5", "m", "5 m", "-5m", "+5m", "1.5h", "5M", "1mo", "P7D", "PT1H", "5m ", "1h 30m", "５m", "1y", "5mm",
    ];
    for text in malformed {
        let error = Duration::parse(text).unwrap_err();
        assert_eq!(
            error,
            format!(
                "{text:?} is not a duration: write numbers with units, such as \"30m\", \"1h30m\" or \"7d\" (ms, s, m, h, d, w)"
            )
        );
    }
    for text in ["3651d", "522w", "99999999999999999999s", "9223372036854775807w", "3650d1ms"] {
        let error = Duration::parse(text).unwrap_err();
        assert_eq!(error, format!("duration {text:?} is too long: at most ten years (\"3650d\")"));
    }
    let error = serde_json::from_str::<Duration>("5").unwrap_err().to_string();
    assert!(error.contains("expected a duration: write numbers with units"), "{error}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_harm(text in "\\PC{0,40}|([0-9]{0,20}(ms|s|m|h|d|w|x)){0,4}") {
        if let Ok(duration) = Duration::parse(&text) {
            prop_assert!(duration <= Duration::MAX);
            prop_assert_eq!(Duration::parse(&duration.to_string()), Ok(duration));
        }
    }
}
