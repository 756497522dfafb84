//! The name of a change: the same wherever it is made up, so that the webhook's stamp and the controller's
//! record mean the same thing.

use jiff::Timestamp;

/// The longest name of a Kubernetes object that is also a label value.
const LONGEST: usize = 63;

/// `<pilot>-<8 digits of the payload digest>-<seconds since 1970 in base 36>`, cut to 63 characters from the
/// pilot's end.
pub fn change_name(pilot: &str, payload: &str, at: Timestamp) -> String {
    let digest = payload.get(..8).unwrap_or(payload);
    let tail = format!("-{digest}-{}", base36(at.as_second().unsigned_abs()));
    let head: String = pilot.chars().take(LONGEST.saturating_sub(tail.len())).collect();
    format!("{}{tail}", head.trim_end_matches(['-', '.']))
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(number % 36).unwrap_or_default();
        digits.push(char::from_digit(digit, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::change_name;
    use jiff::Timestamp;

    #[test]
    fn names_are_short_and_tell_the_release() {
        // 1_700_000_000 in base 36, by an independent calculator: s44we8.
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(change_name("checkout", "0123456789ab", at), "checkout-01234567-s44we8");
        let long = change_name(&"x".repeat(300), "0123456789ab", at);
        assert_eq!(long.len(), 63);
        assert!(long.ends_with("-01234567-s44we8"));
    }
}
