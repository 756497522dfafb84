//! An Application of Argo CD, and the Git repository that it brings to the cluster.

use std::time::Duration;

use anyhow::ensure;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{ArgoCd, AuditEvent, Repository, argocd};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Pause between two looks: many trials look at once.
const PAUSE: Duration = Duration::from_millis(250);

/// How long Argo CD may take to look where it is asked to.
const ANSWER: Duration = Duration::from_secs(15);

/// What is in a Git repository, and brought to a namespace of the same name as the Application.
pub(super) struct Application<'a> {
    cluster: &'a Cluster,
    argocd: &'a ArgoCd,
    repository: Repository,
    api: Api<DynamicObject>,
    namespace: String,
}

impl<'a> Application<'a> {
    /// Commits these objects, by file, and has them brought to this namespace. `more` is merged into the Application: a
    /// plain one syncs and heals itself, and prunes.
    pub(super) async fn create(
        cluster: &'a Cluster,
        namespace: &str,
        objects: &[(&str, Value)],
        more: &Value,
    ) -> anyhow::Result<Self> {
        let argocd = cluster.argocd().await?;
        let repository = Repository::create(&cluster.rig.directory().join("git").join(namespace)).await?;
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application"));
        let api = Api::namespaced_with(cluster.rig.admin().client()?, argocd::NAMESPACE, &kind);
        let mut object = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": {"name": namespace, "namespace": argocd::NAMESPACE},
            "spec": {
                "project": "default",
                "source": {"repoURL": repository.url(), "path": ".", "targetRevision": "main"},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
                "syncPolicy": {"automated": {"selfHeal": true, "prune": true}},
            },
        });
        json_patch::merge(&mut object, more);
        let application = Self { cluster, argocd, repository, api, namespace: namespace.to_owned() };
        application.write(objects).await?;
        application.api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(application)
    }

    /// Commits these objects and returns once Argo CD has compared the cluster with the commit.
    pub(super) async fn commit(&self, objects: &[(&str, Value)]) -> anyhow::Result<()> {
        let revision = self.write(objects).await?;
        self.look().await?;
        let compared = |application: &Value| application["status"]["sync"]["revision"] == revision;
        self.until("comparison with a commit", compared).await.map(drop)
    }

    async fn write(&self, objects: &[(&str, Value)]) -> anyhow::Result<String> {
        let texts: Vec<(&str, String)> =
            objects.iter().map(|(name, object)| (*name, format!("{object:#}\n"))).collect();
        let files: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
        Ok(self.repository.commit("as the team wants it", &files).await?)
    }

    /// Has Argo CD look at Git and at the cluster, and returns once it did.
    pub(super) async fn look(&self) -> anyhow::Result<()> {
        const REFRESH: &str = "argocd.argoproj.io/refresh";
        // Argo CD overlooks a request that comes while it writes its own status: it is asked again, in other words.
        let mut words = ["hard", "normal"].into_iter().cycle();
        let probe = || {
            let asked = json!({"metadata": {"annotations": {REFRESH: words.next()}}});
            async move {
                let (params, patch) = (PatchParams::default(), Patch::Merge(asked));
                self.api.patch(&self.namespace, &params, &patch).await.map_err(|error| error.to_string())?;
                let looked = |seen: &Value| seen["metadata"]["annotations"][REFRESH].is_null();
                self.until_within(ANSWER, "look of Argo CD", looked).await.map(drop).map_err(|error| error.to_string())
            }
        };
        Ok(wait::until("look of Argo CD", PATIENCE, probe).await?)
    }

    /// Waits until the Application is as described.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        self.until_within(PATIENCE, what, is_so).await
    }

    async fn until_within(&self, limit: Duration, what: &str, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let probe = || async {
            let application = self.seen().await.map_err(|error| error.to_string())?;
            if is_so(&application) { Ok(application) } else { Err(paused(application["status"].to_string()).await) }
        };
        Ok(wait::until(&format!("{what} in {}", self.namespace), limit, probe).await?)
    }

    /// The Application as it is.
    pub(super) async fn seen(&self) -> anyhow::Result<Value> {
        self.argocd.check()?;
        Ok(serde_json::to_value(self.api.get(&self.namespace).await?)?)
    }

    /// What Argo CD has asked to change in the namespace, of this plural resource; dry-runs are none.
    pub(super) fn writes(&self, resource: &str) -> anyhow::Result<Vec<AuditEvent>> {
        let mut events = self.cluster.rig.audit()?;
        events.retain(|event| {
            (!event.dry_run && event.user == self.argocd.account.name)
                && (event.namespace == self.namespace && event.resource == resource)
        });
        Ok(events)
    }

    /// Waits until Argo CD has written Deployments so many times more.
    pub(super) async fn tries_again(&self, times: usize) -> anyhow::Result<()> {
        let before = self.writes("deployments")?.len();
        let probe = || async {
            let more = self.writes("deployments").map_err(|error| error.to_string())?.len() - before;
            if more >= times { Ok(()) } else { Err(paused(format!("{more} of {times}")).await) }
        };
        wait::until("attempts of Argo CD", PATIENCE, probe).await?;
        let user = &self.argocd.account.name;
        ensure!(user == "system:serviceaccount:argocd:argocd-application-controller", "{user}");
        Ok(())
    }
}

pub(super) async fn paused(why: String) -> String {
    tokio::time::sleep(PAUSE).await;
    why
}
