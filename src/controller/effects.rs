//! Carries a plan's effects out, each on its own: one that fails is due again at the next evaluation.

use serde_json::Value;

use super::Context;
use super::evaluation::Evaluation;
use crate::act::writer::{WriteError, Writer};
use crate::act::{self, StoredConfiguration};
use crate::api::workload::{PartKind, PartReference};
use crate::decide::plan::{Effect, GiveBack, RollBack, ScaleDown, Stamp};
use crate::declaration::Declaration;
use crate::observe::cluster::{ObserveError, RawWorkload, raw, read_workload, within};
use crate::record::snapshots::SnapshotError;
use crate::record::{changes, decisions, snapshots};
use crate::release::configuration;
use crate::release::digest::template_digest;
use crate::release::drift::differences;
use crate::release::marks::Admitted;
use crate::release::workload;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;

/// Why an effect was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// A write failed, or the reading that it rests on.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A snapshot was not written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// What an effect rests on could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The snapshot cannot be restored.
    #[error("snapshot {0} does not contain a release that can be restored")]
    NoRelease(String),
    /// Other admission changes the release in a write that must not.
    #[error("other admission would change {changed} of {workload} in the same write, so nothing was written")]
    Moves {
        /// The workload.
        workload: PartReference,
        /// The fields that would change.
        changed: String,
    },
}

impl EffectError {
    /// Whether the world moved on in between, which the next evaluation sees.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Write(error) | Self::Snapshot(SnapshotError::Write(error)) => error.is_conflict(),
            Self::Snapshot(_) | Self::Observe(_) | Self::NoRelease(_) | Self::Moves { .. } => false,
        }
    }

    /// What the API server says, or else what went wrong here.
    fn cause(&self) -> String {
        let message = match self {
            Self::Write(error) | Self::Snapshot(SnapshotError::Write(error)) => error.message(),
            Self::Snapshot(_) | Self::Observe(_) | Self::NoRelease(_) | Self::Moves { .. } => None,
        };
        message.map_or_else(|| chain(self), |message| format!("the API server says: {message}"))
    }

    /// Whether what is to be written upon does not exist any more.
    fn is_gone(&self) -> bool {
        match self {
            Self::Write(error) | Self::Snapshot(SnapshotError::Write(error)) => error.code() == Some(404),
            Self::Snapshot(_) | Self::Observe(_) | Self::NoRelease(_) | Self::Moves { .. } => false,
        }
    }
}

/// What became of an evaluation's effects.
#[derive(Debug)]
pub struct CarriedOut {
    /// Whether all went well.
    pub all_well: bool,
    /// What became of each write of a snapshot, by its key.
    pub storage: Vec<(String, Result<(), String>)>,
}

/// Carries all effects of an evaluation out.
pub async fn carry_out(
    context: &Context,
    declaration: &Declaration,
    evaluation: &Evaluation,
    now: Timestamp,
) -> CarriedOut {
    let (mut all_well, mut storage) = (true, Vec::new());
    for effect in &evaluation.plan.effects {
        let hand = Hand { writer: &context.writer, declaration, evaluation, now };
        let outcome = hand.carry_out(effect).await;
        if let Some(key) = effect.storage_key() {
            storage.push((key, storage_outcome(&outcome)));
        }
        if let Err(error) = outcome {
            all_well = false;
            let (pilot, cause) = (&declaration.pilot, chain(&error));
            if error.is_conflict() {
                tracing::debug!(
                    namespace = pilot.namespace,
                    pilot = pilot.name,
                    cause,
                    "the objects have changed meanwhile; evaluating again"
                );
            } else {
                context.metrics.effect_failed();
                tracing::warn!(
                    namespace = pilot.namespace,
                    pilot = pilot.name,
                    cause,
                    "an effect failed and will be retried"
                );
            }
        }
    }
    CarriedOut { all_well, storage }
}

/// What is remembered of a write of a snapshot: what moved on in between, or is gone, is seen at the next evaluation.
fn storage_outcome(outcome: &Result<(), EffectError>) -> Result<(), String> {
    match outcome {
        Err(error) if !error.is_conflict() && !error.is_gone() => Err(error.cause().chars().take(300).collect()),
        _ => Ok(()),
    }
}

struct Hand<'a> {
    writer: &'a Writer,
    declaration: &'a Declaration,
    evaluation: &'a Evaluation,
    now: Timestamp,
}

impl Hand<'_> {
    async fn carry_out(&self, effect: &Effect) -> Result<(), EffectError> {
        let (writer, pilot, namespace) = (self.writer, &self.declaration.pilot, &self.declaration.pilot.namespace);
        match effect {
            Effect::Stamp(_)
            | Effect::Release(_)
            | Effect::RollBack(_)
            | Effect::ScaleDown(_)
            | Effect::RestoreReplicas(_)
            | Effect::GiveBack(_)
            | Effect::Readmit(_) => self.change_workload(effect).await?,
            Effect::TakeSnapshot { workload, payload } => {
                let seen = self.evaluation.seen.workload(workload);
                let newest = seen.and_then(|seen| seen.snapshots.iter().map(|snapshot| snapshot.revision).max());
                let stored = self.stored(workload).await?;
                if workload::read(workload.kind, &stored).is_some_and(|stored| stored.payload == *payload) {
                    let generated = self.generated(&stored).await?;
                    snapshots::take(writer, workload.kind, &stored, generated, newest.unwrap_or(0) + 1).await?;
                }
            }
            Effect::MarkKnownGood { snapshot, at, releases } => {
                snapshots::mark_known_good(writer, namespace, snapshot, *at, releases).await?;
            }
            Effect::MarkRunning { snapshot, stopped_at } => {
                snapshots::mark_running(writer, namespace, snapshot, *stopped_at).await?;
            }
            Effect::RepackSnapshot { snapshot } => snapshots::repack(writer, namespace, snapshot).await?,
            Effect::Prune { snapshots } => {
                for snapshot in snapshots {
                    writer.delete::<ControllerRevision>(namespace, snapshot).await?;
                }
            }
            Effect::OpenChange(open) => changes::open(writer, pilot, open).await?,
            Effect::DeclareEmergency(emergency) => changes::declare_emergency(writer, pilot, emergency).await?,
            Effect::ApproveChange(approve) => changes::approve(writer, pilot, approve).await?,
            Effect::UpdateChange(update) => changes::update(writer, pilot, update).await?,
            Effect::JudgeDecision { name, phase, message } => {
                decisions::judge(writer, namespace, name, *phase, message, self.now).await?;
            }
            Effect::RecordDecision { name, spec } => decisions::write(writer, pilot, name, spec, self.now).await?,
        }
        Ok(())
    }

    async fn change_workload(&self, effect: &Effect) -> Result<(), EffectError> {
        match effect {
            Effect::Stamp(stamp) => {
                let stored = self.stored(&stamp.workload).await?;
                self.mark(&stamp.workload, &stored, act::stamp(&stored, stamp)).await
            }
            Effect::Readmit(readmit) => {
                let stored = self.stored(&readmit.workload).await?;
                self.mark(&readmit.workload, &stored, act::readmit(&stored, readmit)).await
            }
            Effect::Release(release) => {
                let stored = self.stored(&release.workload).await?;
                let patch = act::release(&stored, release);
                self.write(&release.workload, &stored, patch, Some(&release.admitted)).await
            }
            Effect::ScaleDown(scale_down) => {
                let workload = &scale_down.workload;
                let stored = self.stored(workload).await?;
                let generation = self.generation(workload, &stored, scale_down.generation);
                let patch = act::scale_down(&stored, &ScaleDown { generation, ..scale_down.clone() });
                self.write(workload, &stored, patch, self.stamp_of(workload)).await
            }
            Effect::RestoreReplicas(restore) => {
                let workload = &restore.workload;
                let stored = self.stored(workload).await?;
                let patch = act::restore_replicas(&stored, restore);
                self.write(workload, &stored, patch, self.stamp_of(workload)).await
            }
            Effect::RollBack(roll_back) => self.roll_back(roll_back).await,
            Effect::GiveBack(give_back) => self.give_back(give_back).await,
            _ => Ok(()),
        }
    }

    async fn roll_back(&self, effect: &RollBack) -> Result<(), EffectError> {
        let namespace = &self.declaration.pilot.namespace;
        let revision: ControllerRevision = self.writer.read(namespace, &effect.snapshot).await?;
        let release = snapshots::release(&revision).ok_or_else(|| EffectError::NoRelease(effect.snapshot.clone()))?;
        for config_map in snapshots::generated(&revision) {
            self.writer.create(namespace, &act::generated(&config_map)).await?;
        }
        let stored = self.stored(&effect.workload).await?;
        if !effect.workload.kind.has_pods() && !self.is_as_seen(&effect.workload, &stored) {
            // It has no generation that would tell; the next evaluation decides about what it is now.
            return Ok(());
        }
        let generation = self.generation(&effect.workload, &stored, effect.generation);
        let patch = act::roll_back(&stored, &RollBack { generation, ..effect.clone() }, &release);
        let answer = self.patch(&effect.workload, patch).await?;
        self.keep_stamp(&effect.workload, &answer, &effect.admitted).await
    }

    async fn give_back(&self, effect: &GiveBack) -> Result<(), EffectError> {
        let namespace = &self.declaration.pilot.namespace;
        let revision: Option<ControllerRevision> = match &effect.snapshot {
            Some(snapshot) => Some(self.writer.read(namespace, snapshot).await?),
            None => None,
        };
        let release = revision.as_ref().and_then(snapshots::release);
        let stored = self.stored(&effect.workload).await?;
        match act::give_back(&stored, effect, release.as_ref()) {
            Some(patch) => self.patch_unmoved(&effect.workload, &stored, patch).await,
            None => Ok(()),
        }
    }

    /// The generated ConfigMaps that a stored template uses, as far as they are governed: whoever generated them removes
    /// them with the release.
    async fn generated(&self, stored: &Value) -> Result<Vec<StoredConfiguration>, EffectError> {
        let namespace = &self.declaration.pilot.namespace;
        let template = stored.pointer("/spec/template").unwrap_or(&Value::Null);
        let mut names = configuration::generated(template);
        names.retain(|name| configuration::governs(&self.declaration.workloads, name));
        let mut contents = Vec::new();
        for name in names {
            let reference = PartReference { kind: PartKind::ConfigMap, name };
            let found = within("a ConfigMap", read_workload(self.writer.client(), namespace, &reference)).await?;
            if let Some(found) = found {
                contents.push(StoredConfiguration { name: reference.name, content: configuration::content(&found) });
            }
        }
        Ok(contents)
    }

    /// The generation to act on: annotations move it too, so where the workload still runs what was decided upon,
    /// the one just read counts; else a chatty annotator could put an act off for ever.
    fn generation(&self, workload: &PartReference, live: &Value, decided: i64) -> i64 {
        let live_generation = live.pointer("/metadata/generation").and_then(Value::as_i64);
        live_generation.filter(|_| self.is_as_seen(workload, live)).unwrap_or(decided)
    }

    /// Whether it is what the decision was about.
    fn is_as_seen(&self, workload: &PartReference, live: &Value) -> bool {
        let live = workload::read(workload.kind, live);
        live.zip(self.evaluation.seen.workload(workload)).is_some_and(|(live, seen)| {
            live.uid == seen.uid && live.template == seen.template && live.replicas == seen.replicas
        })
    }

    async fn stored(&self, workload: &PartReference) -> Result<Value, EffectError> {
        let namespace = &self.declaration.pilot.namespace;
        Ok(raw(&self.writer.read_of::<RawWorkload>(&workload.kind, namespace, &workload.name).await?))
    }

    /// Writes marks where no admission can move a pod: through the status, of which no spec is stored.
    async fn mark(
        &self,
        workload: &PartReference,
        stored: &Value,
        patch: json_patch::Patch,
    ) -> Result<(), EffectError> {
        if !workload.kind.has_pods() {
            return self.patch_unmoved(workload, stored, patch).await;
        }
        let place = (self.declaration.pilot.namespace.as_str(), workload.name.as_str());
        self.writer.patch_status_of::<RawWorkload>(&workload.kind, place, patch).await?;
        Ok(())
    }

    /// Writes metadata, unless other admission would change the release in the same write.
    async fn patch_unmoved(
        &self,
        workload: &PartReference,
        stored: &Value,
        patch: json_patch::Patch,
    ) -> Result<(), EffectError> {
        let place = (self.declaration.pilot.namespace.as_str(), workload.name.as_str());
        let answer = self.writer.try_patch_of::<RawWorkload>(&workload.kind, place, patch.clone()).await?;
        let changed = differences(workload.kind, stored, &raw(&answer));
        if !changed.is_empty() {
            return Err(EffectError::Moves { workload: workload.clone(), changed: changed.join(", ") });
        }
        self.patch(workload, patch).await.map(drop)
    }

    /// Writes an act that is not meant to change the template. Where other admission changes it in the same write, what a
    /// dry-run answered is sent, so that the stamp is of what is stored.
    async fn write(
        &self,
        workload: &PartReference,
        stored: &Value,
        patch: json_patch::Patch,
        admitted: Option<&Admitted>,
    ) -> Result<(), EffectError> {
        let kind = workload.kind;
        let place = (self.declaration.pilot.namespace.as_str(), workload.name.as_str());
        // An act is not put off because its dry-run is refused: what comes of it is seen afterwards.
        let answer = self.writer.try_patch_of::<RawWorkload>(&kind, place, patch.clone()).await;
        let variant = answer.ok().map(|answer| raw(&answer)).filter(|it| !differences(kind, stored, it).is_empty());
        let variant = variant.as_ref().and_then(|answer| workload::template(kind, answer));
        let (patch, admitted) = match &variant {
            None => (patch, admitted.cloned()),
            Some(template) => {
                let (digest, payload) = (template_digest(template), workload::payload(kind, template));
                let admitted = admitted.map(|admitted| admitted.of_variant(digest, payload));
                (act::with_variant(patch, template, admitted.as_ref()), admitted)
            }
        };
        let answer = self.patch(workload, patch).await?;
        match &admitted {
            Some(admitted) => self.keep_stamp(workload, &answer, admitted).await,
            None => Ok(()),
        }
    }

    /// The stamp of what a workload was seen to run.
    fn stamp_of(&self, workload: &PartReference) -> Option<&Admitted> {
        self.evaluation.seen.workload(workload)?.admitted()
    }

    /// Stamps what an act's own write was answered with, where other admission made something else of it.
    async fn keep_stamp(
        &self,
        workload: &PartReference,
        answer: &Value,
        admitted: &Admitted,
    ) -> Result<(), EffectError> {
        let Some(template) = workload::template(workload.kind, answer) else { return Ok(()) };
        let digest = template_digest(&template);
        if digest == admitted.template {
            return Ok(());
        }
        let stamp = Stamp {
            workload: workload.clone(),
            uid: answer.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned(),
            resource_version: answer
                .pointer("/metadata/resourceVersion")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            admitted: admitted.of_variant(digest, workload::payload(workload.kind, &template)),
        };
        self.mark(workload, answer, act::stamp(answer, &stamp)).await
    }

    async fn patch(&self, workload: &PartReference, patch: json_patch::Patch) -> Result<Value, EffectError> {
        let place = (self.declaration.pilot.namespace.as_str(), workload.name.as_str());
        Ok(raw(&self.writer.patch_of::<RawWorkload>(&workload.kind, place, patch).await?))
    }
}

/// An error with its causes, for the log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
