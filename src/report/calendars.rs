//! The conditions of a ChangeCalendar, as its owners and kstatus read them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::{Finding, Reason, Truth, finding, stamped, windows_are_current};
use crate::declaration::change_calendar::SharedCalendar;

/// All conditions of a ChangeCalendar; `before` are those that it has.
pub fn conditions(
    calendar: &SharedCalendar,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    stamped(findings(calendar, now), before, generation, now)
}

fn findings(calendar: &SharedCalendar, now: Timestamp) -> Vec<Finding> {
    let windows = match &calendar.windows {
        Ok(windows) => windows,
        Err(violations) => {
            let message = violations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" · ");
            let closed = "all Pilots that it narrows count as closed until it is corrected";
            return vec![
                finding("Ready", Truth::False, Reason::InvalidCalendar, message.clone()),
                finding("Stalled", Truth::True, Reason::InvalidCalendar, message),
                finding("WindowOpen", Truth::False, Reason::InvalidCalendar, closed),
            ];
        }
    };
    vec![
        finding("Ready", Truth::True, Reason::Narrowing, ""),
        finding("Stalled", Truth::False, Reason::Settled, ""),
        super::conditions::opening(&windows.opening_at(now), || windows.next_open(now)),
        windows_are_current(&windows.past_windows(now)),
    ]
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZoneDatabase;
    use serde_json::{Value, json};

    use super::*;

    fn told(windows: &Value) -> Vec<[String; 4]> {
        let spec = json!({"namespaceSelector": {}, "windows": windows});
        let calendar = SharedCalendar::read("platform", &spec, &TimeZoneDatabase::bundled());
        let now = "2026-11-18T10:00:00Z".parse().unwrap();
        let conditions = conditions(&calendar, &[], Some(3), now);
        assert!(conditions.iter().all(|condition| condition.observed_generation == Some(3)));
        conditions.into_iter().map(|it| [it.type_, it.status, it.reason, it.message]).collect()
    }

    #[test]
    fn a_calendar_says_whether_it_is_open_and_what_is_over() {
        let windows = json!([
            {"name": "train", "weekly": {"days": ["Thu"], "from": "09:00", "to": "10:00"}},
            {"name": "old", "kind": "Deny", "once": {"from": "2026-01-01T00:00:00", "to": "2026-01-02T00:00:00"}},
        ]);
        assert_eq!(
            told(&windows),
            [
                ["Ready", "True", "Narrowing", ""],
                ["Stalled", "False", "Settled", ""],
                [
                    "WindowOpen",
                    "False",
                    "Closed",
                    "outside the change windows; the next window opens at 2026-11-19T09:00:00Z"
                ],
                [
                    "WindowsCurrent",
                    "False",
                    "WindowInThePast",
                    "over and without effect: old; remove them when convenient"
                ],
            ]
        );
    }

    #[test]
    fn a_calendar_that_cannot_be_used_is_stalled_and_closed() {
        let told = told(&json!([{"name": "odd", "timeZone": "Berlin", "always": true}]));
        let problem = "spec.windows[name=odd].timeZone: unknown time zone \"Berlin\"; did you mean Europe/Berlin?";
        let closed = "all Pilots that it narrows count as closed until it is corrected";
        assert_eq!(
            told,
            [
                ["Ready", "False", "InvalidCalendar", problem],
                ["Stalled", "True", "InvalidCalendar", problem],
                ["WindowOpen", "False", "InvalidCalendar", closed],
            ]
        );
    }
}
