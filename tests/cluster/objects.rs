//! Bad input is refused where it is applied, with a message that says what to do: the API server alone, with no
//! operator running.

use anyhow::ensure;

use crate::cluster::{Apply, Cluster};

tests![
    good_input_is_stored,
    bad_slos_are_refused,
    bad_triggers_are_refused,
    bad_windows_are_refused,
    bad_pilots_are_refused,
    bad_sources_are_refused,
    bad_decisions_are_refused,
    a_decision_is_immutable
];

const PILOT: &str = r#"
apiVersion: pilotguard.dev/v1alpha1
kind: Pilot
metadata: {name: web, namespace: NAMESPACE}
spec:
  intent: {summary: A pilot, decisionDate: "2099-01-01T00:00:00Z"}
  owners: {serviceOwner: {name: Ada}}
  workloads: [{name: web}]
  changes: {windows: [{name: always, always: true}]}
  slos:
  - name: availability
    target: "99"
    window: {rolling: 7d}
    indicator: {ratio: {bad: bad_total, total: all_total}}
  triggers:
  - name: burn
    when: {burnRate: {slo: availability, long: 1h, short: 5m, factor: "8.4"}}
    action: Rollback
"#;

const SOURCE: &str = r#"
apiVersion: pilotguard.dev/v1alpha1
kind: MetricsSource
metadata: {name: NAMESPACE}
spec: {url: "http://prometheus:9090", evaluationInterval: 15s, timeout: 5s, auth: {bearer: {name: token}}}
"#;

const DECISION: &str = r#"
apiVersion: pilotguard.dev/v1alpha1
kind: Decision
metadata: {name: web, namespace: NAMESPACE}
spec: {pilot: web, type: Continue, incident: burn-1, until: "2099-01-01T00:00:00Z", reason: we know}
"#;

/// What is written instead of what, and what the API server says to it.
struct Bad {
    good: &'static str,
    written: &'static str,
    /// The lines after `The KIND "NAME" is invalid: `, or all that was said where it does not begin like that.
    refusal: &'static str,
    /// The same for server-side apply, where it differs.
    server_side: Option<&'static str>,
}

const fn bad(good: &'static str, written: &'static str, refusal: &'static str) -> Bad {
    Bad { good, written, refusal, server_side: None }
}

/// Server-side apply reads the schema before the server validates, in words of its own.
const fn unlike(good: &'static str, written: &'static str, client: &'static str, server: &'static str) -> Bad {
    Bad { good, written, refusal: client, server_side: Some(server) }
}

/// Applies each bad input in both ways, in vain.
async fn refused(cluster: &Cluster, base: &str, cases: &[Bad]) -> anyhow::Result<()> {
    let namespace = cluster.rig.namespace("bad-input").await?;
    let base = base.replace("NAMESPACE", &namespace);
    let mut wrong = Vec::new();
    for case in cases {
        ensure!(base.matches(case.good).count() == 1, "{:?} is not once in the good input", case.good);
        let manifest = base.replace(case.good, case.written);
        for way in Apply::BOTH {
            let output = cluster.apply(cluster.rig.admin(), way, &manifest).await?;
            let said = output.stderr.split_once("is invalid: ").map_or(output.stderr.as_str(), |(_, said)| said);
            let said: Vec<&str> = said.lines().map(|line| line.trim_start_matches("* ")).collect();
            let said = said.join("\n");
            let expected = match way {
                Apply::ClientSide => case.refusal,
                Apply::ServerSide => case.server_side.unwrap_or(case.refusal),
            };
            let expected = expected.replace("NAMESPACE", &namespace);
            if output.succeeded() || said.trim() != expected {
                wrong.push(format!("{} {way:?}\n  said:     {said}\n  expected: {expected}", case.written));
            }
        }
    }
    let kind = base.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap_or_default();
    let stored = cluster.done(&["get", kind, "--namespace", &namespace, "-o", "name"]).await?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(!stored.contains(&namespace) && !stored.contains("/web"), "stored nevertheless: {stored}");
    Ok(())
}

async fn good_input_is_stored(cluster: &Cluster) -> anyhow::Result<()> {
    for base in [PILOT, SOURCE, DECISION] {
        for way in Apply::BOTH {
            let namespace = cluster.rig.namespace("good-input").await?;
            let output = cluster.apply(cluster.rig.admin(), way, &base.replace("NAMESPACE", &namespace)).await?;
            ensure!(output.succeeded(), "{way:?}: {}", output.stderr);
        }
    }
    Ok(())
}

async fn bad_slos_are_refused(cluster: &Cluster) -> anyhow::Result<()> {
    let target = r#"target: "99""#;
    refused(
        cluster,
        PILOT,
        &[
            bad(target, r#"target: "0""#, r#"spec.slos[0].target: Invalid value: "0": target is a percentage above 0 and below 100, for example "99.5"; at 100 there is no error budget to spend"#),
            bad(target, r#"target: "100""#, r#"spec.slos[0].target: Invalid value: "100": target is a percentage above 0 and below 100, for example "99.5"; at 100 there is no error budget to spend"#),
            bad(
                target,
                r#"target: "abc""#,
                r#"spec.slos[0].target: Invalid value: "abc": spec.slos[0].target in body should match '^-?[0-9]{1,15}(\.[0-9]{1,9})?$'
spec.slos[0].target: Invalid value: "abc": target is a percentage above 0 and below 100, for example "99.5"; at 100 there is no error budget to spend"#,
            ),
            unlike(
                target,
                "target: 99",
                r#"spec.slos[0].target: Invalid value: "integer": spec.slos[0].target in body must be of type string: "integer"
<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"#,
                r#"Error from server: failed to create typed patch object (NAMESPACE/web; pilotguard.dev/v1alpha1, Kind=Pilot): .spec.slos[name="availability"].target: expected string, got &value.valueUnstructured{Value:99}"#,
            ),
            bad("bad: bad_total", "bad: all_total", "spec.slos[0].indicator.ratio: Invalid value: bad and total are the same selector: every event would be bad"),
            bad("{ratio: {bad: bad_total, total: all_total}}", "{}", "spec.slos[0].indicator: Invalid value: an indicator is needed: ratio {bad, total}"),
            bad("rolling: 7d", "rolling: 1.5d", "spec.slos[0].window.rolling: Invalid value: \"1.5d\": spec.slos[0].window.rolling in body should match '^([0-9]+(ms|s|m|h|d|w))+$'"),
        ],
    )
    .await
}

async fn bad_triggers_are_refused(cluster: &Cluster) -> anyhow::Result<()> {
    let when = r#"{burnRate: {slo: availability, long: 1h, short: 5m, factor: "8.4"}}"#;
    let one = "spec.triggers[0].when: Invalid value: exactly one of errorBudget, burnRate, promql, consecutiveFailedChanges or workload is needed";
    refused(
        cluster,
        PILOT,
        &[
            bad("slo: availability", "slo: latency", "spec.triggers: Invalid value: a trigger's when.burnRate.slo names no SLO of this Pilot: declare it under slos or correct the name"),
            bad(when, r#"{errorBudget: {slo: latency, remainingBelow: "20"}}"#, "spec.triggers: Invalid value: a trigger's when.errorBudget.slo names no SLO of this Pilot: declare it under slos or correct the name"),
            bad(when, "{}", one),
            bad("when: {", "when: {workload: {condition: ProgressDeadlineExceeded}, ", one),
            bad(r#"factor: "8.4""#, r#"factor: "0""#, r#"spec.triggers[0].when.burnRate.factor: Invalid value: "0": factor must be above 0; 1 spends the budget exactly over the SLO's window"#),
            bad(when, r#"{errorBudget: {slo: availability, remainingBelow: "101"}}"#, r#"spec.triggers[0].when.errorBudget.remainingBelow: Invalid value: "101": remainingBelow is a percentage of the error budget, at most 100"#),
            bad(
                "    action: Rollback\n",
                "",
                r"spec.triggers[0].action: Required value
<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
            ),
            bad(
                "action: Rollback",
                "action: Undo",
                r#"spec.triggers[0].action: Unsupported value: "Undo": supported values: "Notify", "HoldChanges", "Rollback", "ScaleDown"
<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"#,
            ),
        ],
    )
    .await
}

async fn bad_windows_are_refused(cluster: &Cluster) -> anyhow::Result<()> {
    let window = "{name: always, always: true}";
    let shape = "spec.changes.windows[0]: Invalid value: a window needs exactly one of weekly, cron, once and always";
    refused(
        cluster,
        PILOT,
        &[
            unlike(
                window,
                "{name: a, always: true}, {name: a, always: true}",
                r#"spec.changes.windows[1]: Duplicate value: {"name":"a"}"#,
                r#"Error from server: failed to create typed patch object (NAMESPACE/web; pilotguard.dev/v1alpha1, Kind=Pilot): .spec.changes.windows: duplicate entries for key [name="a"]"#,
            ),
            bad(window, "{name: a, kind: Deny, always: true}", "spec.changes.windows: Invalid value: at least one window of kind Allow is needed, or nothing could ever change; for a pilot that may change at any time declare {name: always, always: true}"),
            bad(window, r#"{name: a, always: true, weekly: {days: [Mon], from: "09:00", to: "10:00"}}"#, shape),
            bad(window, "{name: a, timeZone: UTC}", shape),
            bad(window, "{name: a, always: false}", "spec.changes.windows[0].always: Invalid value: always can only be true; remove it, or use weekly, cron or once"),
            bad(window, r#"{name: a, cron: {schedule: "0 2 * * *", duration: 0s}}"#, "spec.changes.windows[0].cron.duration: Invalid value: a window that lasts no time is never open; give a duration such as 2h"),
            bad(window, r#"{name: a, once: {from: "2027-01-02T00:00:00", to: "2026-12-20T00:00:00"}}"#, "spec.changes.windows[0].once.to: Invalid value: from must be before to"),
            bad(window, r#"{name: a, weekly: {days: [Mon, Mon], from: "09:00", to: "10:00"}}"#, "spec.changes.windows[0].weekly.days: Invalid value: each day can be listed once"),
        ],
    )
    .await
}

async fn bad_pilots_are_refused(cluster: &Cluster) -> anyhow::Result<()> {
    refused(
        cluster,
        PILOT,
        &[
            unlike(
                "{summary:",
                "{sumary: x, summary:",
                r#"Error from server (BadRequest): error when creating "STDIN": Pilot in version "v1alpha1" cannot be handled as a Pilot: strict decoding error: unknown field "spec.intent.sumary""#,
                "Error from server: failed to create typed patch object (NAMESPACE/web; pilotguard.dev/v1alpha1, Kind=Pilot): .spec.intent.sumary: field not declared in schema",
            ),
            bad("{serviceOwner: {name: Ada}}", "{}", "spec.owners.serviceOwner: Invalid value: owners.serviceOwner is required: name who answers for availability, incidents and change control"),
            bad(
                "workloads: [{name: web}]",
                "workloads: [{kind: StatefulSet, name: web}]",
                r#"spec.workloads[0].kind: Unsupported value: "StatefulSet": supported values: "Deployment"
<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"#,
            ),
        ],
    )
    .await
}

async fn bad_sources_are_refused(cluster: &Cluster) -> anyhow::Result<()> {
    refused(
        cluster,
        SOURCE,
        &[
            bad("evaluationInterval: 15s", "evaluationInterval: 500ms", r#"spec.evaluationInterval: Invalid value: "500ms": evaluationInterval is at least 1s, for example 15s"#),
            bad("evaluationInterval: 15s", "evaluationInterval: 0s", r#"spec.evaluationInterval: Invalid value: "0s": evaluationInterval is at least 1s, for example 15s"#),
            bad("timeout: 5s", "timeout: 0s", r#"spec.timeout: Invalid value: "0s": timeout is more than 0s, for example 5s"#),
            bad("{bearer: {name: token}}", "{bearer: {name: token}, basic: {name: login}}", "spec.auth: Invalid value: exactly one of basic or bearer is needed"),
            bad("http://prometheus:9090", "http://me:secret@prometheus:9090", r#"spec.url: Invalid value: "http://me:secret@prometheus:9090": spec.url in body should match '^https?://[^\s?#@]+$'"#),
        ],
    )
    .await
}

async fn bad_decisions_are_refused(cluster: &Cluster) -> anyhow::Result<()> {
    let end = "spec: Invalid value: Continue needs the incident it speaks of and an end: set incident and until (at most 4h ahead)";
    refused(
        cluster,
        DECISION,
        &[
            bad(r#" until: "2099-01-01T00:00:00Z","#, "", end),
            bad(" incident: burn-1,", "", end),
            bad("type: Continue, incident: burn-1,", "type: Resume,", "spec.incident: Invalid value: Resume needs the incident it speaks of: set incident"),
            bad("type: Continue", "type: Readmit", "spec.payload: Invalid value: Readmit needs the payload digest of the release: copy it from the refusal"),
            bad(
                "type: Continue",
                "type: Restart",
                r#"spec.type: Unsupported value: "Restart": supported values: "Continue", "Rollback", "ScaleDown", "HoldChanges", "Resume", "Readmit"
<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"#,
            ),
        ],
    )
    .await
}

async fn a_decision_is_immutable(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.rig.namespace("immutable").await?;
    let decision = DECISION.replace("NAMESPACE", &namespace);
    let edited = decision.replace("reason: we know", "reason: we guess");
    let expected =
        "The Decision \"web\" is invalid: <nil>: Invalid value: a Decision cannot be changed; write another one\n";
    for way in Apply::BOTH {
        let admin = cluster.rig.admin();
        ensure!(cluster.apply(admin, way, &decision).await?.succeeded());
        let output = cluster.apply(admin, way, &edited).await?;
        ensure!(output.stderr == expected, "{way:?}: {}", output.stderr);
        cluster.done_with(&["delete", "-f", "-"], &decision).await?;
    }
    Ok(())
}
