//! A scene whose Deployment and Pilot live in Git and are brought to the cluster by Argo CD.

use anyhow::ensure;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::ResourceExt;
use kube::api::ListParams;
use pilotguard::api::decision::DecisionPhase;
use pilotguard::api::pilot::Pilot;
use pilotguard_rig::wait::{self, PATIENCE};
use serde_json::{Value, json};

use super::application::{Application, paused};
use super::table::{self, Outcome};
use crate::cluster::Cluster;
use crate::scene::{Scene, condition, incident};

/// Says on a Pilot from which commit it is.
const COMMITTED: &str = "example.com/committed";

/// A scene that is delivered from Git.
pub(super) struct Delivery<'a> {
    pub(super) scene: Scene<'a>,
    pub(super) application: Application<'a>,
}

impl<'a> Delivery<'a> {
    /// Commits the first release and the Pilot, and returns once Argo CD has brought both and the release is known to be
    /// good. `more` is merged into the Application.
    pub(super) async fn begin(cluster: &'a Cluster, more: &Value, pilot: &Value) -> anyhow::Result<Self> {
        let scene = Scene::set(cluster).await?;
        let first = [("web.yaml", scene.release(1, 0)), ("pilot.yaml", scene.pilot(pilot))];
        let application = Application::create(cluster, &scene.namespace, &first, more).await?;
        let is_there = |seen: &Value| seen["status"]["operationState"]["phase"] == "Succeeded";
        application.until("first sync", is_there).await?;
        scene.known_good().await?;
        scene.guarded().await?;
        Ok(Self { scene, application })
    }

    /// Commits a release: this version, which fails as many percent of its requests.
    pub(super) async fn commit_release(&self, version: u32, fail_percent: u32) -> anyhow::Result<()> {
        self.application.commit(&[("web.yaml", self.scene.release(version, fail_percent))]).await
    }

    /// Commits the Pilot with these fields of its spec, and returns once the operator has read it.
    pub(super) async fn commit_pilot(&self, fields: &Value) -> anyhow::Result<()> {
        let mut pilot = self.scene.pilot(fields);
        let mark = Timestamp::now().to_string();
        pilot["metadata"]["annotations"] = json!({COMMITTED: mark});
        self.application.commit(&[("pilot.yaml", pilot)]).await?;
        let is_read = |seen: &Pilot| {
            seen.annotations().get(COMMITTED) == Some(&mark)
                && seen.status.as_ref().is_some_and(|status| status.observed_generation == seen.metadata.generation)
        };
        self.scene.until("Pilot as committed", is_read).await.map(drop)
    }

    /// A person rolls back what runs; returns once the incident is over.
    pub(super) async fn roll_back(&self, bad: &str) -> anyhow::Result<()> {
        let scene = &self.scene;
        self.runs_only(bad).await?;
        scene.until("target of a rollback", has_target).await?;
        // A word of the same second as the rollout might speak of what ran before: it has to be written again.
        let word = || async {
            let decision = scene.decide(&scene.mallory, &json!({"type": "Rollback"})).await;
            let status = decision.map_err(|error| error.to_string())?.status.unwrap_or_default();
            if status.phase == Some(DecisionPhase::Accepted) {
                Ok(())
            } else {
                Err(paused(format!("{status:?}")).await)
            }
        };
        wait::until("accepted Decision", PATIENCE, word).await?;
        scene.until("end of the incident", |pilot| incident(pilot).is_none() && !has_target(pilot)).await.map(drop)
    }

    /// Waits until all pods run this image.
    pub(super) async fn runs_only(&self, image: &str) -> anyhow::Result<()> {
        let probe = || async {
            let runs = self.runs().await.map_err(|error| error.to_string())?;
            if runs == image { Ok(()) } else { Err(paused(runs).await) }
        };
        Ok(wait::until("rollout", PATIENCE, probe).await?)
    }

    /// Waits until the cluster shows what this row of the table says.
    pub(super) async fn shows(&self, row: &str) -> anyhow::Result<()> {
        let expected = table::row(row)?;
        let probe = || async {
            self.scene.operator.check().map_err(|error| error.to_string())?;
            let (found, said) = self.outcome().await.map_err(|error| error.to_string())?;
            if found == expected { Ok(()) } else { Err(paused(format!("{found:?}, {said}")).await) }
        };
        Ok(wait::until(&format!("{row:?} in {}: {expected:?}", self.scene.namespace), PATIENCE, probe).await?)
    }

    /// What is to be seen now, and what Argo CD says of it.
    async fn outcome(&self) -> anyhow::Result<(Outcome, String)> {
        let seen = self.application.seen().await?;
        let text = |pointer: &str| seen.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let pilot = self.scene.seen().await?;
        let kept_out = condition(&pilot, "UpToDate").filter(|condition| condition.status == "False");
        let ready = kept_out.or(condition(&pilot, "Ready")).map(|ready| ready.reason.clone());
        let outcome = Outcome {
            sync: text("/status/sync/status"),
            health: text("/status/health/status"),
            last_sync: text("/status/operationState/phase"),
            runs: self.runs().await?,
            pilot: ready.unwrap_or_default(),
        };
        let resources = seen["status"]["resources"].as_array().into_iter().flatten();
        let differing: Vec<&Value> = resources.filter(|it| it["status"] != "Synced").map(|it| &it["kind"]).collect();
        let message = text("/status/operationState/message");
        let said = format!("{differing:?} differ, saying {message:?}, {}", seen["status"]["conditions"]);
        Ok((outcome, said))
    }

    /// The images of the ReplicaSets that have pods.
    async fn runs(&self) -> anyhow::Result<String> {
        let sets = self.scene.api::<ReplicaSet>().list(&ListParams::default()).await?;
        let live = sets.items.iter().filter(|set| set.status.as_ref().is_some_and(|status| status.replicas > 0));
        let pods = live.filter_map(|set| set.spec.as_ref()?.template.as_ref()?.spec.as_ref());
        let mut images: Vec<String> = pods.filter_map(|pod| pod.containers.first()?.image.clone()).collect();
        images.sort();
        Ok(images.join(", "))
    }

    /// Waits until Argo CD has tried so many times more; none of it may change what is stored.
    pub(super) async fn withstands(&self, attempts: usize) -> anyhow::Result<()> {
        let before = self.scene.deployment().await?;
        self.application.tries_again(attempts).await?;
        let after = self.scene.deployment().await?;
        for field in ["/spec", "/metadata/generation", "/metadata/annotations"] {
            let [was, is] = [&before, &after].map(|deployment| deployment.pointer(field));
            ensure!(was == is, "an attempt changed {field}: {was:#?} to {is:#?}");
        }
        Ok(())
    }
}

fn has_target(pilot: &Pilot) -> bool {
    pilot.status.as_ref().is_some_and(|status| status.rollback_target.is_some())
}
