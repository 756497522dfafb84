//! A made-up past whose true counts are known, as blocks that a Prometheus starts with.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};

/// Seconds between two samples.
const INTERVAL: u32 = 15;

/// Samples of each series: a little more than a day.
const SAMPLES: u32 = 6000;

/// From the first sample to the last, in seconds.
const LENGTH: i64 = INTERVAL as i64 * SAMPLES as i64;

/// A process whose counters have faults.
struct Faulty {
    pod: String,
    /// Its first sample, and the one that it does not reach.
    life: (u32, u32),
    /// Every so many samples its counters begin anew.
    resets: Option<u32>,
    /// Whether samples are missing for two minutes, now and then.
    has_gaps: bool,
}

impl Faulty {
    /// One that restarts in place, one that is not always scraped, and others that replace each other.
    fn all() -> Vec<Self> {
        let named = |pod: &str, resets, has_gaps| Self { pod: pod.to_owned(), life: (0, SAMPLES), resets, has_gaps };
        let replaced = (0..SAMPLES / 170).map(|number| Self {
            pod: format!("worker-{number}"),
            life: (number * 170, (number * 170 + 200).min(SAMPLES)),
            resets: None,
            has_gaps: false,
        });
        [named("restarting", Some(211), false), named("gappy", None, true)].into_iter().chain(replaced).collect()
    }

    /// What happened to it between one sample and the next; now and then very much in one of these intervals.
    const fn between(&self, events: Events, sample: u32) -> u32 {
        let burst = if self.resets.is_some() && sample.is_multiple_of(149) { 400 } else { 0 };
        events.between(sample) + burst
    }

    fn is_scraped(&self, sample: u32) -> bool {
        !(self.has_gaps && (40..48).contains(&(sample % 97)))
    }
}

/// The past, ending some time ago.
pub struct History {
    start: i64,
}

/// The kinds of events in it.
#[derive(Clone, Copy)]
pub enum Events {
    All,
    Bad,
}

impl Events {
    /// Events between one sample and the next; uneven, so that a wrong window shows.
    const fn between(self, sample: u32) -> u32 {
        match self {
            Self::All => 10 + (sample * 7919) % 23,
            Self::Bad => (sample * 104_729) % 3 + if sample % 400 < 40 { 5 } else { 0 },
        }
    }
}

impl History {
    /// A history that ends four hours before `now`: blocks of the last hours would overlap with what Prometheus itself writes.
    pub fn before(now: Timestamp) -> Self {
        let interval = i64::from(INTERVAL);
        Self { start: now.as_second() / interval * interval - LENGTH - 4 * 3600 }
    }

    /// The first sample of all series.
    pub fn first(&self) -> Timestamp {
        Timestamp::from_second(self.start).unwrap()
    }

    /// An instant between two samples near the end.
    pub fn asked(&self) -> Timestamp {
        let end = Timestamp::from_second(self.start + LENGTH).unwrap();
        end - SignedDuration::from_mins(30) + SignedDuration::from_millis(7250)
    }

    /// How many events there were in a span, as if they came evenly between two samples.
    pub fn truth(&self, events: Events, span: SignedDuration, until: Timestamp) -> f64 {
        self.sum(|sample| events.between(sample), until) - self.sum(|sample| events.between(sample), until - span)
    }

    /// The same of all processes with faults.
    pub fn faulty_truth(&self, events: Events, from: Timestamp, until: Timestamp) -> f64 {
        let all = Faulty::all();
        let of = |process: &Faulty, at: Timestamp| {
            let (first, end) = process.life;
            self.sum(|sample| if (first..end).contains(&sample) { process.between(events, sample) } else { 0 }, at)
        };
        all.iter().map(|process| of(process, until) - of(process, from)).sum()
    }

    /// All events until an instant, from what there is between one sample and the next.
    fn sum(&self, between: impl Fn(u32) -> u32, until: Timestamp) -> f64 {
        let millis = u32::try_from(until.as_millisecond() - self.start * 1000).unwrap();
        let (whole, rest) = (millis / (INTERVAL * 1000), millis % (INTERVAL * 1000));
        let sum: u32 = (1..=whole).map(&between).sum();
        f64::from(sum) + f64::from(rest) / f64::from(INTERVAL * 1000) * f64::from(between(whole + 1))
    }

    /// Writes the blocks.
    ///
    /// `requests_total` and `errors_total` in the namespaces `shop` and `other`, where `other` has ten times as many;
    /// `faulty_requests_total` and `faulty_errors_total` of processes that restart, are replaced and are not always scraped;
    /// `young_total` that ended three and `old_total` that ended ten minutes before [`History::asked`].
    pub fn write(&self, promtool: &Path, directory: &Path) {
        let mut text = String::new();
        let all = SAMPLES;
        let until = |minutes: i64| {
            let seconds = self.asked().as_second() - self.start - minutes * 60;
            u32::try_from(seconds).unwrap() / INTERVAL + 1
        };
        self.family(&mut text, "requests", Events::All, &[("shop", 1, all), ("other", 10, all)]);
        self.family(&mut text, "errors", Events::Bad, &[("shop", 1, all), ("other", 10, all)]);
        self.family(&mut text, "young", Events::All, &[("shop", 1, until(3))]);
        self.family(&mut text, "old", Events::All, &[("shop", 1, until(10))]);
        self.faulty(&mut text, "faulty_requests", Events::All);
        self.faulty(&mut text, "faulty_errors", Events::Bad);
        text.push_str("# EOF\n");
        let file = directory.join("history.txt");
        std::fs::write(&file, text).unwrap();
        let made = Command::new(promtool)
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&file, &directory.join("blocks")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn family(&self, text: &mut String, name: &str, events: Events, series: &[(&str, u64, u32)]) {
        writeln!(text, "# TYPE {name} counter").unwrap();
        for (namespace, factor, samples) in series {
            let mut counter = 0_u64;
            for sample in 0..*samples {
                counter += if sample == 0 { 0 } else { u64::from(events.between(sample)) };
                let at = self.start + i64::from(sample * INTERVAL);
                writeln!(text, "{name}_total{{namespace=\"{namespace}\"}} {} {at}", counter * factor).unwrap();
            }
        }
    }

    fn faulty(&self, text: &mut String, name: &str, events: Events) {
        writeln!(text, "# TYPE {name} counter").unwrap();
        for process in Faulty::all() {
            let mut counter = 0_u64;
            for sample in process.life.0..process.life.1 {
                if process.resets.is_some_and(|every| sample.is_multiple_of(every)) {
                    counter = 0;
                }
                counter += u64::from(process.between(events, sample));
                if process.is_scraped(sample) {
                    let at = self.start + i64::from(sample * INTERVAL);
                    writeln!(text, "{name}_total{{pod=\"{}\"}} {counter} {at}", process.pod).unwrap();
                }
            }
        }
    }
}
