//! A made-up past whose true counts are known, as blocks that a Prometheus starts with.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};

/// Seconds between two samples.
const INTERVAL: i64 = 15;

/// Samples of each series: a little more than a day.
const SAMPLES: i64 = 6000;

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
    const fn between(self, sample: i64) -> i64 {
        match self {
            Self::All => 10 + (sample * 7919) % 23,
            Self::Bad => (sample * 104_729) % 3 + if sample % 400 < 40 { 5 } else { 0 },
        }
    }
}

impl History {
    /// A history that ends two hours before `now`; files of an hour ago cannot be made into blocks.
    pub fn before(now: Timestamp) -> Self {
        Self { start: now.as_second() / INTERVAL * INTERVAL - SAMPLES * INTERVAL - 4 * 3600 }
    }

    /// The first sample of all series.
    pub fn first(&self) -> Timestamp {
        Timestamp::from_second(self.start).unwrap()
    }

    /// An instant between two samples near the end.
    pub fn asked(&self) -> Timestamp {
        let end = Timestamp::from_second(self.start + SAMPLES * INTERVAL).unwrap();
        end - SignedDuration::from_mins(30) + SignedDuration::from_millis(7250)
    }

    /// How many events there were in a span, as if they came evenly between two samples.
    pub fn truth(&self, events: Events, span: SignedDuration, until: Timestamp) -> f64 {
        let counter = |at: Timestamp| {
            let since = (at - self.first_as_duration()).as_duration().as_secs_f64() / INTERVAL as f64;
            let whole = since.floor();
            let sum: i64 = (1..=whole as i64).map(|sample| events.between(sample)).sum();
            sum as f64 + (since - whole) * events.between(whole as i64 + 1) as f64
        };
        counter(until) - counter(until - span)
    }

    fn first_as_duration(&self) -> SignedDuration {
        SignedDuration::from_secs(self.start)
    }

    /// Writes the blocks.
    ///
    /// `requests_total` and `errors_total` in the namespaces `shop` and `other`, where `other` has ten times as many;
    /// `young_total` that ended three and `old_total` that ended ten minutes before [`History::asked`].
    pub fn write(&self, promtool: &Path, directory: &Path) {
        let mut text = String::new();
        let all = SAMPLES;
        let until = |minutes: i64| (self.asked().as_second() - self.start - minutes * 60) / INTERVAL + 1;
        self.family(&mut text, "requests", Events::All, &[("shop", 1, all), ("other", 10, all)]);
        self.family(&mut text, "errors", Events::Bad, &[("shop", 1, all), ("other", 10, all)]);
        self.family(&mut text, "young", Events::All, &[("shop", 1, until(3))]);
        self.family(&mut text, "old", Events::All, &[("shop", 1, until(10))]);
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

    fn family(&self, text: &mut String, name: &str, events: Events, series: &[(&str, i64, i64)]) {
        writeln!(text, "# TYPE {name} counter").unwrap();
        for (namespace, factor, samples) in series {
            let mut counter = 0;
            for sample in 0..*samples {
                counter += if sample == 0 { 0 } else { events.between(sample) };
                let at = self.start + sample * INTERVAL;
                writeln!(text, "{name}_total{{namespace=\"{namespace}\"}} {} {at}", counter * factor).unwrap();
            }
        }
    }
}
