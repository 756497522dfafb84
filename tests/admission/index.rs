//! Whose a workload is.

use jiff::tz::TimeZoneDatabase;
use kube::runtime::watcher::Event;
use pilotguard::admit::pilots::{Guarded, WorkloadKey};
use pilotguard::api::workload::{PartKind, PartReference};
use serde_json::{Value, json};

use crate::fixtures::*;

fn named(name: &str, uid: &str, created: &str) -> Value {
    with(pilot(), &json!({"metadata": {"name": name, "uid": uid, "creationTimestamp": created}}))
}

fn checkout() -> WorkloadKey {
    let reference = PartReference { kind: PartKind::Deployment, name: "checkout".to_owned() };
    WorkloadKey::new("shop", &reference)
}

fn owner(guarded: &Guarded) -> Option<String> {
    guarded.guardian(&checkout()).map(|guardian| guardian.id.name.clone())
}

#[test]
fn the_oldest_pilot_wins_and_a_tie_goes_to_the_lower_uid() {
    let young = named("young", "a", "2026-11-03T00:00:00Z");
    let old = named("old", "c", "2026-11-01T00:00:00Z");
    let twin = named("twin", "b", "2026-11-01T00:00:00Z");
    let guarded = guarded(&[young.clone(), old.clone(), twin.clone()]);
    assert_eq!(owner(&guarded).as_deref(), Some("twin"));
    guarded.see(&Event::Delete(read(&twin)));
    assert_eq!(owner(&guarded).as_deref(), Some("old"));
    let elsewhere = with(old, &json!({"metadata": {"generation": 2}, "spec": {"workloads": [{"name": "basket"}]}}));
    guarded.see(&Event::Apply(read(&elsewhere)));
    assert_eq!(owner(&guarded).as_deref(), Some("young"));
    guarded.see(&Event::Delete(read(&young)));
    assert_eq!(owner(&guarded), None);
}

#[test]
fn who_takes_over_from_the_oldest_wins_for_as_long_as_it_says_so() {
    let old = named("old", "c", "2026-11-01T00:00:00Z");
    let middle = named("middle", "b", "2026-11-02T00:00:00Z");
    let young = named("young", "a", "2026-11-03T00:00:00Z");
    let taking_over =
        |from: &str| with(young.clone(), &json!({"metadata": {"annotations": {"pilotguard.dev/takes-over": from}}}));
    let guarded = guarded(&[old.clone(), middle.clone(), young.clone()]);
    let told = guarded.see(&Event::Apply(read(&taking_over("old"))));
    assert_eq!((owner(&guarded).as_deref(), told.len()), (Some("young"), 2));
    guarded.see(&Event::Apply(read(&taking_over("middle"))));
    assert_eq!(owner(&guarded).as_deref(), Some("old"), "only the oldest can be taken over from");
    guarded.see(&Event::Delete(read(&old)));
    assert_eq!(owner(&guarded).as_deref(), Some("young"), "the oldest is another one now");
    guarded.see(&Event::Apply(read(&young)));
    assert_eq!(owner(&guarded).as_deref(), Some("middle"));
}

/// A Pilot is looked at again when a workload that it names may have become another's, or its own.
#[test]
fn whoever_may_have_got_or_lost_a_workload_is_told() {
    let young = named("young", "a", "2026-11-03T00:00:00Z");
    let old = named("old", "c", "2026-11-01T00:00:00Z");
    let guarded = guarded(std::slice::from_ref(&young));
    let told = |event: Event<Value>| {
        let names = |pilots: std::collections::BTreeSet<pilotguard::declaration::PilotId>| {
            pilots.into_iter().map(|pilot| pilot.name).collect::<Vec<_>>()
        };
        names(match event {
            Event::Apply(pilot) => guarded.see(&Event::Apply(read(&pilot))),
            Event::Delete(pilot) => guarded.see(&Event::Delete(read(&pilot))),
            Event::InitApply(pilot) => guarded.see(&Event::InitApply(read(&pilot))),
            Event::Init => guarded.see(&Event::Init),
            Event::InitDone => guarded.see(&Event::InitDone),
        })
    };
    assert_eq!(told(Event::Apply(old.clone())), ["young"], "it lost its workload");
    let status = with(old.clone(), &json!({"status": {"incident": incident("Acting", "Rollback")}}));
    assert!(told(Event::Apply(status)).is_empty(), "nothing changed hands");
    let moved = with(old.clone(), &json!({"metadata": {"generation": 2}, "spec": {"workloads": [{"name": "basket"}]}}));
    assert_eq!(told(Event::Apply(moved)), ["young"]);
    told(Event::Apply(with(old.clone(), &json!({"metadata": {"generation": 3}}))));
    assert_eq!(told(Event::Delete(old.clone())), ["young"]);
    // The same where the watch was broken meanwhile.
    told(Event::Apply(old.clone()));
    let list = [Event::Init, Event::InitApply(young.clone()), Event::InitDone];
    assert_eq!(list.map(told)[2], ["young"], "the older one is gone");
    let list = [Event::Init, Event::InitApply(young), Event::InitDone];
    assert!(list.map(told)[2].is_empty());
}

#[test]
fn namesakes_of_another_kind_are_another_workload() {
    let stateful = json!({"spec": {"workloads": [{"kind": "StatefulSet", "name": "checkout"}]}});
    let young = with(named("young", "a", "2026-11-03T00:00:00Z"), &stateful);
    let old = named("old", "c", "2026-11-01T00:00:00Z");
    let guarded = guarded(&[young, old]);
    let of = |kind| {
        let reference = PartReference { kind, name: "checkout".to_owned() };
        guarded.guardian(&WorkloadKey::new("shop", &reference)).map(|guardian| guardian.id.name.clone())
    };
    assert_eq!(of(PartKind::Deployment).as_deref(), Some("old"));
    assert_eq!(of(PartKind::StatefulSet).as_deref(), Some("young"));
    assert_eq!(of(PartKind::DaemonSet), None);
}

#[test]
fn the_set_is_unknown_until_the_first_list_is_complete() {
    let guarded = Guarded::new(TimeZoneDatabase::bundled());
    let mut set = guarded.subscribe();
    guarded.see(&Event::Init);
    guarded.see(&Event::InitApply(read(&pilot())));
    assert!(!guarded.is_ready() && set.borrow_and_update().is_none());
    guarded.see(&Event::InitDone);
    assert!(guarded.is_ready() && set.has_changed().unwrap());
    assert_eq!(set.borrow_and_update().as_ref().unwrap().enforcing.len(), 1);

    // A status update is taken up, and changes nothing that has to be registered.
    guarded.see(&Event::Apply(read(&with(pilot(), &json!({"status": {"incident": incident("Acting", "Rollback")}})))));
    assert!(!set.has_changed().unwrap());
    let guardian = guarded.guardian(&checkout()).unwrap();
    assert_eq!(guardian.ledger.incident.as_ref().unwrap().id, "fast-burn-3f9c2a71");

    let observing =
        json!({"metadata": {"generation": 2}, "spec": {"enforcement": {"changes": "Observe", "actions": "Observe"}}});
    guarded.see(&Event::Apply(read(&with(pilot(), &observing))));
    let now = set.borrow_and_update().clone().unwrap();
    assert_eq!((now.enforcing.len(), now.observing.len()), (0, 1));

    // A list that begins anew forgets who has left, and not before it is complete.
    guarded.see(&Event::Init);
    assert!(owner(&guarded).is_some());
    guarded.see(&Event::InitDone);
    assert_eq!(owner(&guarded), None);
    assert_eq!(set.borrow_and_update().as_deref(), Some(&pilotguard::admit::pilots::GuardedSet::default()));
}
