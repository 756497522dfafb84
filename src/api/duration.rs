//! Durations as they are written in YAML: `30m`, `1h30m`, `7d`.
//!
//! A duration is an amount of elapsed time. It is never a calendar distance: a day is 24 hours and a week is 7 days,
//! also across a change of the clocks; months and years cannot be written.

use std::borrow::Cow;
use std::fmt;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const PATTERN: &str = "^([0-9]+(ms|s|m|h|d|w))+$";
const MAX_LENGTH: usize = 32;
const MAX_DAYS: i64 = 3650;
const ALLOWED: &str = "write numbers with units, such as \"30m\", \"1h30m\" or \"7d\" (ms, s, m, h, d, w)";

/// Milliseconds per unit, the longest first; the canonical text uses all but the week.
const UNITS: [(&str, i64); 6] =
    [("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// An amount of elapsed time between nothing and ten years (3650 days), in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(SignedDuration);

impl Duration {
    /// The longest duration that can be written: 3650 days.
    pub const MAX: Duration = Duration::days(MAX_DAYS);

    /// `secs` seconds, limited to what can be written, like all constructors in code.
    pub const fn from_secs(secs: i64) -> Self {
        let longest = MAX_DAYS * 86_400;
        let secs = if secs < 0 {
            0
        } else if secs > longest {
            longest
        } else {
            secs
        };
        Duration(SignedDuration::from_secs(secs))
    }

    /// `minutes` minutes.
    pub const fn minutes(minutes: i64) -> Self {
        Self::from_secs(minutes.saturating_mul(60))
    }

    /// `hours` hours.
    pub const fn hours(hours: i64) -> Self {
        Self::from_secs(hours.saturating_mul(3600))
    }

    /// `days` days of 24 hours.
    pub const fn days(days: i64) -> Self {
        Self::from_secs(days.saturating_mul(86_400))
    }

    /// Converts an elapsed time that came from a declaration.
    pub const fn from_signed(duration: SignedDuration) -> Self {
        Self(duration)
    }

    /// The same amount as a jiff duration.
    pub const fn as_signed(self) -> SignedDuration {
        self.0
    }

    /// Parses a duration. The error names the text and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let malformed = || format!("{text:?} is not a duration: {ALLOWED}");
        let too_long = || format!("duration {text:?} is too long: at most ten years (\"{MAX_DAYS}d\")");
        if text.is_empty() || text.len() > MAX_LENGTH {
            return Err(malformed());
        }
        let mut rest = text;
        let mut total: i64 = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
            let (unit, tail) = tail.split_at(letters);
            let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
            if number.is_empty() {
                return Err(malformed());
            }
            // Only digits are left, so the one way to fail is a number beyond all limits.
            let number: i64 = number.parse().map_err(|_| too_long())?;
            total = number.checked_mul(*factor).and_then(|part| total.checked_add(part)).ok_or_else(too_long)?;
            rest = tail;
        }
        let duration = Duration(SignedDuration::from_millis(total));
        if duration > Self::MAX { Err(too_long()) } else { Ok(duration) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_millis();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in UNITS.iter().filter(|(unit, _)| *unit != "w") {
            let factor = i128::from(*factor);
            if left >= factor {
                write!(f, "{}{unit}", left / factor)?;
                left %= factor;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a duration: {ALLOWED}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                Duration::parse(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An amount of elapsed time: numbers with the units ms, s, m, h, d (24 hours) and w (7 days), \
                for example \"30m\", \"1h30m\" or \"7d\"; at most 3650d.",
            "pattern": PATTERN,
            "maxLength": MAX_LENGTH,
        })
    }
}
