//! What the cluster says about a pilot: from watches, or live where an act is about to rest on it.
//!
//! Objects are reduced to plain data at the border; nothing here judges them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::calendars::Calendars;
use super::index::{Entry, Index, Owner};
use super::readable::readable;
use crate::api::change_record::{ChangeRecord, ChangeRecordStatus};
use crate::api::decision::{Decision, DecisionType, RECEIVED_AT, Requester};
use crate::api::workload::{PartKind, PartReference};
use crate::decide::history::{relevant_changes, relevant_decisions, with_unjudged};
use crate::decide::records::OPERATOR;
use crate::declaration::{Declaration, PilotId};
use crate::observation::{Change, Observation, PilotDecision, Snapshot, Workload};
use crate::record::snapshots;
use crate::release::workload;

/// A live reading that takes longer is given up; the evaluation is repeated.
const DEADLINE: Duration = Duration::from_secs(5);

/// Objects in one page of a list: an object may have 1.5 MiB, the operator's memory is bounded, and a page has to arrive
/// before the deadline.
const PAGE: u32 = 20;

/// An object that is a part of a release as raw JSON: typed structs drop fields that they do not know. Which kind it
/// is, is known where it is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RawWorkload {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Everything else as sent: spec and status, or the content of a ConfigMap.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

impl kube::Resource for RawWorkload {
    type DynamicType = PartKind;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(kind: &PartKind) -> Cow<'_, str> {
        kind.as_str().into()
    }

    fn group(kind: &PartKind) -> Cow<'_, str> {
        kind.group().into()
    }

    fn version(_: &PartKind) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(kind: &PartKind) -> Cow<'_, str> {
        kind.resource().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What watches have seen, by kind.
#[derive(Debug)]
pub struct Cluster {
    /// Workloads, by their own name. Of the ConfigMaps there are those that are governed, as they were read last.
    pub workloads: ByKind<Index<Arc<Workload>>>,
    /// The resourceVersion of every ConfigMap, by its own name.
    pub versions: Index<String>,
    /// Release snapshots, by workload.
    pub snapshots: Index<OwnedSnapshot>,
    /// ChangeRecords, by pilot: those on which decisions can depend, oldest first.
    pub changes: Index<Change>,
    /// Decisions, by pilot: those on which decisions can depend, oldest first.
    pub decisions: Index<PilotDecision>,
    /// What narrows the pilots' windows.
    pub calendars: Calendars,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            workloads: ByKind::default(),
            versions: Index::new(),
            snapshots: Index::new(),
            changes: Index::arranged(|all| named(relevant_changes(unnamed(all)), |change| &change.name)),
            decisions: Index::arranged(|all| named(relevant_decisions(unnamed(all)), |decision| &decision.name)),
            calendars: Calendars::default(),
        }
    }
}

fn unnamed<T>(entries: Vec<(String, T)>) -> Vec<T> {
    entries.into_iter().map(|(_, kept)| kept).collect()
}

fn named<T>(all: Vec<T>, name: impl Fn(&T) -> &String) -> Vec<(String, T)> {
    all.into_iter().map(|kept| (name(&kept).clone(), kept)).collect()
}

/// One of each kind: namesakes of different kinds have nothing to do with each other.
#[derive(Debug, Default)]
pub struct ByKind<T> {
    deployments: T,
    stateful_sets: T,
    daemon_sets: T,
    config_maps: T,
}

impl<T> ByKind<T> {
    /// The one of a kind.
    pub const fn of(&self, kind: PartKind) -> &T {
        match kind {
            PartKind::Deployment => &self.deployments,
            PartKind::StatefulSet => &self.stateful_sets,
            PartKind::DaemonSet => &self.daemon_sets,
            PartKind::ConfigMap => &self.config_maps,
        }
    }
}

/// A snapshot and the workload that it was taken of: one of a namesake that was deleted is none of ours.
#[derive(Clone, Debug)]
pub struct OwnedSnapshot {
    /// The uid of the workload.
    pub workload_uid: String,
    /// The snapshot; of one that cannot be read, the name.
    pub snapshot: Result<Snapshot, String>,
}

/// Why a live reading failed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The API server refused or did not answer.
    #[error("reading {what} failed")]
    Read {
        /// What was read.
        what: &'static str,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// The API server did not answer in time.
    #[error("reading {0} took longer than 5s")]
    Deadline(&'static str),
}

impl Cluster {
    /// What the watches say about a pilot.
    pub fn observe(&self, declaration: &Declaration) -> Observation {
        let namespace = &declaration.pilot.namespace;
        let pilot = Owner { namespace: namespace.clone(), name: declaration.pilot.name.clone() };
        let workloads = declaration.workloads.iter().filter_map(|reference| {
            let owner = Owner { namespace: namespace.clone(), name: reference.name.clone() };
            let workload = self.workloads.of(reference.kind).one_of(&owner).map(Arc::unwrap_or_clone)?;
            Some(with_snapshots(workload, &self.snapshots.of(&owner)))
        });
        let (changes, decisions) = (self.changes.of(&pilot), self.decisions.of(&pilot));
        Observation { workloads: workloads.collect(), changes, decisions, ..Observation::default() }
    }

    /// What the API server says about a pilot now: its workloads, and the Decisions that are not judged yet. What else is
    /// recorded is as the watches saw it: only this process writes that.
    pub async fn observe_live(&self, client: &Client, declaration: &Declaration) -> Result<Observation, ObserveError> {
        let namespace = &declaration.pilot.namespace;
        let workloads = &declaration.workloads;
        let names = workloads.iter().map(|workload| workload.name.as_str());
        let of_workloads = ListParams::default().labels(&snapshots::selector(names));
        let (found, snapshots, unjudged) = tokio::try_join!(
            within("the workloads", try_join_all(workloads.iter().map(|it| read_workload(client, namespace, it)))),
            list("the snapshots", client, namespace, of_workloads, reduce_snapshot),
            list_unjudged(client, &declaration.pilot),
        )?;
        let existing = workloads.iter().zip(&found);
        let existing = existing.filter_map(|(reference, found)| workload::read(reference.kind, found.as_ref()?));
        let workloads = existing.map(|workload| with_snapshots(workload, &snapshots)).collect();
        let pilot = Owner { namespace: namespace.clone(), name: declaration.pilot.name.clone() };
        let decisions = Arc::new(with_unjudged(&self.decisions.of(&pilot), unjudged));
        Ok(Observation { workloads, changes: self.changes.of(&pilot), decisions, ..Observation::default() })
    }

    /// What the watches say about a pilot; `None` before they have seen all of it.
    pub fn observe_if_known(&self, declaration: &Declaration) -> Option<Observation> {
        let mut kinds = PartKind::WITH_PODS.into_iter();
        let is_known = kinds.all(|kind| self.workloads.of(kind).is_ready())
            && self.snapshots.is_ready()
            && self.changes.is_ready()
            && self.decisions.is_ready();
        is_known.then(|| self.observe(declaration))
    }

    /// The pilot's other workloads as the watches saw them last, without their snapshots; `None` before they have seen all.
    /// A ConfigMap that has changed since it was read is left out, because nobody knows it.
    pub fn beside(&self, declaration: &Declaration, workload: &PartReference) -> Option<Vec<Workload>> {
        let mut others = Vec::new();
        for other in declaration.workloads.iter().filter(|other| *other != workload) {
            let kept = self.workloads.of(other.kind);
            if other.kind.has_pods() && !kept.is_ready() {
                return None;
            }
            let owner = Owner { namespace: declaration.pilot.namespace.clone(), name: other.name.clone() };
            let is_current = |seen: &Arc<Workload>| {
                other.kind.has_pods() || self.versions.of(&owner).contains(&seen.resource_version)
            };
            others.extend(kept.one_of(&owner).filter(is_current).map(Arc::unwrap_or_clone));
        }
        Some(others)
    }

    /// What is recorded of a pilot's past, without its workload; `None` before the watches have seen it all.
    pub fn records(&self, pilot: &PilotId) -> Option<Observation> {
        let owner = Owner { namespace: pilot.namespace.clone(), name: pilot.name.clone() };
        let is_known = self.changes.is_ready() && self.decisions.is_ready();
        is_known.then(|| {
            let (changes, decisions) = (self.changes.of(&owner), self.decisions.of(&owner));
            Observation { changes, decisions, ..Observation::default() }
        })
    }

    /// The Decisions that name a pilot, as far as they have been seen.
    pub fn decisions_of(&self, pilot: &PilotId) -> Arc<Vec<PilotDecision>> {
        self.decisions.of(&Owner { namespace: pilot.namespace.clone(), name: pilot.name.clone() })
    }

    /// Waits until every watch has seen its first complete list.
    pub async fn ready(&self) {
        for kind in PartKind::WITH_PODS {
            self.workloads.of(kind).ready().await;
        }
        self.versions.ready().await;
        self.snapshots.ready().await;
        self.changes.ready().await;
        self.decisions.ready().await;
        self.calendars.ready().await;
    }
}

/// A part of a release as the API server has it now, as one JSON value.
pub async fn read_workload(
    client: &Client,
    namespace: &str,
    reference: &PartReference,
) -> Result<Option<Value>, kube::Error> {
    Ok(read_raw(client, namespace, reference).await?.map(|workload| raw(&workload)))
}

/// A part of a release as the API server has it now.
pub(super) async fn read_raw(
    client: &Client,
    namespace: &str,
    reference: &PartReference,
) -> Result<Option<RawWorkload>, kube::Error> {
    let api: Api<RawWorkload> = Api::namespaced_with(client.clone(), namespace, &reference.kind);
    api.get_opt(&reference.name).await
}

/// The Decisions on a pilot that are not judged yet: years of records are not read before an act.
async fn list_unjudged(client: &Client, pilot: &PilotId) -> Result<Vec<PilotDecision>, ObserveError> {
    let read = |fields: String| {
        let reduce = |decision: &_| Some(reduce_decision(decision));
        list("the decisions", client, &pilot.namespace, ListParams::default().fields(&fields), reduce)
    };
    let of_pilot = format!("spec.pilot={}", pilot.name);
    let mut decisions = match read(format!("{of_pilot},status.phase=,spec.by.user!={OPERATOR}")).await {
        // The CustomResourceDefinition is one of an older version, which selects by the pilot alone.
        Err(ObserveError::Read { source: kube::Error::Api(status), .. }) if status.code == 400 => {
            read(of_pilot).await?
        }
        read => read?,
    };
    decisions.retain(PilotDecision::is_unjudged);
    Ok(decisions)
}

/// A workload with those snapshots that were taken of it.
fn with_snapshots(mut workload: Workload, snapshots: &[OwnedSnapshot]) -> Workload {
    for owned in snapshots.iter().filter(|owned| owned.workload_uid == workload.uid) {
        match &owned.snapshot {
            Ok(snapshot) => workload.snapshots.push(snapshot.clone()),
            Err(name) => workload.unreadable_snapshots.push(name.clone()),
        }
    }
    // Where a legacy snapshot has been repacked and is not deleted yet, the new one counts.
    workload.snapshots.sort_by_key(|snapshot| (std::cmp::Reverse(snapshot.revision), snapshot.is_legacy));
    workload
}

/// Boxes the reading first: a request's future is large, and every caller would carry it.
pub fn within<T>(
    what: &'static str,
    reading: impl Future<Output = Result<T, kube::Error>>,
) -> impl Future<Output = Result<T, ObserveError>> {
    let reading = Box::pin(tokio::time::timeout(DEADLINE, reading));
    async move {
        match reading.await {
            Ok(result) => result.map_err(|source| ObserveError::Read { what, source }),
            Err(_) => Err(ObserveError::Deadline(what)),
        }
    }
}

/// What is kept of the objects that can be read, page by page; each page has its own deadline.
async fn list<K, T>(
    what: &'static str,
    client: &Client,
    namespace: &str,
    params: ListParams,
    reduce: impl Fn(&K) -> Option<Entry<T>>,
) -> Result<Vec<T>, ObserveError>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug,
    K: serde::de::DeserializeOwned,
{
    let api: Api<DeserializeGuard<K>> = Api::namespaced(client.clone(), namespace);
    let mut params = params.limit(PAGE);
    let mut kept = Vec::new();
    loop {
        let page = within(what, api.list(&params)).await?;
        kept.extend(page.items.into_iter().filter_map(readable).filter_map(|object| Some(reduce(&object)?.kept)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(kept),
        }
    }
}

/// A workload as one JSON value.
pub fn raw(workload: &RawWorkload) -> Value {
    serde_json::to_value(workload).unwrap_or_default()
}

/// Keeps a workload under its own name.
pub fn reduce_workload(kind: PartKind, workload: &RawWorkload) -> Option<Entry<Arc<Workload>>> {
    let owner = Owner { namespace: workload.namespace()?, name: workload.name_any() };
    let kept = Arc::new(workload::read(kind, &raw(workload))?);
    Some(Entry { name: owner.name.clone(), owner, kept })
}

/// Keeps a ControllerRevision that is one of our snapshots under its workload.
pub fn reduce_snapshot(revision: &ControllerRevision) -> Option<Entry<OwnedSnapshot>> {
    let workload = snapshots::workload_of(revision)?;
    let snapshot = snapshots::read(revision).map(|(.., snapshot)| snapshot).ok_or_else(|| revision.name_any());
    let kept = OwnedSnapshot { workload_uid: workload.uid.clone(), snapshot };
    let owner = Owner { namespace: revision.namespace()?, name: workload.name.clone() };
    Some(Entry { owner, name: revision.name_any(), kept })
}

/// Keeps a ChangeRecord under its pilot.
pub fn reduce_change(record: &ChangeRecord) -> Entry<Change> {
    let created_at = created_at(&record.metadata);
    let name = record.name_any();
    let owner = Owner { namespace: record.namespace().unwrap_or_default(), name: record.spec.pilot.clone() };
    let ChangeRecordStatus { started_at, completed_at, outcome, approval_owed, approval, .. } =
        record.status.clone().unwrap_or_default();
    let kept = Change {
        name: name.clone(),
        class: record.spec.class,
        payload: record.spec.payload.clone(),
        parts: record.spec.workloads.clone(),
        started_at: started_at.unwrap_or(created_at),
        completed_at,
        outcome,
        approval_owed,
        approval,
    };
    Entry { owner, name, kept }
}

/// Keeps a Decision under its pilot. Of a record, and of one that has been judged, nobody asks any more why, nor who decided
/// but for the name, unless it is an Override: it counts until it ends.
pub fn reduce_decision(decision: &Decision) -> Entry<PilotDecision> {
    let created_at = created_at(&decision.metadata);
    let name = decision.name_any();
    let owner = Owner { namespace: decision.namespace().unwrap_or_default(), name: decision.spec.pilot.clone() };
    let by_operator = decision.spec.by.as_ref().is_some_and(|by| by.user == OPERATOR);
    let phase = decision.status.as_ref().and_then(|status| status.phase);
    let is_record = by_operator && decision.spec.record.is_some();
    let is_over = is_record || (phase.is_some() && decision.spec.type_ != DecisionType::Override);
    let (mut by, mut reason) = (decision.spec.by.clone(), decision.spec.reason.clone());
    if is_over {
        reason.clear();
        by = by.map(|by| Requester { user: by.user, groups: Vec::new() });
    }
    let kept = PilotDecision {
        name: name.clone(),
        type_: decision.spec.type_,
        incident: decision.spec.incident.clone(),
        payload: decision.spec.payload.clone(),
        change: decision.spec.change.clone(),
        until: decision.spec.until,
        fix: decision.spec.fix,
        reason,
        is_record,
        origin: decision.spec.record.as_ref().and_then(|record| record.origin),
        by,
        created_at,
        received_at: decision.annotations().get(RECEIVED_AT).and_then(|text| text.parse().ok()),
        follows: decision.spec.record.as_ref().and_then(|record| record.decision.clone()),
        quarantined: decision.spec.record.as_ref().map(|record| record.quarantined.clone()).unwrap_or_default(),
        phase,
    };
    Entry { owner, name, kept }
}

fn created_at(metadata: &ObjectMeta) -> Timestamp {
    metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

#[cfg(test)]
mod tests {
    use axum::extract::RawQuery;
    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Json, Router};
    use jiff::tz::TimeZoneDatabase;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::api::decision::DecisionPhase;
    use crate::api::pilot::Pilot;

    fn decision(name: &str, until: &str) -> Value {
        let user = if name.starts_with("incident-") { OPERATOR } else { "ada" };
        json!({
            "apiVersion": "pilotguard.dev/v1alpha1",
            "kind": "Decision",
            "metadata": {"name": name, "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"pilot": "checkout", "type": "Continue", "reason": "because", "until": until,
                "by": {"user": user}},
        })
    }

    fn failure(code: StatusCode) -> (StatusCode, Json<Value>) {
        (
            code,
            Json(
                json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": if code == StatusCode::NOT_FOUND { "NotFound" } else { "BadRequest" }}),
            ),
        )
    }

    /// An API server that has nothing but Decisions, which it gives out one a page. `selects` says whether it can select
    /// those that are not judged.
    async fn api_server(selects: bool) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let page = |items: Vec<Value>, next: &str| {
            (StatusCode::OK, Json(json!({"metadata": {"continue": next}, "items": items})))
        };
        let decisions = get(async move |RawQuery(query): RawQuery| {
            let query = query.unwrap_or_default();
            let unjudged =
                "fieldSelector=spec.pilot%3Dcheckout%2Cstatus.phase%3D%2Cspec.by.user%21%3Dsystem%3Apilotguard";
            let of_pilot = "fieldSelector=spec.pilot%3Dcheckout&";
            if !query.contains(if selects { unjudged } else { of_pilot })
                || !query.split('&').any(|it| it == "limit=20")
            {
                return failure(StatusCode::BAD_REQUEST);
            }
            match query.split_once("continue=").map(|(_, token)| token) {
                None => page(vec![decision("first", "2026-01-01T01:00:00Z")], "2"),
                Some("2") => page(vec![decision("unreadable", "9999-12-31T23:59:59Z")], "3"),
                Some("3") if !selects => page(vec![judged()], "4"),
                Some(_) => page(vec![decision("last", "2026-01-01T02:00:00Z")], ""),
            }
        });
        let empty = get(async move || Json(json!({"metadata": {}, "items": []})));
        let none = get(async || failure(StatusCode::NOT_FOUND));
        let router = Router::new()
            .route("/apis/pilotguard.dev/v1alpha1/namespaces/shop/decisions", decisions)
            .route("/apis/apps/v1/namespaces/shop/controllerrevisions", empty)
            .route("/apis/apps/v1/namespaces/shop/deployments/checkout", none);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap()
    }

    fn judged() -> Value {
        let mut judged = decision("judged", "2026-01-01T01:00:00Z");
        judged["status"] = json!({"phase": "Accepted"});
        judged
    }

    fn declaration() -> Declaration {
        let pilot: Pilot = serde_json::from_value(json!({
            "apiVersion": "pilotguard.dev/v1alpha1",
            "kind": "Pilot",
            "metadata": {"name": "checkout", "namespace": "shop", "uid": "1"},
            "spec": {
                "intent": {"summary": "s", "hypothesis": "h", "decisionDate": "2030-01-01T00:00:00Z"},
                "owners": {"serviceOwner": {"name": "Sam"}},
                "workloads": [{"kind": "Deployment", "name": "checkout"}],
                "changes": {"windows": [{"name": "always", "kind": "Allow", "always": true}]},
            },
        }))
        .unwrap();
        Declaration::parse(&pilot, &TimeZoneDatabase::bundled()).unwrap()
    }

    async fn live_decisions(selects: bool) -> Vec<String> {
        let declaration = declaration();
        let seen = Cluster::default().observe_live(&api_server(selects).await, &declaration).await.unwrap();
        seen.decisions.iter().map(|decision| decision.name.clone()).collect()
    }

    #[tokio::test]
    async fn a_live_reading_reads_every_page_and_passes_over_what_cannot_be_read() {
        assert_eq!(live_decisions(true).await, ["first", "last"]);
    }

    #[tokio::test]
    async fn where_an_older_definition_cannot_select_all_decisions_are_read() {
        assert_eq!(live_decisions(false).await, ["first", "last"]);
    }

    #[test]
    fn observing_copies_no_history_and_sees_what_changed() {
        let cluster = Cluster::default();
        let declaration = declaration();
        let see = |number: i64| {
            let decision = serde_json::from_value(decision(&format!("d{number}"), "2026-01-01T01:00:00Z")).unwrap();
            cluster.decisions.see(&Event::Apply(decision), |decision| Some(reduce_decision(decision)));
        };
        see(1);
        let (first, again) = (cluster.observe(&declaration), cluster.observe(&declaration));
        assert!(Arc::ptr_eq(&first.decisions, &again.decisions) && Arc::ptr_eq(&first.changes, &again.changes));
        assert!(Arc::ptr_eq(&first.decisions, &cluster.decisions_of(&declaration.pilot)), "nor does admission");
        see(2);
        assert_eq!(cluster.observe(&declaration).decisions.len(), 2);
    }

    #[test]
    fn of_a_judged_decision_only_what_counts_is_kept() {
        let mut object = decision("incident-1", "2026-01-01T01:00:00Z");
        object["spec"]["by"]["groups"] = json!(["system:authenticated"]);
        object["spec"]["record"] = json!({
            "trigger": "slow", "openedAt": "2026-01-01T00:00:00Z", "closedAt": "2026-01-01T00:00:00Z",
            "decidedBy": "Person", "carriedOut": true,
        });
        let read = |object: &Value| reduce_decision(&serde_json::from_value(object.clone()).unwrap()).kept;
        let record = read(&object);
        assert_eq!((record.reason.as_str(), record.is_record, record.is_unjudged()), ("", true, false));
        object["spec"]["record"].take();
        object["spec"]["by"]["user"] = json!("ada");
        let fresh = read(&object);
        assert_eq!((fresh.reason.as_str(), fresh.is_record, fresh.is_unjudged()), ("because", false, true));
        assert_eq!(fresh.by.unwrap().groups, ["system:authenticated"]);
        object["status"] = json!({"phase": "Accepted"});
        let judged = read(&object);
        assert_eq!(judged.phase, Some(DecisionPhase::Accepted));
        let by = judged.by.unwrap();
        assert_eq!((judged.reason.as_str(), by.user.as_str(), judged.is_record), ("", "ada", false));
        assert_eq!(by.groups, Vec::<String>::new(), "nobody asks for them any more");
    }
}
