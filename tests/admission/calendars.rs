//! ChangeCalendars: the webhook narrows a Pilot by them from memory, and checks them when they are applied.

use jiff::tz::TimeZoneDatabase;
use kube::runtime::watcher::Event;
use pilotguard::admit::wire::Answer;
use pilotguard::observe::cluster::Cluster;
use serde_json::{Value, json};

use crate::fixtures::*;

fn freeze() -> Value {
    json!([{"name": "migration", "kind": "Deny", "reason": "Database migration",
        "once": {"from": "2026-11-18T00:00:00", "to": "2026-11-19T00:00:00"}}])
}

/// What is said to a change inside the Pilot's own window, where these calendars are; `None` where it may happen.
fn said(calendars: &[Value], pilot: &Value) -> Option<String> {
    let cluster = no_records();
    list_calendars(&cluster, calendars);
    match judge_beside(&cluster, &guarded(std::slice::from_ref(pilot)), OPEN, &update("grace", &with_image("web:2"))) {
        Answer::Allowed { .. } => None,
        answer => Some(denial(answer).message),
    }
}

fn labelled(calendar: &str) -> Value {
    with(pilot(), &json!({"metadata": {"labels": {"pilotguard.dev/calendar": calendar}}}))
}

#[test]
fn a_freeze_of_a_calendar_is_refused_with_its_name_reason_and_end() {
    let text = said(&[calendar("platform", &json!({}), &freeze())], &pilot()).unwrap();
    // The pilot's own window opens again on Thursday morning in Berlin; the freeze is over since 01:00.
    for part in [
        "- in a freeze: migration of calendar platform (Database migration)\n",
        "Allowed from Thu 2026-11-19 09:00 Europe/Berlin (08:00 UTC, in 22h)",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn whom_a_calendar_narrows() {
    let select = |selector: Value| [calendar("platform", &selector, &freeze())];
    let expression = |operator: &str, values: Value| {
        let mut written = json!({"key": "stage", "operator": operator});
        if !values.is_null() {
            written["values"] = values;
        }
        json!({"matchExpressions": [written]})
    };
    for (selector, narrows) in [
        (json!({}), true),
        (Value::Null, false),
        (json!({"matchLabels": {"stage": "production"}}), true),
        (json!({"matchLabels": {"stage": "lab"}}), false),
        (json!({"matchLabels": {"stage": "production", "tier": "gold"}}), false),
        (expression("In", json!(["lab", "production"])), true),
        (expression("NotIn", json!(["lab"])), true),
        (expression("NotIn", json!(["production"])), false),
        (expression("Exists", Value::Null), true),
        (expression("DoesNotExist", Value::Null), false),
    ] {
        assert_eq!(said(&select(selector.clone()), &pilot()).is_some(), narrows, "{selector}");
        // The label only ever adds.
        assert!(said(&select(selector.clone()), &labelled("platform")).is_some(), "{selector}, named");
    }
}

#[test]
fn a_calendar_with_allows_is_one_more_that_must_be_open() {
    let allows = |from: &str, to: &str| {
        let window = json!([{"name": "train", "weekly": {"days": ["Wed"], "from": from, "to": to}}]);
        [calendar("platform", &json!({}), &window)]
    };
    assert_eq!(said(&allows("09:30", "10:30"), &pilot()), None);
    let text = said(&allows("12:00", "13:00"), &pilot()).unwrap();
    for part in [
        "- outside the windows of calendar platform; the next is weekday-mornings, train of calendar platform\n",
        "Allowed from Wed 2026-11-18 13:00 Europe/Berlin (12:00 UTC, in 2h)",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn what_cannot_be_known_counts_as_closed_and_says_who_mends_it() {
    let odd = json!([{"name": "w", "timeZone": "Mars/Olympus", "always": true}]);
    let odd_selector = json!({"matchExpressions": [{"key": "stage", "operator": "Like"}]});
    for (calendars, pilot, parts) in [
        (
            vec![calendar("platform", &json!({}), &odd)],
            pilot(),
            [
                "calendar platform counts as closed, because it is invalid: spec.windows[name=w].timeZone",
                "allowed after a platform admin corrects ChangeCalendar platform",
            ],
        ),
        (
            vec![calendar("platform", &odd_selector, &json!([{"name": "w", "always": true}]))],
            pilot(),
            ["spec.namespaceSelector: unknown variant `Like`", "a platform admin corrects ChangeCalendar platform"],
        ),
        (
            vec![calendar("platform", &json!({}), &json!("always"))],
            pilot(),
            ["spec.windows: ", "a platform admin corrects ChangeCalendar platform"],
        ),
        (
            vec![],
            labelled("nowhere"),
            [
                "calendar nowhere counts as closed, because it does not exist, though the Pilot's label pilotguard.dev/calendar names it",
                "a platform admin creates ChangeCalendar nowhere, or the team corrects the label",
            ],
        ),
    ] {
        let text = said(&calendars, &pilot).unwrap();
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
        assert!(!text.contains("Allowed from"), "{text}");
    }
    // One that cannot be read and selects others is none of this Pilot's business.
    let elsewhere = calendar("lab", &json!({"matchLabels": {"stage": "lab"}}), &odd);
    assert_eq!(said(&[elsewhere], &pilot()), None);
}

#[test]
fn before_calendars_and_namespaces_are_listed_a_change_waits() {
    let change = update("grace", &with_image("web:2"));
    let guarded = guarded(&[pilot()]);
    let zones = TimeZoneDatabase::bundled();
    let cluster = Cluster::default();
    assert_eq!(denial(judge_beside(&cluster, &guarded, OPEN, &change)).code, 503);
    for event in [Event::Init, Event::InitDone] {
        cluster.calendars.see_calendar(&event, &zones);
    }
    assert_eq!(denial(judge_beside(&cluster, &guarded, OPEN, &change)).code, 503, "namespaces are missing");
    for event in [Event::Init, Event::InitDone] {
        cluster.calendars.see_namespace(&event);
    }
    assert!(matches!(judge_beside(&cluster, &guarded, OPEN, &change), Answer::Allowed { .. }));

    // A namespace of which nothing has been seen yet may be selected.
    let lab = calendar("lab", &json!({"matchLabels": {"stage": "lab"}}), &freeze());
    cluster.calendars.see_calendar(&Event::Apply(serde_json::from_value(lab).unwrap()), &zones);
    assert_eq!(denial(judge_beside(&cluster, &guarded, OPEN, &change)).code, 403);
}

#[test]
fn calendars_and_labels_that_change_are_followed() {
    let cluster = no_records();
    let (guarded, zones) = (guarded(&[pilot()]), TimeZoneDatabase::bundled());
    let may = || {
        let change = update("grace", &with_image("web:2"));
        matches!(judge_beside(&cluster, &guarded, OPEN, &change), Answer::Allowed { .. })
    };
    let mut lab = calendar("lab", &json!({"matchLabels": {"stage": "lab"}}), &freeze());
    let apply = |lab: &Value| {
        let moved = cluster.calendars.see_calendar(&Event::Apply(serde_json::from_value(lab.clone()).unwrap()), &zones);
        moved.len()
    };
    assert_eq!((apply(&lab), may()), (1, true));
    let relabel = |stage: &str| {
        let shop = json!({"metadata": {"name": "shop", "labels": {"stage": stage}}});
        cluster.calendars.see_namespace(&Event::Apply(serde_json::from_value(shop).unwrap()))
    };
    assert_eq!((relabel("lab"), may()), (vec!["shop".to_owned()], false));
    assert!(relabel("lab").is_empty(), "nothing moved");
    lab["metadata"]["resourceVersion"] = "9".into();
    assert_eq!((apply(&lab), may()), (0, false), "its status was written");
    lab["metadata"]["generation"] = 2.into();
    lab["spec"]["windows"] = json!([{"name": "open", "always": true}]);
    assert_eq!((apply(&lab), may()), (2, true), "as it was and as it is");

    // A Pilot's own label counts although its generation stays the same.
    guarded.see(&Event::Apply(read(&labelled("nowhere"))));
    assert!(!may());
    guarded.see(&Event::Apply(read(&pilot())));
    assert!(may());
}

#[test]
fn a_calendar_is_checked_when_it_is_applied() {
    let create = |calendar: &Value| judge(&guarded(&[]), OPEN, &review("CREATE", "root", &Value::Null, calendar));
    let odd = json!([{"name": "w", "timeZone": "Berlin", "always": true}, {"name": "w", "always": true}]);
    let broken = calendar("platform", &json!({}), &odd);
    let refused = denial(create(&broken));
    assert_eq!((refused.code, refused.reason), (422, "Invalid"));
    let fields: Vec<_> = refused.causes.iter().map(|cause| cause.path.as_str()).collect();
    assert_eq!(fields, ["spec.windows[name=w].timeZone", "spec.windows[1].name"]);
    let annotated = with(broken.clone(), &json!({"metadata": {"annotations": {"a": "b"}}}));
    let same = judge(&guarded(&[]), OPEN, &review("UPDATE", "root", &broken, &annotated));
    assert_eq!(same, Answer::untouched(), "what is stored already can be annotated");

    assert!(warnings(create(&calendar("platform", &json!({}), &freeze()))).is_empty(), "Denies alone are enough");
    let past =
        json!([{"name": "old", "kind": "Deny", "once": {"from": "2026-01-01T00:00:00", "to": "2026-01-02T00:00:00"}}]);
    assert_eq!(
        warnings(create(&calendar("platform", &json!({}), &past))),
        ["spec.windows[name=old] lies in the past and will never be active again"]
    );
}

#[test]
fn a_pilot_that_names_no_calendar_that_exists_is_warned() {
    let cluster = no_records();
    list_calendars(&cluster, &[calendar("platform", &Value::Null, &freeze())]);
    let create = |pilot: &Value| {
        let request = review("CREATE", "grace", &Value::Null, pilot);
        warnings(judge_beside(&cluster, &guarded(&[]), OPEN, &request))
    };
    assert!(create(&labelled("platform")).is_empty());
    let said = create(&labelled("platfrom"));
    assert_eq!(
        said,
        [
            "ChangeCalendar platfrom, which the label pilotguard.dev/calendar names, does not exist, so no window is open; there are platform"
        ]
    );
}
