//! The story, step by step. Each step says what happens and why, lets people type real commands, and then asks the API
//! server whether it really happened; a step that does not come true by its deadline ends the story.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::ListParams;
use pilotguard::api::change_record::{ChangeClass, ChangeRecord, Outcome};
use pilotguard::api::decision::{Decision, DecisionType};
use pilotguard::api::incident::{DecidedBy, Incident, IncidentStage};
use pilotguard::api::status::{PilotStatus, ReleaseState};
use pilotguard::api::trigger::TriggerAction;
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{Output, Person, Rig, Tool};

use crate::chronicle::Chronicle;
use crate::figures;
use crate::narrator::Narrator;
use crate::probe::Probe;
use crate::stage::{NAME, NAMESPACE, Stage, run, succeed};

/// How many steps it has.
pub(crate) const STEPS: usize = 11;
const REQUESTS_PER_SECOND: f64 = 100.0;

/// From the Pilot's application to the opening of its window.
const UNTIL_OPEN: SignedDuration = SignedDuration::from_secs(16);
/// The trigger's `for`.
const HOLD_FOR: Duration = Duration::from_secs(2);
/// The trigger's own condition: more than 3 % errors over 30 s and over 8 s.
const CONDITION: &str = r#"(sum(increase(http_requests_total{app="checkout",code=~"5.."}[30s]))
    / sum(increase(http_requests_total{app="checkout"}[30s])) > 0.03)
and (sum(increase(http_requests_total{app="checkout",code=~"5.."}[8s]))
    / sum(increase(http_requests_total{app="checkout"}[8s])) > 0.03)"#;

const PILOT: &str = include_str!("../story/pilot.yaml");

/// A story that is being told.
pub(crate) struct Story {
    narrator: Narrator,
    stage: Stage,
    reaction: Vec<String>,
    /// When the stage was set: what is built and started before is no part of the story.
    started: Instant,
}

impl Story {
    /// Installs the stage and tells the story on it; says where it ended if it does not come true.
    pub(crate) async fn tell_on(rig: Arc<Rig>, narrator: Narrator) -> anyhow::Result<Self> {
        let logs = rig.logs();
        let regret =
            |narrator: &Narrator| format!("{} did not come true; all logs are in {}", narrator.place(), logs.display());
        let stage = Box::pin(Stage::install(rig, REQUESTS_PER_SECOND)).await.with_context(|| regret(&narrator))?;
        let mut story = Self { narrator, stage, reaction: Vec::new(), started: Instant::now() };
        if let Err(error) = story.tell().await {
            story.narrator.regrets(&format!("{error:#}"));
            bail!(regret(&story.narrator));
        }
        Ok(story)
    }

    async fn tell(&mut self) -> anyhow::Result<()> {
        self.the_platform_is_there().await?;
        self.the_service_runs().await?;
        let pilot = Chronicle::open(self.stage.ada.client()?, NAMESPACE, NAME);
        let opens = self.the_pilot_is_declared(&pilot).await?;
        self.refused_outside_the_window(&pilot).await?;
        self.admitted_inside_the_window(&pilot, opens).await?;
        let incident = self.errors_rise(&pilot).await?;
        self.the_decision_window_counts_down(&pilot, &incident).await?;
        self.rolled_back(&pilot, &incident).await?;
        self.it_stays_out().await?;
        self.a_fixed_release_passes(&pilot).await?;
        self.the_record(&incident).await
    }

    async fn the_platform_is_there(&mut self) -> anyhow::Result<()> {
        self.narrator.say("The platform team says once where figures come from. No team can name another address.");
        let platform = self.stage.platform.clone();
        self.typed(&platform, "platform", "apply -f metricssource.yaml").await?;
        self.narrator.confirms("Installed and ready.");
        Ok(())
    }

    async fn the_service_runs(&mut self) -> anyhow::Result<()> {
        self.narrator.step("A team runs a service");
        self.narrator.say(&format!(
            "Grace, a developer with the ordinary role `edit`, deploys checkout 1.0. Users send it {REQUESTS_PER_SECOND} \
             requests a second; Prometheus counts them."
        ));
        let grace = self.stage.grace.clone();
        self.typed(&grace, "grace", "apply -f checkout-1.0.yaml").await?;
        self.typed(&grace, "grace", "rollout status deployment/checkout -n shop --timeout=150s").await?;
        let counted = Probe::new(
            self.stage.rig.prometheus_url()?,
            r#"sum(increase(http_requests_total{app="checkout"}[5s])) > 100"#,
        )?;
        within("requests in Prometheus", PATIENCE, counted.first()).await?;
        self.narrator.confirms("checkout 1.0 runs, and its requests are counted. No error so far.");
        Ok(())
    }

    async fn the_pilot_is_declared(&mut self, pilot: &Chronicle) -> anyhow::Result<Timestamp> {
        self.narrator.step("The owner declares the pilot");
        self.narrator.say(
            "Ada, who owns the service, writes down when it may change, how much it may break, and what happens \
             then. Nothing about the Deployment is touched.",
        );
        let opens = Timestamp::from_second((Timestamp::now() + UNTIL_OPEN).as_second())?;
        let closes = opens + SignedDuration::from_hours(2);
        let wall = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let declared = PILOT.replace("OPENS", &wall(opens)).replace("CLOSES", &wall(closes));
        std::fs::write(self.stage.folder().join("pilot.yaml"), &declared)?;
        self.narrator.types("ada", "cat pilot.yaml");
        self.narrator.shows(&declared);
        let ada = self.stage.ada.clone();
        self.typed(&ada, "ada", "apply -f pilot.yaml").await?;
        self.typed(&ada, "ada", "wait pilot/checkout -n shop --for=condition=Ready --timeout=150s").await?;
        within("adopted release", PATIENCE, pilot.first(|status| status.release.clone())).await?;
        self.narrator.confirms(
            "Ready: the running release was taken over, and the API server asks pilotguard about every change of it.",
        );
        Ok(opens)
    }

    async fn refused_outside_the_window(&mut self, pilot: &Chronicle) -> anyhow::Result<()> {
        self.narrator.step("Outside its window a change is refused");
        self.narrator.say(
            "The window release-slot has not opened yet. Grace tries to roll out checkout 2.0 nevertheless, with the \
             command that she always uses.",
        );
        ensure!(pilot.now().next_open.is_some(), "the window opened before anybody could be refused");
        let refusal = self.refused("grace", "apply -f checkout-2.0.yaml").await?;
        ensure!(
            refusal.contains("release-slot") || refusal.contains("window"),
            "refused for another reason: {refusal}"
        );
        ensure!(self.runs("1.0").await?, "the Deployment was changed");
        self.narrator.confirms("Refused by the API server, with the time from which it will be allowed. 1.0 runs on.");
        Ok(())
    }

    async fn admitted_inside_the_window(&mut self, pilot: &Chronicle, opens: Timestamp) -> anyhow::Result<()> {
        self.narrator.step("Inside its window the same change is admitted and recorded");
        let baked = |status: &PilotStatus| {
            status.release.as_ref().filter(|release| release.state == ReleaseState::KnownGood).map(|_| ())
        };
        let is_open = |status: &PilotStatus| is_true(status, "WindowOpen").then_some(());
        self.count_down("the window opens in", opens).await;
        within("open window in the status", PATIENCE, pilot.first(is_open)).await?;
        within("known-good release", PATIENCE, pilot.first(baked)).await?;
        self.narrator.say(
            "The window is open, and 1.0 ran well long enough to be known-good: something to go back to. Grace \
             tries again.",
        );
        let grace = self.stage.grace.clone();
        self.typed(&grace, "grace", "apply -f checkout-2.0.yaml").await?;
        ensure!(self.runs("2.0").await?, "the Deployment was not changed");
        let recorded = || async {
            let changes = self.changes().await.map_err(|error| format!("{error:#}"))?;
            changes
                .into_iter()
                .find(|change| change.spec.class == ChangeClass::Normal)
                .ok_or("no ChangeRecord yet".into())
        };
        let change: ChangeRecord = wait::until::<_, String, _, _>("ChangeRecord", PATIENCE, recorded).await?;
        ensure!(change.spec.requested_by.user == grace.name, "recorded as {:?}", change.spec.requested_by);
        self.typed(&grace, "grace", "get changerecords -n shop").await?;
        self.narrator.confirms("Admitted, and a ChangeRecord appeared by itself: who, what, since when.");
        Ok(())
    }

    async fn errors_rise(&mut self, pilot: &Chronicle) -> anyhow::Result<Incident> {
        self.narrator.step("The release is bad: errors rise");
        self.narrator.say(
            "2.0 has a bug: 30 of 100 requests fail. Nobody is watching a dashboard. The trigger fast-burn is: it \
             compares the errors with the error budget, over a long window (is it significant?) and a short one (is it \
             still going on?).",
        );
        let probe = Probe::new(self.stage.rig.prometheus_url()?, CONDITION)?;
        let opened = pilot.first(|status| status.incident.clone());
        let both = async { tokio::join!(probe.first(), opened) };
        let (visible, (seen, incident)) = within("incident", PATIENCE, both).await?;
        let slo = within(
            "objective in the status",
            PATIENCE,
            pilot.first(|status| {
                status.incident.as_ref()?;
                status.slos.first().cloned()
            }),
        )
        .await?
        .1;
        for evidence in &incident.evidence {
            self.narrator.shows(&format!("{}: {}", evidence.trigger, evidence.text));
        }
        if let Some(budget) = &slo.budget_remaining {
            self.narrator.shows(&format!("status: {budget} of the error budget remains"));
        }
        ensure!(incident.action == TriggerAction::Rollback, "{:?}: {}", incident.action, incident.because);
        let reaction = seen.saturating_duration_since(visible);
        self.reaction.push(format!(
            "breach visible in Prometheus → incident in the status: {}, of which {} s are the trigger's own `for`",
            figures::text(reaction),
            HOLD_FOR.as_secs()
        ));
        self.narrator.confirms(&format!("Incident {} is open: {}.", incident.id, incident.because));
        Ok(incident)
    }

    async fn the_decision_window_counts_down(&mut self, pilot: &Chronicle, incident: &Incident) -> anyhow::Result<()> {
        self.narrator.step("The decision window counts down");
        self.narrator.say(
            "Until the deadline the owners may decide otherwise, for example let the release run on with a Decision of \
             type Continue (examples/decisions/continue.yaml). New changes are held. This time nobody says anything.",
        );
        let ada = self.stage.ada.clone();
        self.typed(&ada, "ada", "get pilots -n shop").await?;
        let now = pilot.now();
        let is_open = now.incident.as_ref().is_some_and(|now| now.stage == IncidentStage::DecisionWindow);
        ensure!(is_open && is_true(&now, "ChangesHeld"), "no decision window is open: {:?}", now.incident);
        self.count_down("rollback in", incident.deadline).await;
        Ok(())
    }

    async fn rolled_back(&mut self, pilot: &Chronicle, incident: &Incident) -> anyhow::Result<()> {
        self.narrator.step("Nobody decided otherwise: rolled back automatically");
        let back = || async {
            let runs = self.runs("1.0").await.map_err(|error| format!("{error:#}"))?;
            if runs { Ok(()) } else { Err("the Deployment does not run 1.0".to_owned()) }
        };
        wait::until("rollback", PATIENCE, back).await?;
        self.reaction.push(self.time_to_patch(incident).await?);
        self.narrator.say(
            "One patch put the template of 1.0 back and put 2.0 into quarantine. Now pilotguard looks whether that \
             helped, before it closes the incident.",
        );
        let id = incident.id.clone();
        let closed = pilot.first(move |status| {
            let closing = status.incident.as_ref().filter(|incident| incident.id == id)?.closing.clone();
            closing.map(|closing| (closing.decided_by, closing.summary))
        });
        let (_, (decided_by, summary)) = within("end of the incident", PATIENCE, closed).await?;
        ensure!(decided_by == DecidedBy::Deadline, "it ended by {decided_by:?}: {summary}");
        let over = || async {
            if pilot.now().incident.is_none() { Ok(()) } else { Err("the incident is still in the status") }
        };
        wait::until("closed incident", PATIENCE, over).await?;
        let ada = self.stage.ada.clone();
        self.typed(&ada, "ada", "events -n shop --for pilot/checkout").await?;
        self.narrator.confirms(&format!("Closed: {summary}. 1.0 serves again."));
        Ok(())
    }

    async fn time_to_patch(&self, incident: &Incident) -> anyhow::Result<String> {
        let what = "deadline → the API server's 200 for the rollback (audit log)";
        if !self.stage.rig.owns_the_cluster() {
            return Ok(format!("{what}: left out, because this cluster's audit log cannot be read from here"));
        }
        let patch = self.stage.patched_since(incident.deadline).await?;
        let reaction = patch.answered.duration_since(incident.deadline).unsigned_abs();
        Ok(format!("{what}: {}", figures::text(reaction)))
    }

    async fn it_stays_out(&mut self) -> anyhow::Result<()> {
        self.narrator.step("What was rolled back stays out");
        self.narrator.say(
            "Somebody, or a pipeline, applies 2.0 again. The window is open and no incident is; still this release is \
             refused until an owner readmits it, with the command that the refusal prints.",
        );
        let refusal = self.refused("grace", "apply -f checkout-2.0.yaml").await?;
        ensure!(refusal.contains("Readmit"), "the refusal does not say how to readmit: {refusal}");
        ensure!(self.runs("1.0").await?, "the Deployment was changed");
        self.narrator.confirms("Refused. 1.0 runs on.");
        Ok(())
    }

    async fn a_fixed_release_passes(&mut self, pilot: &Chronicle) -> anyhow::Result<()> {
        self.narrator.step("A fixed release passes");
        self.narrator.say("Grace fixes the bug. 2.1 is another release, so nothing stands in its way.");
        let grace = self.stage.grace.clone();
        self.typed(&grace, "grace", "apply -f checkout-2.1.yaml").await?;
        self.typed(&grace, "grace", "rollout status deployment/checkout -n shop --timeout=150s").await?;
        ensure!(self.runs("2.1").await?, "the Deployment was not changed");
        let good = || async {
            let changes = self.changes().await.map_err(|error| format!("{error:#}"))?;
            let succeeded = |change: &&ChangeRecord| {
                outcome(change) == Outcome::Succeeded && change.spec.class == ChangeClass::Normal
            };
            changes.iter().find(succeeded).map(|_| ()).ok_or_else(|| "it still bakes".to_owned())
        };
        wait::until::<_, String, _, _>("succeeded change", PATIENCE, good).await?;
        ensure!(pilot.now().incident.is_none(), "an incident is open: {:?}", pilot.now().incident);
        self.narrator.confirms("Admitted, rolled out, and well for as long as its bake time: 2.1 is known-good.");
        Ok(())
    }

    async fn the_record(&mut self, incident: &Incident) -> anyhow::Result<()> {
        self.narrator.step("The record");
        self.narrator.say("What happened, by whom and why, is written down where the next team finds it.");
        let ada = self.stage.ada.clone();
        self.typed(&ada, "ada", "get plt,chg,dec -n shop").await?;
        let changes = self.changes().await?;
        let suspect = incident.suspect.as_ref().context("nothing was blamed")?;
        let blamed = changes.iter().find(|change| change.metadata.name.as_deref() == Some(&suspect.change));
        let blamed = blamed.context("the blamed change has no record")?;
        ensure!(outcome(blamed) == Outcome::Failed, "the blamed change is {:?}", outcome(blamed));
        ensure!(changes.iter().any(|change| change.spec.class == ChangeClass::Rollback), "the rollback has no record");
        let decisions: Api<Decision> = Api::namespaced(ada.client()?, NAMESPACE);
        let decisions = decisions.list(&ListParams::default()).await?;
        let of_incident = decisions.iter().find(|decision| decision.spec.incident.as_ref() == Some(&incident.id));
        let decision = of_incident.context("the incident has no Decision")?;
        let record = decision.spec.record.as_ref().context("the Decision has no record")?;
        ensure!(
            decision.spec.type_ == DecisionType::Rollback
                && record.decided_by == DecidedBy::Deadline
                && record.carried_out,
            "the Decision says {:?}",
            decision.spec
        );
        self.narrator.confirms(
            "2.0: Failed, blamed by the incident. The rollback and its Decision, taken by the deadline, with the \
             evidence. 2.1: Succeeded.",
        );
        Ok(())
    }

    /// Sums up; with `keep` all of it goes on running until it is interrupted.
    pub(crate) async fn end(self, keep: bool) -> anyhow::Result<()> {
        println!();
        for line in &self.reaction {
            self.narrator.say(line);
        }
        self.narrator.say(&format!("The story took {:.0} s.", self.started.elapsed().as_secs_f64()));
        if keep {
            let stage = &self.stage;
            println!("\nEverything goes on running. In another terminal, as Ada, the owner:");
            println!("  export KUBECONFIG='{}'", stage.ada.kubeconfig.display());
            println!("  cd '{}' && kubectl get plt,chg,dec -n shop", stage.folder().display());
            println!("Grace, the developer: {}", stage.grace.kubeconfig.display());
            println!("Prometheus: {}", stage.rig.prometheus_url()?);
            println!("kubectl, if you have none: {}", stage.rig.tool(Tool::Kubectl).display());
            println!("To end it all: Ctrl-C here.");
            tokio::select! {
                broken = self.stage.rig.broken() => return Err(broken.into()),
                _ = tokio::signal::ctrl_c() => println!("\nEnded."),
            }
        }
        self.stage.rig.let_go();
        Ok(())
    }

    /// Types a command that has to succeed.
    async fn typed(&self, person: &Person, name: &str, line: &str) -> anyhow::Result<Output> {
        self.narrator.types(name, &format!("kubectl {line}"));
        let output = succeed(person, line).await?;
        self.narrator.shows(&output.stdout);
        Ok(output)
    }

    /// Types a command that pilotguard has to refuse.
    async fn refused(&self, name: &str, line: &str) -> anyhow::Result<String> {
        self.narrator.types(name, &format!("kubectl {line}"));
        let output = run(&self.stage.grace, line).await?;
        ensure!(!output.succeeded(), "expected a refusal, but it was admitted: {}", output.stdout);
        ensure!(output.stderr.contains("denied the request"), "it failed for another reason: {}", output.stderr);
        self.narrator.shows(&without_the_patch(&output.stderr));
        Ok(output.stderr)
    }

    async fn count_down(&self, what: &str, until: Timestamp) {
        let mut last = i64::MAX;
        loop {
            let left = until.duration_since(Timestamp::now());
            if !left.is_positive() {
                break;
            }
            let seconds = left.as_secs();
            if seconds != last {
                self.narrator.ticks(&format!("{what} {seconds} s"), seconds % 5 == 0);
                last = seconds;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.narrator.ticked();
    }

    /// Whether the Deployment's template is that of this release.
    async fn runs(&self, version: &str) -> anyhow::Result<bool> {
        let deployments: Api<Deployment> = Api::namespaced(self.stage.grace.client()?, NAMESPACE);
        let pod = deployments.get(NAME).await?.spec.and_then(|spec| spec.template.spec);
        let container = pod.and_then(|pod| pod.containers.into_iter().next()).context("it has no container")?;
        Ok(container.image == Some(self.stage.image(version)))
    }

    async fn changes(&self) -> anyhow::Result<Vec<ChangeRecord>> {
        let changes: Api<ChangeRecord> = Api::namespaced(self.stage.grace.client()?, NAMESPACE);
        Ok(changes.list(&ListParams::default()).await?.items)
    }
}

fn outcome(change: &ChangeRecord) -> Outcome {
    change.status.as_ref().map(|status| status.outcome).unwrap_or_default()
}

fn is_true(status: &PilotStatus, type_: &str) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// `kubectl apply` repeats the whole patch before it says what was answered.
fn without_the_patch(stderr: &str) -> String {
    let (Some(patch), Some(answer)) = (stderr.find("error when applying patch:"), stderr.find("admission webhook"))
    else {
        return stderr.to_owned();
    };
    format!("{}error when applying patch: […]\n{}", &stderr[..patch], &stderr[answer..])
}

async fn within<T>(what: &str, limit: Duration, awaited: impl Future<Output = T>) -> anyhow::Result<T> {
    let began = Instant::now();
    let waited = tokio::time::timeout(limit, awaited).await;
    waited.map_err(|_| anyhow!("no {what} within {:.0} s", began.elapsed().as_secs_f64()))
}
