//! Running counts against what truly happened: processes that restart, are replaced and are not always scraped, and bursts
//! that fall between two samples.

use futures::future::join_all;
use jiff::SignedDuration;
use pilotguard::observation::{Answer, Counts, Question, Reading};
use pilotguard::observe::prometheus::{Credentials, Source};
use pilotguard_rig::Rig;

use crate::history::{Events, History};
use crate::pilot::{ask, pilot, source_at};

const WINDOW: SignedDuration = SignedDuration::from_hours(6);

/// The slots of such a window at an interval of 15 s.
const SLOT: SignedDuration = SignedDuration::from_mins(3);

/// Evaluations, and the seconds from one to the next, over and over: at common instants, between them, and late.
const EVALUATIONS: usize = 70;
const STEPS: [i64; 6] = [15, 15, 7, 23, 60, 240];

/// The last two samples may not be counted yet, and the first of a new process never are.
const TOLERANCE: f64 = 0.01;

/// Several walk through the same past, each at another phase of slots and samples.
pub async fn counts_are_those_that_happened(rig: &Rig, history: &History) {
    let walks = (0..6).map(|number| walk(rig, history, number));
    let worst: Vec<f64> = join_all(walks).await;
    println!(
        "running counts are off by {:.3} % at most",
        worst.iter().fold(0.0, |one: f64, other| one.max(*other)) * 100.0
    );
}

async fn walk(rig: &Rig, history: &History, number: i64) -> f64 {
    let source = Source::new("prometheus", &source_at(rig.prometheus_url().unwrap()), Credentials::default()).unwrap();
    let mut declaration = pilot("faulty_errors_total", "faulty_requests_total");
    declaration.slos[0].window = WINDOW;
    declaration.pilot.name = format!("walk-{number}");
    let mut now = history.asked() - SignedDuration::from_hours(3) + SignedDuration::from_millis(number * 2_777);
    let since = now - SignedDuration::from_hours(2);
    let mut worst: f64 = 0.0;
    for step in 0..EVALUATIONS {
        now += SignedDuration::from_secs(STEPS[step % STEPS.len()]);
        let counts = |span| Question::Counts { slo: "availability".to_owned(), span, until: now, confirm: false };
        let (window, whole) = (counts(WINDOW), counts(now.duration_since(since)));
        let answers = ask(&source, &declaration, &[window.clone(), whole.clone()].into(), now).await;
        for (question, from, cut) in [(window, now - WINDOW, SLOT), (whole, since, SignedDuration::ZERO)] {
            let Answer::Counts(Reading::Fresh(Counts { bad, total })) = answers[&question] else {
                panic!("walk {number}, step {step}: {answers:?}")
            };
            for (read, events) in [(bad, Events::Bad), (total, Events::All)] {
                // What is asked is up to a tenth of an interval and a sample old.
                let late = SignedDuration::from_millis(16_500);
                let most = history.faulty_truth(events, from, now);
                let least = history.faulty_truth(events, from + cut, now - late);
                assert!(least > 1000.0, "too few events to compare: {least}");
                let off = (read / most - 1.0).max(1.0 - read / least);
                worst = worst.max(off);
                assert!(off < TOLERANCE, "walk {number}, step {step}: read {read}, true from {least} to {most}");
            }
        }
    }
    worst
}
