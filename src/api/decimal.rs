//! Decimal numbers as text.
//!
//! Kubernetes objects carry no floats: a figure is written as text such as `"99.5"` and keeps
//! exactly the digits its author wrote. Range rules belong to the field that uses the number.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const PATTERN: &str = r"^-?[0-9]{1,15}(\.[0-9]{1,9})?$";

/// A decimal number that remembers its text, for example `"99.5"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decimal {
    text: String,
    value: f64,
}

impl Decimal {
    /// Rounds a figure to a number of significant digits, so that noise causes no writes. `None` if the value is not
    /// finite or too large to be written.
    pub fn rounded(value: f64, significant_digits: i32) -> Option<Self> {
        if !value.is_finite() || value.abs() >= 1e15 {
            return None;
        }
        if value == 0.0 {
            return "0".parse().ok();
        }
        #[expect(clippy::cast_possible_truncation, reason = "the logarithm of a finite float is a small number")]
        let magnitude = value.abs().log10().floor() as i32;
        let decimals = (significant_digits - 1 - magnitude).clamp(0, 9);
        let scale = 10_f64.powi(significant_digits - 1 - magnitude);
        let rounded = (value * scale).round() / scale;
        let text = format!("{rounded:.*}", usize::try_from(decimals).unwrap_or(0));
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        (if text == "-0" { "0" } else { text }).parse().ok()
    }

    /// The number as a float, always finite.
    pub const fn value(&self) -> f64 {
        self.value
    }
}

impl FromStr for Decimal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is not a decimal number; write digits such as \"99.5\"");
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |part: &str, most: usize| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(whole, 15) || !is_number(fraction, 9) {
            return Err(refused());
        }
        let value = text.parse::<f64>().map_err(|_| refused())?;
        Ok(Self { text: text.to_owned(), value })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": 26 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_to_significant_digits() {
        for (value, digits, text) in [
            (0.0, 2, "0"),
            (13.44, 2, "13"),
            (0.012_34, 2, "0.012"),
            (9.96, 2, "10"),
            (1234.0, 2, "1200"),
            (0.1, 2, "0.1"),
            (-3.71, 2, "-3.7"),
            (1e-12, 2, "0"),
        ] {
            assert_eq!(Decimal::rounded(value, digits).map(|d| d.to_string()).as_deref(), Some(text), "{value}");
        }
        assert_eq!(Decimal::rounded(f64::NAN, 2), None);
        assert_eq!(Decimal::rounded(f64::INFINITY, 2), None);
    }

    #[test]
    fn text_is_kept_as_written() {
        assert_eq!("99.50".parse::<Decimal>().map(|d| d.to_string()), Ok("99.50".to_owned()));
        for refused in ["", "abc", "1e3", "+1", "1.", ".5", "NaN", "1 "] {
            assert!(refused.parse::<Decimal>().is_err(), "{refused:?}");
        }
    }
}
