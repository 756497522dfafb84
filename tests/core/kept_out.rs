//! What the conditions say while something is kept out: the pilot is Ready, and a condition of its own tells a GitOps tool.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use pilotguard::api::status::PilotStatus;
use pilotguard::decide::{Case, Ledger};
use pilotguard::report::projection::project;
use pilotguard::report::surroundings::{Enforced, Surroundings};

use crate::story::{Story, play};
use crate::world::{World, payload_of};

/// The status that the world would be reported with.
pub fn projected(world: &World, decided: &Ledger, before: Option<&PilotStatus>) -> PilotStatus {
    let seen = world.observe();
    let surroundings = Surroundings {
        generation: Some(1),
        conditions: before.map(|status| status.conditions.clone()).unwrap_or_default(),
        enforced: Enforced::Yes,
        ..Surroundings::default()
    };
    let (declaration, source, now) = (&world.declaration, world.source, world.now);
    project(&Case { declaration, source, seen: &seen, ledger: decided, now }, decided, &surroundings)
}

/// `Ready` and `UpToDate` at the end of a timeline.
fn conditions(timeline: &str) -> [Condition; 2] {
    conditions_at("3h", timeline, ["Ready", "UpToDate"])
}

fn conditions_at(until: &str, timeline: &str, types: [&str; 2]) -> [Condition; 2] {
    let story = format!("title: t\nstory: s\ntimeline:\n{timeline}\nuntil: {until}\nexpect: {{}}\n");
    let story: Story = serde_yaml::from_str(&story).unwrap();
    let world = play(&story).world;
    let status = projected(&world, &Ledger::read(&world.status), None);
    types.map(|type_| status.conditions.iter().find(|it| it.type_ == type_).unwrap().clone())
}

/// Whether the pilot is Ready, and the reason of `UpToDate`.
fn told(timeline: &str) -> (String, String) {
    let [ready, up_to_date] = conditions(timeline);
    (ready.status, up_to_date.reason)
}

const ROLLED_BACK: &str = "- {at: 1h, deploy: v2, errors: {v2: 0.5}}";

#[test]
fn a_pilot_is_ready_after_a_rollback_and_says_what_is_kept_out() {
    let ready = |reason: &str| ("True".to_owned(), reason.to_owned());
    assert_eq!(told("- {at: 1h, deploy: v2}"), ready("NothingKeptOut"));
    assert_eq!(told(ROLLED_BACK), ready("ReleaseQuarantined"));
    let next = format!("{ROLLED_BACK}\n- {{at: 2h, deploy: v3}}");
    assert_eq!(told(&next), ready("NothingKeptOut"), "the next release passes");
    let readmitted = format!("{ROLLED_BACK}\n- {{at: 2h, decide: {{type: Readmit, by: ada, release: v2}}}}");
    assert_eq!(told(&readmitted), ready("NothingKeptOut"), "nothing keeps it out any more");
    let by_nobody = format!("{ROLLED_BACK}\n- {{at: 2h, decide: {{type: Readmit, by: mallory, release: v2}}}}");
    assert_eq!(told(&by_nobody), ready("ReleaseQuarantined"), "only an owner readmits");
}

#[test]
fn what_is_kept_out_and_what_runs_are_named_by_their_images() {
    let [_, up_to_date] = conditions(ROLLED_BACK);
    let name = |release: &str| format!("shop/checkout:{release} ({})", &payload_of(release)[..12]);
    let (begins, ends) = (
        format!("{}, applied by dev, is kept out: incident ", name("v2")),
        format!(" rolled it back. {} keeps running", name("v1")),
    );
    let told = &up_to_date.message;
    assert!(told.starts_with(&begins) && told.ends_with(&ends), "{told}");
}

#[test]
fn an_open_incident_says_what_follows_and_when_what_is_allowed_and_who_may_decide() {
    let [open, held] = conditions_at("1h20m", ROLLED_BACK, ["IncidentOpen", "ChangesHeld"]);
    let known_good = format!("shop/checkout:v1 ({})", &payload_of("v1")[..12]);
    let follows = format!("rollback to {known_good} follows at 2026-03-02T");
    let ends = format!(
        " unless an owner decides otherwise. Going back to {known_good} is allowed now. Owners who may decide: Ada \
         Lovelace (service owner)."
    );
    assert_eq!((open.reason.as_str(), held.reason.as_str()), ("DecisionWindow", "IncidentOpen"));
    for (message, begins) in [(&open.message, "fast-burn-"), (&held.message, "Incident fast-burn-")] {
        assert!(message.starts_with(begins) && message.contains(&follows) && message.ends_with(&ends), "{message}");
    }
}
