//! A refusal that helps: what was refused, why, who owns it, when it would be allowed, and how to ask for
//! an exception.
//!
//! One value with two renderings. [`Refusal::full`] is for denials and the command line, [`Refusal::line`]
//! for warnings and Events. Texts that people wrote (reasons, names) are flattened to one line each, so that
//! nobody can make a refusal say something else. It never names a credential, an address or a group.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::remedy::{Remedies, remedies};
use crate::api::pilot::Mode;
use crate::decide::Case;
use crate::decide::outlook::way_back;
use crate::decide::proposal::{Finding, GuardName, Judgement, Operation, Proposal, Until, Verdict};
use crate::release::images::release_name;

/// The longest one-line rendering, in bytes: longer warnings may be cut by the API server.
pub const LONGEST_LINE: usize = 250;

/// The longest note of an Event, in bytes: `kubectl describe` shows it in one line.
pub const LONGEST_NOTE: usize = 512;

/// Longest name of a release in such a line, in bytes: the reasons have to fit as well.
const LONGEST_NAME_IN_A_LINE: usize = 80;

/// Why something may not happen, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was refused. Example: `updating Deployment checkout`.
    pub what: String,
    /// The Pilot that guards it, by name.
    pub pilot: String,
    /// The release that runs, if the request replaces it. Example: `from shop/checkout:1.0 (0123456789ab)`.
    pub from: Option<String>,
    /// The release that would run, if the request moves one. Example: `to shop/checkout:2.0 (0123456789ab)`.
    pub to: Option<String>,
    /// What the guards found, in the order in which people read it.
    pub clauses: Vec<Clause>,
    /// Who owns it. Example: `Ada Lovelace (service owner), ada@example.com`.
    pub owner: Option<String>,
    /// The first instant at which the time guards allow it.
    pub allowed_from: Option<Moment>,
    /// What is allowed instead, as a sentence.
    pub instead: Option<String>,
    /// How owners let it through, where they can.
    pub remedies: Remedies,
}

/// What one guard found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// What is wrong.
    pub problem: String,
    /// What has to happen first; `None` where it ends by itself.
    pub after: Option<String>,
}

/// An instant as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// The zone in which the windows are written, if it is one and the same.
    pub zone: Option<TimeZone>,
    /// The time of the refusal.
    pub now: Timestamp,
}

impl Refusal {
    /// What is said about a judgement: of a refusal the findings that bind, otherwise all.
    pub fn of(case: &Case<'_>, proposal: &Proposal, judgement: &Judgement, what: String) -> Self {
        let refuses = judgement.verdict != Verdict::Allow;
        let findings: Vec<&Finding> =
            judgement.findings.iter().filter(|finding| !refuses || finding.mode == Mode::Enforce).collect();
        let latest = findings.iter().filter_map(|finding| match finding.until {
            Until::Instant(instant) => Some(instant),
            Until::Someone(_) => None,
        });
        let is_moved = proposal.moves_release && !proposal.ends_workload();
        let to = release_name(&proposal.images, &proposal.payload).filter(|_| is_moved);
        let preposition = if proposal.operation == Operation::Create { "with" } else { "to" };
        Self {
            what,
            pilot: case.declaration.pilot.name.clone(),
            from: running(case, proposal).filter(|_| is_moved).map(|name| format!("from {name}")),
            to: to.map(|name| format!("{preposition} {name}")),
            owner: owner(case),
            allowed_from: latest.max().map(|at| Moment {
                at,
                zone: case.declaration.calendar.common_zone().cloned(),
                now: case.now,
            }),
            instead: instead(case, proposal, &findings),
            remedies: remedies(case, proposal, &findings),
            clauses: findings.into_iter().map(Clause::of).collect(),
        }
    }

    /// The whole refusal, one statement a line.
    pub fn full(&self) -> String {
        let what = [Some(&self.what), self.from.as_ref(), self.to.as_ref()];
        let what: Vec<String> = what.into_iter().flatten().map(|text| flat(text)).collect();
        let mut lines = vec![format!("Refused: {}, guarded by pilot {}.", what.join(" "), flat(&self.pilot))];
        lines.extend(self.clauses.iter().map(|clause| match &clause.after {
            Some(after) => format!("- {}; allowed after {}", flat(&clause.problem), flat(after)),
            None => format!("- {}", flat(&clause.problem)),
        }));
        lines.extend(self.earliest());
        lines.extend(self.instead.as_deref().map(flat));
        lines.extend(self.owner.as_deref().map(|owner| format!("Owner: {}", flat(owner))));
        lines.extend(self.remedies.note.as_deref().map(flat));
        lines.extend(self.remedies.commands.iter().map(|it| {
            format!("To {}, {} can run, with a reason of their own:\n  {}", it.purpose, flat(&it.who), it.command)
        }));
        lines.join("\n")
    }

    /// The refusal in one line of at most `most` bytes, after `prefix`.
    pub fn line(&self, prefix: &str, most: usize) -> String {
        let problems = self.clauses.iter().map(|clause| clause.problem.as_str()).collect::<Vec<_>>().join(", and ");
        let earliest = self.earliest().map(|text| format!("; {}", lower_first(&text))).unwrap_or_default();
        let owner = self.owner.as_deref().map(|owner| format!("; owner: {owner}")).unwrap_or_default();
        let to = self.to.as_deref().map(|to| format!(" {}", shorten(to, LONGEST_NAME_IN_A_LINE))).unwrap_or_default();
        let text = format!("{prefix}{}{to} (pilot {}): {problems}{earliest}{owner}", self.what, self.pilot);
        shorten(&flat(&text), most)
    }

    fn earliest(&self) -> Option<String> {
        let moment = self.allowed_from.as_ref()?;
        let time_decides_alone = self.clauses.iter().all(|clause| clause.after.is_none());
        Some(format!("{} {moment}", if time_decides_alone { "Allowed from" } else { "In any case not before" }))
    }
}

/// What the requester may do at once.
fn instead(case: &Case<'_>, proposal: &Proposal, findings: &[&Finding]) -> Option<String> {
    if proposal.operation == Operation::Delete {
        let scale =
            if proposal.workload.kind.has_replicas() { " Scaling it to 0 replicas is allowed now." } else { "" };
        return Some(format!("No exception covers a deletion.{scale}"));
    }
    if !proposal.moves_release || proposal.ends_workload() {
        return None;
    }
    if is_restart(case, proposal) {
        let why = "A restart is a change while an image is named by tag, which may point to another image by now";
        return Some(format!("{why}; with every image named by digest it is always allowed."));
    }
    let is_only_quarantined = !findings.is_empty() && findings.iter().all(|it| it.guard == GuardName::Quarantine);
    if is_only_quarantined {
        return Some("Any other release is allowed now.".to_owned());
    }
    let waits_for_people = |finding: &&&Finding| matches!(finding.guard, GuardName::Incident | GuardName::Unauthorized);
    findings.iter().find(waits_for_people)?;
    way_back(case.seen, case.ledger).map(|release| format!("Going back to {release} is allowed now."))
}

/// Whether the proposal starts the pods of the same release again.
fn is_restart(case: &Case<'_>, proposal: &Proposal) -> bool {
    let stored = case.seen.workload(&proposal.workload).filter(|it| it.waiting.is_none());
    proposal.operation == Operation::Update
        && stored.is_some_and(|it| it.payload == proposal.payload && it.template != proposal.template)
}

/// The release that the workload runs, if it is not the one that is asked for.
fn running(case: &Case<'_>, proposal: &Proposal) -> Option<String> {
    let workload = case.seen.workload(&proposal.workload).filter(|it| it.payload != proposal.payload)?;
    release_name(&workload.images_of(&workload.payload), &workload.payload)
}

impl Clause {
    fn of(finding: &Finding) -> Self {
        let after = match &finding.until {
            Until::Instant(_) => None,
            Until::Someone(what) => Some(what.clone()),
        };
        Self { problem: finding.problem.clone(), after }
    }
}

impl std::fmt::Display for Moment {
    /// `Mon 2026-11-23 09:00 Europe/Berlin (08:00 UTC, in 14h 12m)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let utc = self.at.to_zoned(TimeZone::UTC);
        let clock = if utc.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
        let date_and_clock = format!("%a %Y-%m-%d {clock}");
        let wait = span(self.at.duration_since(self.now));
        let local = self.zone.as_ref().and_then(|zone| Some((zone.iana_name()?, self.at.to_zoned(zone.clone()))));
        match local {
            Some((name, local)) if name != "UTC" => {
                let same_day = local.date() == utc.date();
                let utc = utc.strftime(if same_day { clock } else { &date_and_clock }).to_string();
                write!(f, "{} {name} ({utc} UTC, {wait})", local.strftime(&date_and_clock))
            }
            _ => write!(f, "{} UTC ({wait})", utc.strftime(&date_and_clock)),
        }
    }
}

/// A span by its two largest units: `in 3d 4h`, `in 14h 12m`, `in 40s`.
fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let Some(first) = units.iter().position(|(size, _)| seconds >= *size) else {
        return "now".to_owned();
    };
    let mut rest = seconds;
    let mut words = vec!["in".to_owned()];
    for (size, unit) in units.iter().skip(first).take(2) {
        if rest >= *size {
            words.push(format!("{}{unit}", rest / size));
        }
        rest %= size;
    }
    words.join(" ")
}

fn owner(case: &Case<'_>) -> Option<String> {
    let owner = case.declaration.owners.service_owner.as_ref()?;
    let contact = owner.contacts.first().map(|contact| format!(", {contact}")).unwrap_or_default();
    Some(format!("{} (service owner){contact}", owner.name))
}

/// One line: every run of white space and control characters becomes one space.
fn flat(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// At most `most` bytes, cut between two words where there are some and marked where it was cut.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    const CUT: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let last = most.saturating_sub(CUT.len());
    let end = (0..=last).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
    // A half figure reads as another one; but a text without spaces must not vanish.
    let is_between_words = text[end..].starts_with(char::is_whitespace);
    let word = text[..end].rfind(char::is_whitespace).filter(|word| !is_between_words && *word >= end / 2);
    let kept = text[..word.unwrap_or(end)].trim_end_matches(|c: char| c.is_whitespace() || ",;:(".contains(c));
    format!("{kept}{CUT}")
}

pub(super) fn upper_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
