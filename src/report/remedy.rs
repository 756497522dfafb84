//! The commands by which owners make an exception: printed only where they would let through what was refused.
//!
//! A command is one line for sh and bash, complete but for the reason: pasted as it is it is refused.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::api::GROUP;
use crate::api::incident::IncidentStage;
use crate::decide::Case;
use crate::decide::exceptions::{incident_takes_a_fix, owners_needed, owners_who_agreed};
use crate::decide::people::users_who_may_loosen;
use crate::decide::proposal::{Finding, GuardName, Operation, Proposal, Until};
use crate::decide::reasons::open_reason;

/// How long the exception of a suggested command lasts.
const SUGGESTED: SignedDuration = SignedDuration::from_hours(1);

const RESTORES: &str = "end the incident and restore the replicas";

/// A command that an owner can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// What it does. Example: `let this release be tried again`.
    pub purpose: &'static str,
    /// Who can run it. Example: `an owner other than grace`.
    pub who: String,
    /// A line for sh and bash.
    pub command: String,
}

/// What an exception has to be about.
#[derive(Default, PartialEq, Eq)]
struct Needs {
    readmission: bool,
    override_: bool,
    fix: bool,
    resume: Option<(&'static str, String)>,
}

/// How owners let a refused proposal through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remedies {
    /// How the commands belong together, or why there is none, as a sentence.
    pub note: Option<String>,
    /// The commands; none where no command helps.
    pub commands: Vec<Remedy>,
}

/// The commands that together let a proposal through, and where ending the incident does as well as a fix, both; none
/// where no command does.
pub(super) fn remedies(case: &Case<'_>, proposal: &Proposal, findings: &[&Finding]) -> Remedies {
    let Some(needs) = needs(case, proposal, findings) else { return Remedies::default() };
    let owners = if needs.override_ { Owners::of_override(case, proposal) } else { Owners::any() };
    if needs != Needs::default()
        && let Some(note) = owners.are_missing(case)
    {
        return Remedies { note: Some(note), commands: Vec::new() };
    }
    let owner = || Owners::any().who;
    let mut wanted: Vec<(&'static str, String, Value)> = Vec::new();
    if needs.readmission {
        let spec = json!({"type": "Readmit", "payload": proposal.payload, "reason": open_reason("why it is safe now")});
        wanted.push(("let this release be tried again", owner(), spec));
    }
    if needs.override_ || needs.fix {
        let Some(until) = case.now.checked_add(SUGGESTED).ok() else { return Remedies::default() };
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut spec = json!({"type": "Override", "payload": proposal.payload, "until": until,
            "reason": open_reason("why it cannot wait")});
        if needs.fix {
            spec["fix"] = Value::Bool(true);
        }
        let purpose = if needs.fix {
            "let this release through as the fix (an emergency change)"
        } else {
            "let this release through now (an emergency change)"
        };
        wanted.push((purpose, owners.who, spec));
    }
    let note = needs.readmission && wanted.len() > 1;
    if let Some((purpose, incident)) = needs.resume {
        let spec = json!({"type": "Resume", "incident": incident, "reason": open_reason("why it is safe")});
        wanted.push((purpose, owner(), spec));
    }
    let remedy = |(purpose, who, spec)| Some(Remedy { purpose, who, command: create_command(case, spec)? });
    let commands = wanted.into_iter().map(remedy).collect::<Option<_>>().unwrap_or_default();
    Remedies { note: note.then(|| both(findings)), commands }
}

/// A Readmit alone is enough once time has done the rest.
fn both(findings: &[&Finding]) -> String {
    let is_time = |finding: &&&Finding| matches!(finding.until, Until::Instant(_));
    let others = findings.iter().filter(|finding| finding.guard != GuardName::Quarantine);
    let ends = if others.clone().all(|finding| is_time(&finding)) {
        "Before that time it takes both of these exceptions; from then on the first is enough."
    } else {
        "It takes both of these exceptions."
    };
    ends.to_owned()
}

/// Who has to make an exception.
struct Owners<'a> {
    /// In words. Example: `an owner other than grace`.
    who: String,
    /// How many are still missing.
    count: usize,
    /// Users who do not count: the requester, and whoever has agreed already.
    besides: Vec<&'a str>,
}

impl<'a> Owners<'a> {
    fn any() -> Self {
        Self { who: "an owner".to_owned(), count: 1, besides: Vec::new() }
    }

    fn of_override(case: &Case<'a>, proposal: &'a Proposal) -> Self {
        let agreed = owners_who_agreed(case, proposal);
        let requester = proposal.requester.user.as_str();
        let count = owners_needed(proposal).saturating_sub(agreed.len());
        let who = match (agreed.first(), count) {
            (Some(first), _) => format!("one more owner besides {first}"),
            (None, 1) => format!("an owner other than {requester}"),
            (None, _) => "each of two owners".to_owned(),
        };
        Self { who, count, besides: agreed.into_iter().chain([requester]).collect() }
    }

    /// What to say where `spec.owners` does not name enough of them.
    fn are_missing(&self, case: &Case<'_>) -> Option<String> {
        let users = users_who_may_loosen(&case.declaration.owners)?;
        if users.iter().filter(|user| !self.besides.contains(user)).count() >= self.count {
            return None;
        }
        let who = if self.count > 1 { "two owners" } else { &self.who };
        let known = if users.is_empty() { "identifies nobody" } else { "identifies only " };
        let users = users.into_iter().collect::<Vec<_>>().join(", ");
        Some(format!("No exception is possible: it takes {who}, and spec.owners {known}{users}."))
    }
}

/// `None` where something was found that no exception lifts.
fn needs(case: &Case<'_>, proposal: &Proposal, findings: &[&Finding]) -> Option<Needs> {
    let mut needs = Needs { resume: ends_by_resume(case, findings), ..Needs::default() };
    if proposal.ends_workload() {
        // No exception lets anybody delete a workload.
        return Some(needs);
    }
    for finding in findings {
        match finding.guard {
            GuardName::Quarantine if case.ledger.incident.is_none() => needs.readmission = true,
            GuardName::Incident if incident_takes_a_fix(case) => needs.fix = true,
            GuardName::Budget => needs.fix = true,
            GuardName::Window | GuardName::DecisionDate | GuardName::Unauthorized => needs.override_ = true,
            // The write happens without the replicas.
            GuardName::Containment if proposal.operation == Operation::Update => {}
            GuardName::Containment => {
                let contained = case.seen.workload(&proposal.workload)?.marks.contained.as_ref()?;
                needs.resume = Some((RESTORES, contained.incident.clone()));
            }
            GuardName::Quarantine | GuardName::Incident | GuardName::BlastRadius | GuardName::Room => return None,
        }
    }
    Some(needs)
}

/// An incident that only holds changes ends by a Resume too, which helps where nothing else was found.
fn ends_by_resume(case: &Case<'_>, findings: &[&Finding]) -> Option<(&'static str, String)> {
    let is_alone = !findings.is_empty() && findings.iter().all(|finding| finding.guard == GuardName::Incident);
    let incident = case.ledger.incident.as_ref().filter(|it| is_alone && it.stage == IncidentStage::Standing)?;
    let is_contained =
        incident.scales_down() || case.seen.workloads.iter().any(|workload| workload.marks.contained.is_some());
    Some((if is_contained { RESTORES } else { "end the incident" }, incident.id.clone()))
}

/// The command by which an owner approves an emergency change.
pub(super) fn approve_command(case: &Case<'_>, change: &str) -> Option<String> {
    create_command(case, json!({"type": "Approve", "change": change, "reason": open_reason("what you checked")}))
}

fn create_command(case: &Case<'_>, mut spec: Value) -> Option<String> {
    let pilot = &case.declaration.pilot;
    let kind = spec.get("type")?.as_str()?.to_lowercase();
    spec["pilot"] = Value::String(pilot.name.clone());
    let decision = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "Decision",
        "metadata": {"generateName": format!("{}-{kind}-", pilot.name)},
        "spec": spec,
    })
    .to_string();
    // Inside single quotes only these two can change what a shell passes on; no valid name contains them.
    let is_safe = !decision.contains(['\'', '\\']) && !decision.chars().any(char::is_control);
    is_safe.then(|| format!("echo '{decision}' | kubectl create -n {} -f -", pilot.namespace))
}
