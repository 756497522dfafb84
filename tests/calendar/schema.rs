//! What the API server refuses by the schema of a window alone, with the words it uses.

use pilotguard::api::window::Window;
use serde_json::Value;

fn refusal(yaml: &str) -> Option<String> {
    let value: Value = serde_yaml::from_str(yaml).unwrap();
    let found = kube::core::cel::validate_cel_schema::<Window>(&value, None);
    found.err().map(|errors| errors.to_string())
}

#[test]
fn the_forms_of_the_documentation_are_accepted() {
    let accepted = [
        "{name: weekday-mornings, kind: Allow, timeZone: Europe/Berlin, weekly: {days: [Mon, Tue, Wed, Thu], from: '09:00', to: '16:00'}}",
        "{name: nightly, kind: Allow, timeZone: UTC, cron: {schedule: '0 2 * * *', duration: 2h}}",
        "{name: year-end, kind: Deny, reason: Year-end freeze, timeZone: Europe/Berlin, once: {from: '2026-12-20T00:00:00', to: '2027-01-02T00:00:00'}}",
        "{name: always, kind: Allow, always: true}",
    ];
    for yaml in accepted {
        assert_eq!(refusal(yaml), None, "{yaml}");
        let window: Window = serde_yaml::from_str(yaml).unwrap();
        let written: Value = serde_yaml::from_str(yaml).unwrap();
        let read: Value = serde_json::to_value(&window).unwrap();
        let defaults = serde_json::json!({"timeZone": "UTC"});
        let with_defaults = |value: Value| {
            let mut object = defaults.as_object().unwrap().clone();
            object.extend(value.as_object().unwrap().clone());
            Value::Object(object)
        };
        assert_eq!(with_defaults(read), with_defaults(written), "{yaml}");
    }
}

#[test]
fn what_contradicts_itself_is_refused_with_a_reason() {
    let one = "a window needs exactly one of weekly, cron, once and always";
    let refused = [
        ("{name: w}", one),
        ("{name: w, always: true, cron: {schedule: '0 2 * * *', duration: 2h}}", one),
        ("{name: w, always: false}", "always can only be true"),
        ("{name: w, weekly: {days: [Mon, Mon], from: '09:00', to: '16:00'}}", "each day can be listed once"),
        ("{name: w, cron: {schedule: '0 2 * * *', duration: 0s}}", "a window without length is never active"),
        ("{name: w, cron: {schedule: '0 2 * * *', duration: 0h00m}}", "a window without length is never active"),
        ("{name: w, once: {from: '2026-12-20T00:00:00', to: '2026-12-20T00:00:00'}}", "from must be before to"),
    ];
    for (yaml, reason) in refused {
        let refusal = refusal(yaml).unwrap_or_else(|| panic!("{yaml} was accepted"));
        assert!(refusal.contains(reason), "{yaml}: {refusal}");
    }
}

#[test]
fn every_field_is_documented_and_bounded() {
    let schema = schemars::schema_for!(Window);
    let mut fields = 0;
    visit("window", schema.as_value(), &mut |path, field| {
        fields += 1;
        assert!(field["description"].is_string(), "{path} is not documented");
        let is_text = field["type"] == "string" || field["type"] == serde_json::json!(["string", "null"]);
        if is_text && field.get("enum").is_none() {
            assert!(field["maxLength"].is_u64(), "{path} is not bounded: {field}");
        }
        if field["type"] == "array" {
            assert!(field["maxItems"].is_u64(), "{path} is not bounded");
        }
    });
    assert_eq!(fields, 15);
}

fn visit(path: &str, schema: &Value, check: &mut dyn FnMut(&str, &Value)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        check(&path, field);
        visit(&path, field, check);
        for part in field["anyOf"].as_array().into_iter().flatten() {
            visit(&path, part, check);
        }
    }
}
