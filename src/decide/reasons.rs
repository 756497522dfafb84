//! Reasons that people give for a decision: which of them say nothing.
//!
//! A printed command leaves its reason open; whoever pastes it unread must not leave a record without one.

/// What a person reads whose reason says nothing.
pub const WANTED: &str =
    "write why in your own words, for example \"wrong prices since 13:10; the fix was tried in staging\"";

/// What a printed command leaves open, for the reader to fill in.
pub fn open_reason(what: &str) -> String {
    format!("<{what}>")
}

/// Words that stand for a reason which nobody has written yet.
const PLACEHOLDERS: [&str; 7] = ["todo", "tbd", "tba", "fixme", "n/a", "none", "asdf"];

/// Whether a reason says nothing: it is still what a printed command left open, stands for one that nobody has written yet,
/// or has no word in it.
pub fn says_nothing(reason: &str) -> bool {
    let reason = reason.trim();
    let word = reason.trim_end_matches(['.', ':', '!', '?', '…']).to_ascii_lowercase();
    (reason.starts_with('<') && reason.ends_with('>'))
        || PLACEHOLDERS.contains(&word.as_str())
        || word.chars().all(|c| c == 'x')
        || !reason.chars().any(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_left_open_is_no_reason() {
        for reason in [
            open_reason("why it is safe now").as_str(),
            " <ticket> ",
            "…",
            "...",
            " ",
            "-",
            "TODO",
            "tbd.",
            "xxx",
            "N/A",
        ] {
            assert!(says_nothing(reason), "{reason:?}");
        }
        for reason in ["outage 42", "todo list lost items", "p95 < 200ms, and > 99 % succeed", "42", "停电"] {
            assert!(!says_nothing(reason), "{reason:?}");
        }
    }
}
