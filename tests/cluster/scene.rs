//! A team with a service in a namespace of its own, and an operator that looks after it.
//!
//! People here are ordinary: Grace and Ada may edit the namespace, Ada is also the service owner whom the Pilot names,
//! and Mallory may edit and is nobody's owner.

use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp, Zoned};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use pilotguard::api::change_record::{ChangeClass, ChangeRecord};
use pilotguard::api::decision::Decision;
use pilotguard::api::incident::Incident;
use pilotguard::api::pilot::Pilot;
use pilotguard::api::status::{ReleaseState, SloStatus, SloVerdict};
use pilotguard::api::workload::{PartKind, PartReference};
use pilotguard::observe::cluster::read_workload;
use pilotguard::release::marks::Marks;
use pilotguard::release::ownership::owes_fields;
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{DemoService, Operator, Output, Person, ServiceOptions};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Pause between two looks: many scenes look at once.
const PAUSE: Duration = Duration::from_millis(150);

/// A Deployment and the Pilot that guards it, both called `web`.
pub(crate) struct Scene<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) operator: &'a Operator,
    pub(crate) namespace: String,
    pub(crate) grace: Person,
    pub(crate) ada: Person,
    pub(crate) mallory: Person,
    pub(crate) service: DemoService,
    client: Client,
    begun: Timestamp,
}

impl<'a> Scene<'a> {
    /// A namespace of the operator that the tests share; nothing is in it yet.
    pub(crate) async fn set(cluster: &'a Cluster) -> anyhow::Result<Self> {
        let (operator, namespace) = cluster.shared_operator().await?;
        Box::pin(Self::set_with(cluster, operator, namespace)).await
    }

    /// As [`Scene::set`], with an operator that looks after this namespace.
    pub(crate) async fn set_with(
        cluster: &'a Cluster,
        operator: &'a Operator,
        namespace: String,
    ) -> anyhow::Result<Self> {
        let mut people = Vec::new();
        for name in ["grace", "ada", "mallory"] {
            let person = cluster.rig.person(name, &[]).await?;
            cluster.rig.grant(&person, &namespace, "edit").await?;
            people.push(person);
        }
        let [grace, ada, mallory] = <[Person; 3]>::try_from(people).ok().context("three people")?;
        let client = cluster.rig.admin().client()?;
        let options =
            ServiceOptions { namespace: namespace.clone(), deployment: "web".to_owned(), requests_per_second: 100.0 };
        let service = DemoService::start(client.clone(), options).await?;
        cluster.rig.scrape_also(service.target()).await?;
        Ok(Self { cluster, operator, namespace, grace, ada, mallory, service, client, begun: Timestamp::now() })
    }

    /// Deploys the first release and declares the Pilot, and returns once the operator guards it.
    pub(crate) async fn guard(&self, pilot: &Value) -> anyhow::Result<()> {
        self.apply(&self.grace, &self.release(1, 0)).await?.accepted()?;
        self.declare(pilot).await?;
        self.guarded().await
    }

    /// As [`Scene::guard`], and returns once the first release is known to be good. What comes next bakes so long that
    /// no slow machine lets it be good by mistake.
    pub(crate) async fn bake(&self, pilot: &Value) -> anyhow::Result<()> {
        self.guard(pilot).await?;
        self.bake_no_more(pilot).await
    }

    /// Waits until the release that runs is known to be good, and lets what comes next bake for long.
    pub(crate) async fn bake_no_more(&self, pilot: &Value) -> anyhow::Result<()> {
        self.known_good().await?;
        let mut slow = pilot.clone();
        slow["spec"]["changes"]["bake"] = "10m".into();
        self.declare(&slow).await?;
        let generation = self.seen().await?.metadata.generation;
        let is_observed = |pilot: &Pilot| pilot.status.as_ref().is_some_and(|it| it.observed_generation == generation);
        self.until("status of the edited Pilot", is_observed).await.map(drop)
    }

    /// Declares a Pilot; the rights of `edit` on it appear a moment after the chart was installed.
    pub(crate) async fn declare(&self, pilot: &Value) -> anyhow::Result<()> {
        let declared = || async {
            let output = self.apply(&self.grace, pilot).await.map_err(|error| error.to_string())?;
            output.accepted().map_err(|error| error.to_string())
        };
        Ok(wait::until("Pilot that is accepted", PATIENCE, declared).await?)
    }

    /// A service account that may edit the namespace, as a GitOps tool has.
    pub(crate) async fn gitops_tool(&self, cluster: &Cluster) -> anyhow::Result<Person> {
        let accounts = self.api::<ServiceAccount>();
        let metadata = ObjectMeta { name: Some("gitops".to_owned()), ..ObjectMeta::default() };
        accounts.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await?;
        let tool = cluster.rig.service_account(&self.namespace, "gitops").await?;
        cluster.rig.grant(&tool, &self.namespace, "edit").await?;
        Ok(tool)
    }

    /// Waits until the Pilot is Ready: its release is adopted, and the webhook answers for it.
    pub(crate) async fn guarded(&self) -> anyhow::Result<()> {
        self.until("Ready Pilot", |pilot| holds(pilot, "Ready", "True")).await.map(drop)
    }

    /// Waits until the release that runs is known to be good, and until its SLOs have been known long enough that a
    /// release that follows at once can be blamed for what was not so before it.
    pub(crate) async fn known_good(&self) -> anyhow::Result<()> {
        let is_good = |pilot: &Pilot| {
            let status = pilot.status.as_ref();
            let release = status.and_then(|status| status.release.as_ref());
            let long_ago = Timestamp::now() - SignedDuration::from_secs(3);
            let is_known = |slo: &SloStatus| slo.verdict != SloVerdict::Unknown && slo.since < long_ago;
            let is_baked = release.is_some_and(|release| release.state == ReleaseState::KnownGood);
            is_baked && status.is_some_and(|status| status.slos.iter().all(is_known))
        };
        self.until("known-good release", is_good).await.map(drop)
    }

    /// A Deployment that runs this version and fails as many percent of its requests.
    pub(crate) fn release(&self, version: u32, fail_percent: u32) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": self.namespace},
            "spec": {
                "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{
                        "name": "web", "image": format!("web:{version}"),
                        "env": [{"name": "FAIL_PERCENT", "value": fail_percent.to_string()}],
                    }]},
                },
            },
        })
    }

    /// A Pilot that may always change and bakes fast, with these fields of its spec set or replaced.
    pub(crate) fn pilot(&self, fields: &Value) -> Value {
        let requests = |code: &str| format!(r#"http_requests_total{{namespace="{}"{code}}}"#, self.namespace);
        let mut pilot = json!({
            "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Pilot",
            "metadata": {"name": "web", "namespace": self.namespace},
            "spec": {
                "intent": {"summary": "One-click checkout", "decisionDate": "2999-01-01T00:00:00Z"},
                "owners": {"serviceOwner": {
                    "name": "Ada Lovelace", "contacts": ["ada@example.com"], "identities": {"users": ["ada"]},
                }},
                "workloads": [{"name": "web"}],
                "blastRadius": {"maxReplicas": 5},
                "changes": {"bake": "2s", "groupWithin": "0s", "windows": [{"name": "always", "always": true}]},
                "metricsSource": "rig",
                "slos": [{
                    "name": "availability", "target": "95", "window": {"rolling": "30s"}, "minEvents": 50,
                    "indicator": {"ratio": {"bad": requests(r#",code="500""#), "total": requests("")}},
                }],
            },
        });
        json_patch::merge(&mut pilot["spec"], fields);
        pilot
    }

    /// A window that opens in winter two years from now, and the day.
    pub(crate) fn later() -> (Value, String) {
        let day = jiff::civil::date(Zoned::now().year() + 2, 1, 15);
        let once = json!({"from": day.at(9, 0, 0, 0), "to": day.at(17, 0, 0, 0)});
        (json!({"name": "later", "timeZone": "Europe/Berlin", "once": once}), day.strftime("%a %Y-%m-%d").to_string())
    }

    /// A trigger that rolls back what burns twice as fast as it may, with these fields set or replaced. It holds for as
    /// long as it takes to measure what the newest release does. Its windows bridge the seconds for which Prometheus does
    /// not scrape while many scenes share a machine.
    pub(crate) fn trigger(fields: &Value) -> Value {
        let mut trigger = json!({
            "name": "burn", "for": "2s", "clearAfter": "2s", "decisionWindow": "10m", "action": "Rollback",
            "when": {"burnRate": {"slo": "availability", "long": "20s", "short": "10s", "factor": "2"}},
        });
        json_patch::merge(&mut trigger, fields);
        json!({"triggers": [trigger]})
    }

    /// Runs a kubectl command line in the namespace; its words are separated by single blanks.
    pub(crate) async fn kubectl(&self, person: &Person, line: &str) -> anyhow::Result<Output> {
        let words: Vec<&str> = line.split(' ').chain(["--namespace", &self.namespace]).collect();
        Ok(person.kubectl(&words).await?)
    }

    /// `kubectl apply` of one object.
    pub(crate) async fn apply(&self, person: &Person, object: &Value) -> anyhow::Result<Output> {
        Ok(person.kubectl_with(&["apply", "-f", "-"], &object.to_string()).await?)
    }

    /// Writes a Decision on the Pilot and returns it once the operator has judged it.
    pub(crate) async fn decide(&self, person: &Person, spec: &Value) -> anyhow::Result<Decision> {
        let output = self.propose(person, spec).await?;
        output.accepted()?;
        let name = output.stdout.trim().rsplit('/').next().unwrap_or_default().to_owned();
        self.judged(&name).await
    }

    /// What a person is answered who creates a Decision.
    pub(crate) async fn propose(&self, person: &Person, spec: &Value) -> anyhow::Result<Output> {
        let mut whole = json!({"pilot": "web", "reason": "we looked at it"});
        json_patch::merge(&mut whole, spec);
        let decision = json!({
            "apiVersion": "pilotguard.dev/v1alpha1", "kind": "Decision",
            "metadata": {"generateName": "web-", "namespace": self.namespace}, "spec": whole,
        });
        Ok(person.kubectl_with(&["create", "-o", "name", "-f", "-"], &decision.to_string()).await?)
    }

    /// Has the release that runs rolled back by a person's word, and returns once it is over.
    pub(crate) async fn rolled_back_by(&self, person: &Person) -> anyhow::Result<()> {
        let has_target = |pilot: &Pilot| pilot.status.as_ref().is_some_and(|status| status.rollback_target.is_some());
        self.until("target of a rollback", has_target).await?;
        self.decide(person, &json!({"type": "Rollback"})).await?;
        let is_over = |pilot: &Pilot| incident(pilot).is_none();
        let probe = || async {
            let marks = self.marks().await.map_err(|error| error.to_string())?;
            if marks.quarantined.is_empty() { Err(paused("nothing is quarantined".to_owned()).await) } else { Ok(()) }
        };
        wait::until("rollback", PATIENCE, probe).await?;
        self.until("end of the incident", is_over).await.map(drop)
    }

    /// Waits until the operator has said whether a Decision counts.
    pub(crate) async fn judged(&self, name: &str) -> anyhow::Result<Decision> {
        let api: Api<Decision> = self.api();
        let judged = || async {
            let decision = api.get(name).await.map_err(|error| error.to_string())?;
            let is_judged = decision.status.as_ref().is_some_and(|status| status.phase.is_some());
            if is_judged { Ok(decision) } else { Err(paused("not judged yet".to_owned()).await) }
        };
        Ok(wait::until("word on a Decision", PATIENCE, judged).await?)
    }

    /// The Pilot as it is.
    pub(crate) async fn seen(&self) -> anyhow::Result<Pilot> {
        Ok(self.api::<Pilot>().get("web").await?)
    }

    /// The Deployment as it is.
    pub(crate) async fn deployment(&self) -> anyhow::Result<Value> {
        self.workload(PartKind::Deployment).await
    }

    /// Waits until what pilotguard has set belongs to others again, or to nobody, and returns the Deployment: until then
    /// it is in conflict with an apply.
    pub(crate) async fn given_back(&self) -> anyhow::Result<Value> {
        let probe = || async {
            let deployment = self.deployment().await.map_err(|error| error.to_string())?;
            if owes_fields(&deployment) {
                return Err(paused(deployment["metadata"]["managedFields"].to_string()).await);
            }
            Ok(deployment)
        };
        Ok(wait::until("fields that are given back", PATIENCE, probe).await?)
    }

    /// The workload `web` of a kind as it is.
    pub(crate) async fn workload(&self, kind: PartKind) -> anyhow::Result<Value> {
        let reference = PartReference { kind, name: "web".to_owned() };
        read_workload(&self.client, &self.namespace, &reference)
            .await?
            .with_context(|| format!("there is no {reference}"))
    }

    /// What pilotguard wrote onto the Deployment.
    pub(crate) async fn marks(&self) -> anyhow::Result<Marks> {
        let annotations = pilotguard::release::workload::annotations(&self.deployment().await?);
        Ok(Marks::read(&annotations))
    }

    /// Waits until the Pilot is as described.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Pilot) -> bool) -> anyhow::Result<Pilot> {
        self.until_of("web", what, is_so).await
    }

    /// As [`Scene::until`], for a Pilot of another name.
    pub(crate) async fn until_of(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&Pilot) -> bool,
    ) -> anyhow::Result<Pilot> {
        let api: Api<Pilot> = self.api();
        let probe = || async {
            self.operator.check().map_err(|error| error.to_string())?;
            let pilot = api.get(name).await.map_err(|error| error.to_string())?;
            if is_so(&pilot) {
                Ok(pilot)
            } else {
                Err(paused(serde_json::to_string(&pilot.status).unwrap_or_default()).await)
            }
        };
        Ok(wait::until(what, PATIENCE, probe).await?)
    }

    /// Waits until an incident is open.
    pub(crate) async fn incident(&self) -> anyhow::Result<Incident> {
        let pilot = self.until("incident", |pilot| incident(pilot).is_some()).await?;
        incident(&pilot).cloned().context("an incident")
    }

    /// Waits until no incident is open, and returns the record of the one of this id.
    pub(crate) async fn closed(&self, id: &str) -> anyhow::Result<Decision> {
        self.until("end of the incident", |pilot| incident(pilot).is_none()).await?;
        Ok(self.api::<Decision>().get(&format!("incident-{id}")).await?)
    }

    /// The ChangeRecords, oldest first.
    pub(crate) async fn changes(&self) -> anyhow::Result<Vec<ChangeRecord>> {
        let mut changes = self.api::<ChangeRecord>().list(&ListParams::default()).await?.items;
        changes.sort_by_key(|change| change.status.as_ref().and_then(|status| status.started_at));
        Ok(changes)
    }

    /// Waits until a ChangeRecord of this class is as described.
    pub(crate) async fn change(
        &self,
        class: ChangeClass,
        is_so: impl Fn(&ChangeRecord) -> bool,
    ) -> anyhow::Result<ChangeRecord> {
        let probe = || async {
            let changes = self.changes().await.map_err(|error| error.to_string())?;
            match changes.iter().find(|change| change.spec.class == class && is_so(change)) {
                Some(change) => Ok(change.clone()),
                None => Err(paused(serde_json::to_string(&changes).unwrap_or_default()).await),
            }
        };
        Ok(wait::until("ChangeRecord", PATIENCE, probe).await?)
    }

    /// The reasons of the Events on an object of this kind that is called `web`, oldest first.
    pub(crate) async fn events(&self, kind: &str) -> anyhow::Result<Vec<String>> {
        let mut events = self.api::<Event>().list(&ListParams::default()).await?.items;
        events.retain(|event| {
            let by_operator = event.reporting_controller.as_deref() == Some("pilotguard.dev/pilotguard");
            let regarding = event.regarding.as_ref();
            by_operator && regarding.is_some_and(|object| object.kind.as_deref() == Some(kind))
        });
        events.sort_by_key(|event| event.event_time.clone());
        Ok(events.into_iter().filter_map(|event| event.reason).collect())
    }

    /// How often the operator has changed the Deployment in this scene; dry-runs are none.
    pub(crate) fn patches(&self) -> anyhow::Result<usize> {
        let events = self.cluster.rig.audit()?;
        let patches = events.iter().filter(|event| {
            (event.at >= self.begun && !event.dry_run && event.code == 200)
                && (event.user == self.operator.account.name && event.namespace == self.namespace)
                && (event.resource == "deployments")
        });
        Ok(patches.count())
    }

    /// Objects of a kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

async fn paused(why: String) -> String {
    tokio::time::sleep(PAUSE).await;
    why
}

/// The open incident.
pub(crate) fn incident(pilot: &Pilot) -> Option<&Incident> {
    pilot.status.as_ref()?.incident.as_ref()
}

/// A condition of the Pilot.
pub(crate) fn condition<'a>(pilot: &'a Pilot, type_: &str) -> Option<&'a Condition> {
    pilot.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether a condition has this status.
pub(crate) fn holds(pilot: &Pilot, type_: &str, status: &str) -> bool {
    condition(pilot, type_).is_some_and(|condition| condition.status == status)
}

/// What became of a command.
pub(crate) trait Outcome {
    /// Fails unless the command succeeded.
    fn accepted(&self) -> anyhow::Result<()>;
    /// Fails unless the command failed and said all of this.
    fn refused(&self, texts: &[&str]) -> anyhow::Result<()>;
}

/// Runs a command again as a person does who is told that somebody else wrote in between: `kubectl replace` and `edit`
/// read and write in two steps, and the Deployment's controller writes at any time.
pub(crate) async fn uncontended<E, F>(run: impl Fn() -> F) -> anyhow::Result<Output>
where
    E: Into<anyhow::Error>,
    F: Future<Output = Result<Output, E>>,
{
    let attempt = || async {
        match run().await {
            Ok(output) if output.stderr.contains("the object has been modified") => Err(output.stderr),
            other => Ok(other),
        }
    };
    wait::until("write without a conflict", PATIENCE, attempt).await?.map_err(Into::into)
}

impl Outcome for Output {
    fn accepted(&self) -> anyhow::Result<()> {
        ensure!(self.succeeded(), "refused: {}", self.stderr);
        Ok(())
    }

    fn refused(&self, texts: &[&str]) -> anyhow::Result<()> {
        ensure!(!self.succeeded(), "accepted: {}{}", self.stdout, self.stderr);
        for text in texts {
            ensure!(self.stderr.contains(text), "{text:?} is not in: {}", self.stderr);
        }
        Ok(())
    }
}
