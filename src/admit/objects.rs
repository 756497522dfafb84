//! What becomes of a request on an object of our own: Pilot, Decision, MetricsSource, ChangeCalendar.
//!
//! Only what the schema cannot see is checked here, and only what is known from memory; the controller judges it again,
//! because these calls may be lost. Decisions have a file of their own.

use jiff::Timestamp;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, RemoveOperation};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::context::Context;
use super::decisions::of_decision;
use super::moves::gains_owner;
use super::pilots::WorkloadKey;
use super::review::is_collector;
use super::wire::{Answer, Request, Verb};
use crate::api::change_calendar::CALENDAR_LABEL;
use crate::api::incident::IncidentStage;
use crate::api::metrics_source::MetricsSource;
use crate::api::pilot::{CREATED_BY, Mode, Pilot, TAKES_OVER};
use crate::api::trigger::TriggerAction;
use crate::decide::outlook::outlook;
use crate::decide::people::may_loosen;
use crate::declaration::change_calendar::SharedCalendar;
use crate::declaration::{Declaration, Trigger, parts};
use crate::record::declared;
use crate::report::refusal::{LONGEST_LINE, shorten};
use crate::violation::Violation;

/// The name of the Decision by which the operator asks, in a dry-run, whether this process is reached.
pub const PROBE_DECISION: &str = "pilotguard-probe";

/// Judges a request on one of our own objects.
pub fn of_own(request: &Request, context: &Context<'_>) -> Answer {
    let is_own_account = request.requester.user == context.own_account;
    match (request.target.as_str(), request.operation) {
        ("pilotguard.dev/pilots", Verb::Update) if gains_owner(&request.old_object, &request.object) => {
            // The garbage collector deletes what has lost its owners.
            let before = parse::<Pilot>("Pilot", &request.old_object).ok();
            let what = "adding an owner reference to";
            let refused = before.and_then(|pilot| refused_under_way(request, &pilot, what));
            refused.unwrap_or_else(|| of_pilot(request, context))
        }
        ("pilotguard.dev/pilots", Verb::Create | Verb::Update) => of_pilot(request, context),
        ("pilotguard.dev/pilots", Verb::Delete) => of_pilot_delete(request),
        ("pilotguard.dev/decisions", Verb::Create) if is_own_account => match probe(request) {
            Some(nonce) => Answer::forbidden(format!("pilotguard probe {nonce} answered")),
            None => Answer::untouched(),
        },
        ("pilotguard.dev/decisions", Verb::Create) => of_decision(request, context),
        ("pilotguard.dev/metricssources", Verb::Create | Verb::Update) => of_metrics_source(request),
        ("pilotguard.dev/changecalendars", Verb::Create | Verb::Update) => of_change_calendar(request, context),
        _ => Answer::bad_request(format!("{} is not reviewed here", request.target)),
    }
}

/// The number by which the operator asks, in a dry-run, whether this process is reached.
fn probe(request: &Request) -> Option<&str> {
    let is_probe = request.is_dry_run && request.name == PROBE_DECISION;
    request.object.pointer("/spec/reason")?.as_str().filter(|_| is_probe)
}

pub(super) fn parse<T: DeserializeOwned>(kind: &str, object: &Value) -> Result<T, Answer> {
    serde_path_to_error::deserialize(object).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        Answer::bad_request(format!(
            "not a valid {kind}: {place}{}",
            without_type_names(&error.into_inner().to_string())
        ))
    })
}

/// What serde calls a type by its name in our code, users know as an object.
fn without_type_names(problem: &str) -> String {
    let mut words = problem.split(' ').peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "struct" {
            words.next();
            kept.push("an object");
            while words
                .next_if(|word| ["with", "element", "elements"].contains(word) || word.parse::<u32>().is_ok())
                .is_some()
            {}
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

fn of_pilot(request: &Request, context: &Context<'_>) -> Answer {
    // What is stored already is not refused a second time: its finalizers and labels must stay editable.
    let is_unchanged =
        request.operation == Verb::Update && request.object.get("spec") == request.old_object.get("spec");
    let pilot: Pilot = match parse("Pilot", &request.object) {
        Ok(pilot) => pilot,
        Err(answer) => return answer,
    };
    let declaration = match Declaration::parse(&pilot, context.guarded.zones()) {
        Ok(declaration) => declaration,
        Err(_) if is_unchanged => return Answer::Allowed { patch: creator(request), warnings: Vec::new() },
        Err(violations) => return Answer::invalid("Pilot", &request.name, violations),
    };
    if let Some(violation) = declared::check_size(&pilot.spec).filter(|_| !is_unchanged) {
        return Answer::invalid("Pilot", &request.name, vec![violation]);
    }
    if let Some(refused) = refused_takeover(request, &declaration, context) {
        return refused;
    }
    let past =
        declaration.calendar.past_windows(context.now).into_iter().map(|window| {
            format!("spec.changes.windows[name={window}] lies in the past and will never be active again")
        });
    let warnings = past
        .chain(unknown_calendar(&declaration, context))
        .chain(conflicts(&pilot, request, context))
        .chain(without_rollback(&declaration))
        .chain(out_of_place(request, context))
        .chain(owned(request))
        .map(|text| shorten(&text, LONGEST_LINE));
    Answer::Allowed { patch: creator(request), warnings: warnings.collect() }
}

/// Who created a Pilot stands on it, whatever a request writes there.
fn creator(request: &Request) -> Vec<PatchOperation> {
    let text = |object: &Value| annotation(object, CREATED_BY).map(str::to_owned);
    let wanted = match request.operation {
        Verb::Create => Some(request.requester.user.clone()),
        _ => text(&request.old_object),
    };
    if wanted == text(&request.object) {
        return Vec::new();
    }
    let path = PointerBuf::from_tokens(["metadata", "annotations", CREATED_BY]);
    let Some(user) = wanted else { return vec![PatchOperation::Remove(RemoveOperation { path })] };
    let mut operations = Vec::new();
    if request.object.pointer("/metadata/annotations").is_none() {
        let path = PointerBuf::from_tokens(["metadata", "annotations"]);
        operations.push(PatchOperation::Add(AddOperation { path, value: json!({}) }));
    }
    operations.push(PatchOperation::Add(AddOperation { path, value: json!(user) }));
    operations
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// The refusal of a takeover by somebody who is not an owner of both Pilots, or in the middle of an incident.
fn refused_takeover(request: &Request, declaration: &Declaration, context: &Context<'_>) -> Option<Answer> {
    let older = annotation(&request.object, TAKES_OVER)?;
    if annotation(&request.old_object, TAKES_OVER) == Some(older) {
        return None;
    }
    let by = Some(&request.requester);
    let found = context.guarded.pilot(&request.namespace, older);
    let why = match found.as_deref() {
        None => format!("Pilot {older} does not exist in this namespace"),
        Some(found) if found.ledger.incident.is_some() => format!("an incident of Pilot {older} is open"),
        Some(found) => match &found.declaration {
            Err(_) => format!("the spec of Pilot {older} is invalid, so its owners are unknown"),
            Ok(of_older) => {
                [&of_older.owners, &declaration.owners].into_iter().find_map(|it| may_loosen(it, by).err())?
            }
        },
    };
    Some(Answer::forbidden(format!(
        "Refused: pilot {} does not take over from pilot {older}, because {why}.\n\
         - a person who is an owner in both Pilots may annotate the younger one with {TAKES_OVER}\n\
         Else remove the workload from spec.workloads of one of them, or delete one of them.",
        request.name
    )))
}

/// A calendar that the Pilot's label names and that does not exist closes it.
fn unknown_calendar(declaration: &Declaration, context: &Context<'_>) -> Option<String> {
    let calendars = &context.cluster.calendars;
    let named = declaration.named_calendar.as_ref().filter(|_| calendars.is_ready())?;
    let mut known: Vec<String> = calendars.all().into_iter().map(|kept| kept.calendar.name.clone()).collect();
    if known.contains(named) {
        return None;
    }
    known.sort_unstable();
    let known = if known.is_empty() { "there is none".to_owned() } else { format!("there are {}", known.join(", ")) };
    Some(format!(
        "ChangeCalendar {named}, which the label {CALENDAR_LABEL} names, does not exist, so no window is open; {known}"
    ))
}

fn conflicts(pilot: &Pilot, request: &Request, context: &Context<'_>) -> Vec<String> {
    let created = pilot.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
    let uid = pilot.metadata.uid.as_deref().unwrap_or_default();
    let named = parts(&pilot.spec);
    let claimed = named.iter().filter_map(|workload| {
        let owner = context.guarded.guardian(&WorkloadKey::new(&request.namespace, workload))?;
        let is_older = owner.id.name != request.name && (owner.created_at, owner.id.uid.as_str()) < (created, uid);
        let is_taken_over = annotation(&request.object, TAKES_OVER) == Some(&owner.id.name);
        let creator = owner.created_by.as_ref().map(|user| format!(", created by {user}")).unwrap_or_default();
        (is_older && !is_taken_over).then(|| {
            format!(
                "{workload} belongs to the older pilot {}{creator}; this one stays stalled until that no longer names it, or \
                 an owner of both annotates this one with {TAKES_OVER}={}",
                owner.id.name, owner.id.name
            )
        })
    });
    claimed.collect()
}

/// What a trigger declares and will not do on these kinds; better known now than during an incident.
fn without_rollback(declaration: &Declaration) -> Vec<String> {
    let Some(workload) = declaration.workloads.iter().find(|workload| !workload.kind.is_rolled_back()) else {
        return Vec::new();
    };
    let rollbacks = declaration.triggers.iter().filter(|trigger| trigger.action == TriggerAction::Rollback);
    let warning = |trigger: &Trigger| {
        format!(
            "spec.triggers[name={}]: {:?} happens instead of Rollback, because {workload} is never rolled back automatically",
            trigger.name, trigger.otherwise
        )
    };
    rollbacks.map(warning).collect()
}

/// The chart's static policies keep the operator, and whoever has stolen its token, from what guards the cluster.
fn out_of_place(request: &Request, context: &Context<'_>) -> Option<String> {
    let own = context.own_account.strip_prefix("system:serviceaccount:").and_then(|account| account.split(':').next());
    let is_of_system =
        ["kube-system", "kube-public", "kube-node-lease"].into_iter().chain(own).any(|name| name == request.namespace);
    is_of_system.then(|| {
        format!(
            "a Pilot has no effect in {}: pilotguard's own policies do not let it roll back anything there",
            request.namespace
        )
    })
}

/// Nobody can stop the garbage collector later.
fn owned(request: &Request) -> Option<String> {
    gains_owner(&request.old_object, &request.object)
        .then(|| format!("pilot {} is now deleted together with its owners, even during an incident", request.name))
}

fn of_pilot_delete(request: &Request) -> Answer {
    let Ok(pilot) = parse::<Pilot>("Pilot", &request.old_object) else {
        // What cannot be read guards nothing; it must stay possible to remove it.
        return Answer::untouched();
    };
    if let Some(refused) = refused_under_way(request, &pilot, "deleting") {
        return refused;
    }
    let names = parts(&pilot.spec).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let text = format!(
        "pilot {} is deleted: {names} is no longer guarded; marks of a scale-down and of the quarantine stay",
        request.name
    );
    Answer::warned(vec![shorten(&text, LONGEST_LINE)])
}

/// The refusal of what ends a Pilot in the middle of an incident.
fn refused_under_way(request: &Request, pilot: &Pilot, what: &str) -> Option<Answer> {
    use IncidentStage::{Acting, Continued, DecisionWindow, Resuming, Verifying};
    let binds = pilot.spec.enforcement.actions == Mode::Enforce && !is_collector(&request.requester.user);
    let is_under_way = |stage| matches!(stage, DecisionWindow | Continued | Acting | Verifying | Resuming);
    let incident = pilot.status.as_ref()?.incident.as_ref().filter(|it| binds && is_under_way(it.stage))?;
    Some(Answer::forbidden(format!(
        "Refused: {what} pilot {} while incident {} is open.\n\
         - {}; without the Pilot nobody would carry that out or verify it\n\
         Try again when the incident has closed, or decide it now with a Decision that names it. To see it: \
         kubectl describe pilot {} -n {}",
        request.name,
        incident.id,
        outlook(incident),
        request.name,
        request.namespace
    )))
}

fn of_change_calendar(request: &Request, context: &Context<'_>) -> Answer {
    let spec = request.object.get("spec").unwrap_or(&Value::Null);
    // As for Pilots: what is stored already is not refused a second time.
    let is_unchanged = request.operation == Verb::Update && Some(spec) == request.old_object.get("spec");
    let calendar = SharedCalendar::read(&request.name, spec, context.guarded.zones());
    match calendar.windows {
        Ok(windows) => {
            let past = windows.past_windows(context.now).into_iter().map(|window| {
                let text = format!("spec.windows[name={window}] lies in the past and will never be active again");
                shorten(&text, LONGEST_LINE)
            });
            Answer::warned(past.collect())
        }
        Err(_) if is_unchanged => Answer::untouched(),
        Err(violations) => Answer::invalid("ChangeCalendar", &request.name, violations),
    }
}

fn of_metrics_source(request: &Request) -> Answer {
    let source: MetricsSource = match parse("MetricsSource", &request.object) {
        Ok(source) => source,
        Err(answer) => return answer,
    };
    let hint = "write a base address such as https://prometheus.monitoring.svc:9090";
    let problem = match reqwest::Url::parse(&source.spec.url) {
        Err(problem) => Some((format!("is not a URL: {problem}"), hint)),
        Ok(url) if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() => {
            Some(("is not the address of an HTTP server".to_owned(), hint))
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => Some((
            "contains a credential, which everyone who can read the object would see".to_owned(),
            "put it into a Secret in the operator's namespace and name that under spec.auth",
        )),
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            Some(("contains a query or a fragment".to_owned(), hint))
        }
        Ok(_) => None,
    };
    match problem {
        Some((problem, hint)) => {
            Answer::invalid("MetricsSource", &request.name, vec![Violation::new("spec.url", problem, hint)])
        }
        None => Answer::untouched(),
    }
}
