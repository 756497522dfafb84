//! A ChangeCalendar of a platform team freezes the namespaces that it selects: a person is refused, what a GitOps tool
//! applies waits, and both go on when the freeze is taken away.

use anyhow::ensure;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pilotguard::api::change_calendar::ChangeCalendar;
use pilotguard::api::pilot::Pilot;
use pilotguard_rig::Output;
use pilotguard_rig::wait::{self, PATIENCE};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::held::{apply, image, managed, reason};
use crate::scene::{Outcome, Scene, condition, holds};

tests![
    a_calendar_freezes_the_namespaces_that_it_selects,
    a_label_opts_a_pilot_further_in,
    a_calendar_that_cannot_be_used_is_refused_at_apply,
];

async fn a_calendar_freezes_the_namespaces_that_it_selects(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    let tool = scene.gitops_tool(cluster).await?;
    scene.guard(&scene.pilot(&json!({"slos": []}))).await?;
    let platform = Platform::of(cluster, &scene)?;
    platform.write(&json!({"matchLabels": {"stage": &scene.namespace}}), &freeze()).await?.accepted()?;
    // It selects by a label that the namespace does not have yet: nothing is frozen.
    platform.until("Ready").await?;
    ensure!(holds(&scene.seen().await?, "WindowOpen", "True"), "it narrows whom it does not select");

    platform.label(Some(&scene.namespace)).await?;
    let pilot = scene.until("frozen Pilot", |pilot| window(pilot) == Some("Frozen")).await?;
    let says = condition(&pilot, "WindowOpen").map(|it| it.message.clone()).unwrap_or_default();
    let freeze = format!("in a freeze: migration of calendar {}", platform.name);
    ensure!(says == format!("{freeze}; no window opens again"), "{says}");
    ensure!(pilot.status.is_some_and(|status| status.next_open.is_none()), "an endless freeze has no end");
    let freeze = format!("{freeze} (Database migration)");
    let admins = format!("allowed after a platform admin lets calendar {} open again", platform.name);
    let set = "set image deployment/web web=web:2";
    scene.kubectl(&scene.grace, set).await?.refused(&[&freeze, &admins, "Owner: Ada Lovelace"])?;

    let output = apply(&tool, &managed(&scene, 3)).await?;
    output.accepted()?;
    ensure!(output.stderr.contains("pilotguard holds this until it is allowed: "), "{}", output.stderr);
    scene.until("Pilot that says what is held", |pilot| reason(pilot) == Some("ChangeHeld")).await?;
    told(&scene, "HeldChangeWaiting").await?;

    // Taking the freeze away wakes the pilot, and lets out what waits.
    platform.delete().await?;
    scene.until("release of what was held", |pilot| reason(pilot) == Some("NothingKeptOut")).await?;
    ensure!(image(&scene.deployment().await?) == "web:3", "what was held is out");
    told(&scene, "HeldChangeReleased").await?;
    scene.kubectl(&scene.grace, "set image deployment/web web=web:4").await?.accepted()
}

async fn a_label_opts_a_pilot_further_in(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    scene.guard(&scene.pilot(&json!({"slos": []}))).await?;
    let platform = Platform::of(cluster, &scene)?;
    // It selects nobody: only who names it is narrowed.
    platform.write(&Value::Null, &freeze()).await?.accepted()?;
    platform.until("Ready").await?;
    ensure!(holds(&scene.seen().await?, "WindowOpen", "True"), "it narrows whom it does not select");
    let label = format!("label pilot web pilotguard.dev/calendar={}", platform.name);
    scene.kubectl(&scene.grace, &label).await?.accepted()?;
    scene.until("frozen Pilot", |pilot| window(pilot) == Some("Frozen")).await?;
    scene.kubectl(&scene.grace, "set image deployment/web web=web:2").await?.refused(&["in a freeze: migration"])?;

    // Without the calendar nobody knows what it would say.
    platform.delete().await?;
    scene.until("Pilot that misses its calendar", |pilot| window(pilot) == Some("CalendarUnusable")).await?;
    let missing = format!("calendar {} counts as closed, because it does not exist", platform.name);
    scene.kubectl(&scene.grace, "set image deployment/web web=web:2").await?.refused(&[&missing])?;
    scene.kubectl(&scene.grace, "label pilot web pilotguard.dev/calendar-").await?.accepted()?;
    scene.until("open Pilot", |pilot| window(pilot) == Some("Open")).await?;
    scene.kubectl(&scene.grace, "set image deployment/web web=web:2").await?.accepted()
}

async fn a_calendar_that_cannot_be_used_is_refused_at_apply(cluster: &Cluster) -> anyhow::Result<()> {
    let scene = Scene::set(cluster).await?;
    // Once a Pilot is guarded, the webhook is asked.
    scene.guard(&scene.pilot(&json!({"slos": []}))).await?;
    let platform = Platform::of(cluster, &scene)?;
    let odd = json!([{"name": "odd", "timeZone": "Europe/Berln", "always": true}]);
    let unknown = r#"spec.windows[name=odd].timeZone: unknown time zone "Europe/Berln""#;
    platform.write(&Value::Null, &odd).await?.refused(&[unknown])
}

fn freeze() -> Value {
    json!([{"name": "migration", "kind": "Deny", "reason": "Database migration", "always": true}])
}

fn window(pilot: &Pilot) -> Option<&str> {
    condition(pilot, "WindowOpen").map(|condition| condition.reason.as_str())
}

async fn told(scene: &Scene<'_>, reason: &str) -> anyhow::Result<()> {
    let told = || async {
        let events = scene.events("Deployment").await.map_err(|error| error.to_string())?;
        if events.iter().any(|event| event == reason) { Ok(()) } else { Err(format!("{events:?}")) }
    };
    Ok(wait::until("Event", PATIENCE, told).await?)
}

/// The platform team, with a calendar of its own for each test.
struct Platform<'a> {
    cluster: &'a Cluster,
    namespace: String,
    name: String,
    calendars: Api<ChangeCalendar>,
}

impl<'a> Platform<'a> {
    fn of(cluster: &'a Cluster, scene: &Scene<'_>) -> anyhow::Result<Self> {
        let calendars = Api::all(cluster.rig.admin().client()?);
        let name = format!("for-{}", scene.namespace);
        Ok(Self { cluster, namespace: scene.namespace.clone(), name, calendars })
    }

    async fn write(&self, selector: &Value, windows: &Value) -> anyhow::Result<Output> {
        let mut calendar = json!({
            "apiVersion": "pilotguard.dev/v1alpha1", "kind": "ChangeCalendar", "metadata": {"name": self.name},
            "spec": {"windows": windows},
        });
        if !selector.is_null() {
            calendar["spec"]["namespaceSelector"] = selector.clone();
        }
        Ok(self.cluster.rig.admin().kubectl_with(&["apply", "-f", "-"], &calendar.to_string()).await?)
    }

    /// Sets the label of the namespace by which calendars select here.
    async fn label(&self, stage: Option<&str>) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"stage": stage}}}));
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.cluster.rig.admin().client()?);
        namespaces.patch(&self.namespace, &PatchParams::default(), &patch).await.map(drop)?;
        Ok(())
    }

    /// Waits until this condition of the calendar is True.
    async fn until(&self, type_: &str) -> anyhow::Result<ChangeCalendar> {
        let probe = || async {
            let calendar = self.calendars.get(&self.name).await.map_err(|error| error.to_string())?;
            let conditions = calendar.status.iter().flat_map(|status| &status.conditions);
            let is_so = conditions.clone().any(|it| it.type_ == type_ && it.status == "True");
            if is_so { Ok(calendar) } else { Err(format!("{:?}", conditions.collect::<Vec<_>>())) }
        };
        Ok(wait::until("condition of the calendar", PATIENCE, probe).await?)
    }

    async fn delete(&self) -> anyhow::Result<()> {
        self.calendars.delete(&self.name, &DeleteParams::default()).await.map(drop)?;
        Ok(())
    }
}
