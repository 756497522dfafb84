//! What the core made of a timeline, in lines that people can review.

use jiff::Timestamp;
use pilotguard::api::incident::{Incident, IncidentStage};
use pilotguard::api::status::PilotStatus;
use pilotguard::decide::plan::Effect;

use crate::operator::Look;
use crate::pilots::zero;
use crate::world::World;

pub struct Teller {
    pub lines: Vec<String>,
    pub last: PilotStatus,
    pub incidents: usize,
    pub pages: usize,
    pub refusals: usize,
    pub acted_at: Option<Timestamp>,
    pub opened_at: Option<Timestamp>,
}

impl Teller {
    pub fn new() -> Self {
        Self {
            lines: Vec::new(),
            last: PilotStatus::default(),
            incidents: 0,
            pages: 0,
            refusals: 0,
            acted_at: None,
            opened_at: None,
        }
    }

    pub fn say(&mut self, world: &World, text: &str) {
        self.lines.push(format!("{} * {}", since_zero(world.now), world.readable(text)));
    }

    fn note(&mut self, world: &World, text: &str) {
        let (text, said_last) = (world.readable(text), self.lines.last().and_then(|line| line.split_once("   ")));
        // What is tried again and again is told once.
        let is_repeated = text.ends_with("(did not arrive)") && said_last.is_some_and(|(_, last)| last == text);
        if !is_repeated {
            self.lines.push(format!("{}   {text}", since_zero(world.now)));
        }
    }

    pub fn tell(&mut self, world: &World, look: &Look) {
        let now = world.status.clone();
        if release_of(&now) != release_of(&self.last) {
            self.note(world, &format!("release {}", release_of(&now)));
        }
        let target = |status: &PilotStatus| status.rollback_target.as_ref().map(|target| target.payload.clone());
        if target(&now) != target(&self.last) {
            let name = target(&now).map_or("none".to_owned(), |payload| world.release_of(&payload));
            self.note(world, &format!("rollback target {name}"));
        }
        let latches = |status: &PilotStatus| {
            let latches = status.latches.iter().map(|latch| format!("{} for {}", latch.trigger, latch.payload));
            latches.collect::<Vec<_>>().join(", ")
        };
        if latches(&now) != latches(&self.last) {
            self.note(world, &format!("latched: [{}]", latches(&now)));
        }
        let verdicts = |status: &PilotStatus| {
            let verdicts = status.slos.iter().map(|slo| format!("{} {:?} {:?}", slo.name, slo.verdict, slo.reason));
            verdicts.collect::<Vec<_>>().join(", ").replace("None", "").replace("Some(", "(")
        };
        if verdicts(&now) != verdicts(&self.last) {
            self.note(world, &format!("slo {}", verdicts(&now)));
        }
        self.tell_incident(world, &now);
        for effect in &look.plan.effects {
            let arrived = if look.arrived.contains(effect) { "" } else { " (did not arrive)" };
            self.note(world, &format!("-> {}{arrived}", describe(effect)));
            if !crate::effects::act_name(effect).is_empty() && arrived.is_empty() {
                self.acted_at = Some(world.now);
            }
        }
        self.last = now;
    }

    fn tell_incident(&mut self, world: &World, now: &PilotStatus) {
        let id = |status: &PilotStatus| status.incident.as_ref().map(|incident| incident.id.clone());
        if id(now).is_some() && id(now) != id(&self.last) {
            self.incidents += 1;
            self.opened_at = Some(world.now);
        }
        let paged = |status: &PilotStatus| status.incident.as_ref().and_then(|incident| incident.paged.clone());
        if paged(now).is_some() && paged(now) != paged(&self.last) {
            self.pages += 1;
        }
        let before = self.last.incident.as_ref().map(told);
        match &now.incident {
            Some(incident) if Some(told(incident)) != before => {
                let heard = if id(now) == id(&self.last) { self.last.incident.as_ref() } else { None };
                let evidence = heard.map_or(0, |before| before.evidence.len());
                for evidence in incident.evidence.iter().skip(evidence) {
                    self.note(world, &format!("{} fires: {}", evidence.trigger, evidence.text));
                }
                self.note(world, &told(incident));
            }
            Some(incident) => {
                for evidence in incident.evidence.iter().filter(|evidence| evidence.last_at == Some(world.now)) {
                    self.note(world, &format!("{} fires again, {} times now", evidence.trigger, evidence.count));
                }
            }
            None if before.is_some() => self.note(world, "the incident is closed"),
            _ => {}
        }
    }
}

fn told(incident: &Incident) -> String {
    let deadline = match incident.stage {
        IncidentStage::DecisionWindow => format!(" at {}", since_zero(incident.deadline)),
        _ => String::new(),
    };
    let paged = incident.paged.as_ref().map(|paged| format!("; people are paged: {paged}")).unwrap_or_default();
    let closing =
        incident.closing.as_ref().map(|closing| format!("; decided by {:?}: {}", closing.decided_by, closing.summary));
    let (id, stage, action, because) = (&incident.id, incident.stage, incident.action, &incident.because);
    format!("incident {id}: {stage:?}, {action:?}{deadline}, because {because}{paged}{}", closing.unwrap_or_default())
}

fn release_of(status: &PilotStatus) -> String {
    status.release.as_ref().map_or("none".to_owned(), |release| format!("{} {:?}", release.payload, release.state))
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::Stamp(stamp) => format!("stamp {} as {:?}", stamp.admitted.payload, stamp.admitted.verdict),
        Effect::TakeSnapshot { payload, .. } => format!("take a snapshot of {payload}"),
        Effect::MarkKnownGood { snapshot, .. } => format!("mark {snapshot} known-good"),
        Effect::MarkRunning { snapshot, stopped_at: Some(_) } => format!("mark {snapshot} as stopped"),
        Effect::MarkRunning { snapshot, stopped_at: None } => format!("mark {snapshot} as running"),
        Effect::RepackSnapshot { snapshot } => format!("repack {snapshot}"),
        Effect::Prune { snapshots } => format!("prune {}", snapshots.join(", ")),
        Effect::OpenChange(open) => {
            let replaced = open.replaced.as_ref().map(|it| format!(", replaces {}", it.payload)).unwrap_or_default();
            format!("open change {} ({:?}){replaced}", open.name, open.class)
        }
        Effect::UpdateChange(update) => {
            let completed = if update.completed_at.is_some() { "completed" } else { "not completed" };
            let cause = update.cause.as_ref().map(|cause| format!(", {cause}")).unwrap_or_default();
            format!("change {}: {:?}, {completed}{cause}", update.name, update.outcome)
        }
        Effect::DeclareEmergency(emergency) => {
            format!("change {} is an emergency and owes an approval", emergency.change)
        }
        Effect::ApproveChange(approve) => format!("approve change {} ({})", approve.change, approve.decision),
        Effect::Release(release) => {
            format!("RELEASE {}, held for {}", release.admitted.payload, release.admitted.by)
        }
        Effect::RollBack(act) => {
            let quarantined: Vec<&str> = act.quarantined.iter().map(String::as_str).collect();
            format!("ROLL BACK to {}, quarantining {}", act.admitted.payload, quarantined.join(", "))
        }
        Effect::ScaleDown(act) => format!("SCALE DOWN to {}, parking {}", act.replicas, act.parked),
        Effect::RestoreReplicas(act) => format!("RESTORE {} replicas", act.replicas),
        Effect::GiveBack(give_back) => {
            format!(
                "give fields back to their owners, as {} has them",
                give_back.snapshot.as_deref().unwrap_or("nobody")
            )
        }
        Effect::Readmit(readmit) => {
            let left: Vec<&str> = readmit.quarantined.iter().map(String::as_str).collect();
            format!("readmit; still quarantined [{}]", left.join(", "))
        }
        Effect::JudgeDecision { name, phase, message } => format!("{name} is {phase:?}: {message}"),
        Effect::RecordDecision { name, spec } => {
            let record = spec.record.as_ref().unwrap();
            let carried_out = if record.carried_out { "carried out" } else { "not carried out" };
            format!("record {name}: {:?}, {carried_out}, {:?}: {}", spec.type_, record.decided_by, spec.reason)
        }
    }
}

pub fn since_zero(instant: Timestamp) -> String {
    let seconds = instant.duration_since(zero()).as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
