//! Around the story: where it is played, what an interrupt does, and what is left when it ends.

use std::path::Path;

use anyhow::anyhow;
use pilotguard_rig::Access;

use crate::narrator::Narrator;
use crate::stage::Stage;
use crate::story::{STEPS, Story};
use crate::visit::{self, Visit};

/// Plays the whole story, on the cluster of this kubeconfig where one is given; with `keep` all of it goes on running
/// until it is interrupted.
pub(crate) async fn play(keep: bool, kubeconfig: Option<&Path>) -> anyhow::Result<()> {
    let mut narrator = Narrator::new(STEPS);
    let access = kubeconfig.map(Access::read).transpose()?;
    begin(&mut narrator, access.as_ref());
    let rig = Stage::rig(access.as_ref()).await?;
    let visit = if access.is_some() { Some(Visit::begin(rig.clone()).await?) } else { None };
    if visit.is_some() {
        visit::announce(&narrator, rig.host_address()?);
    }
    rig.keep();
    let told = tokio::select! {
        told = Box::pin(Story::tell_on(rig.clone(), narrator)) => told,
        _ = tokio::signal::ctrl_c() => {
            rig.let_go();
            Err(anyhow!("interrupted; all that was started has ended"))
        }
    };
    let outcome = match told {
        Ok(story) => story.end(keep).await,
        Err(error) => Err(error),
    };
    match visit {
        Some(visit) => visit.end(outcome).await,
        None => outcome,
    }
}

fn begin(narrator: &mut Narrator, access: Option<&Access>) {
    let Some(access) = access else {
        narrator.step("A real control plane, a real Prometheus, and pilotguard");
        narrator.say(
            "etcd, kube-apiserver, its controllers and Prometheus run as plain processes; only the pods are played \
             (kwok). pilotguard is installed with its Helm chart and runs with the chart's own account and rights.",
        );
        narrator.say("Starting, in about ten seconds ...");
        return;
    };
    narrator.step("Your cluster, a real Prometheus, and pilotguard");
    narrator.say(&format!("The cluster: {}, context {}.", access.server, access.context));
}
