//! What users ask of the simulated service and how often it fails them: piecewise constant in time, so that
//! every question has one exact answer that owes nothing to the code under test.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use pilotguard::observation::{Answer, Counts, Question, Reading, Unknown};

/// Events per second and the share of them that fail, from an instant on.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: Timestamp,
    per_second: f64,
    failing: f64,
}

/// Single requests at an instant.
#[derive(Clone, Copy, Debug)]
struct Burst {
    at: Timestamp,
    total: f64,
    bad: f64,
}

/// How the metrics source answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weather {
    Fair,
    /// Every answer is this.
    All(Unknown),
    /// What is asked a second time is not answered.
    Flickering,
    /// There is one sample of each counter.
    OneSample,
    /// Samples ended then; only the past is known.
    SilentSince(Timestamp),
}

/// The history of the service, as the metrics source would have recorded it.
#[derive(Clone, Debug)]
pub struct Traffic {
    stretches: Vec<Stretch>,
    bursts: Vec<Burst>,
    /// The value of each expression from an instant on.
    values: BTreeMap<String, Vec<(Timestamp, f64)>>,
    weather: Weather,
    offset: SignedDuration,
    /// A breach was told to the operator on fresh data: some answer had a failed event or a value above 0.
    pub told_of_failure: bool,
    /// How many questions were answered.
    pub asked: usize,
}

impl Traffic {
    pub fn new(first_sample: Timestamp, offset: SignedDuration) -> Self {
        Self {
            stretches: vec![Stretch { from: first_sample, per_second: 0.0, failing: 0.0 }],
            bursts: Vec::new(),
            values: BTreeMap::new(),
            weather: Weather::Fair,
            offset,
            told_of_failure: false,
            asked: 0,
        }
    }

    pub fn flow(&mut self, from: Timestamp, per_second: f64, failing: f64) {
        let last = self.stretches.last().unwrap();
        assert!(from >= last.from, "history is written forwards");
        let is_news = (last.per_second - per_second).abs() > 0.0 || (last.failing - failing).abs() > 0.0;
        if is_news {
            self.stretches.push(Stretch { from, per_second, failing });
        }
    }

    /// Forgets everything before an instant, as if other series were selected that begin then.
    pub fn begin(&mut self, from: Timestamp) {
        let last = *self.stretches.last().unwrap();
        self.stretches = vec![Stretch { from, ..last }];
        self.bursts.clear();
    }

    pub fn burst(&mut self, at: Timestamp, total: f64, bad: f64) {
        self.bursts.push(Burst { at, total, bad });
    }

    pub fn set_value(&mut self, query: &str, from: Timestamp, value: f64) {
        self.values.entry(query.to_owned()).or_default().push((from, value));
    }

    /// What an expression yields now.
    pub fn value(&self, query: &str) -> f64 {
        self.values.get(query).and_then(|values| values.last()).map_or(0.0, |(_, value)| *value)
    }

    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Nothing that is asked about the present is answered.
    pub fn is_unknown(&self) -> bool {
        !matches!(self.weather, Weather::Fair | Weather::Flickering)
    }

    /// Answers as the metrics source does, which is asked `offset` in the past.
    pub fn answer(&mut self, question: &Question) -> Answer {
        self.asked += 1;
        if let Question::Counts { confirm: true, .. } | Question::Value { confirm: true, .. } = question
            && self.weather == Weather::Flickering
        {
            return match question {
                Question::Value { .. } => Answer::Value(Reading::Unknown(Unknown::Partial)),
                _ => Answer::Counts(Reading::Unknown(Unknown::Partial)),
            };
        }
        match question {
            Question::Counts { span, until, .. } => {
                let until = *until - self.offset;
                let known = match self.weather {
                    Weather::OneSample => Reading::Unknown(Unknown::NoSeries),
                    _ => self.known(until),
                };
                let reading = known.map(|()| self.counts(until - *span, until));
                self.told_of_failure |= matches!(reading, Reading::Fresh(counts) if counts.bad > 0.0);
                Answer::Counts(reading)
            }
            Question::FirstSample { .. } => {
                let first = self.stretches[0].from;
                Answer::FirstSample(self.known(first).map(|()| first))
            }
            Question::Value { query, at, .. } => {
                let at = *at - self.offset;
                let value = self.values.get(query).and_then(|values| values.iter().rfind(|(from, _)| *from <= at));
                let reading = self.known(at).and_then(|()| match value {
                    Some((_, value)) => Reading::Fresh(*value),
                    None => Reading::Unknown(Unknown::NoSeries),
                });
                self.told_of_failure |= matches!(reading, Reading::Fresh(value) if value > 0.0);
                Answer::Value(reading)
            }
        }
    }

    fn known(&self, until: Timestamp) -> Reading<()> {
        match self.weather {
            Weather::All(why) => Reading::Unknown(why),
            Weather::SilentSince(last) if until > last => Reading::Unknown(Unknown::Stale),
            Weather::Fair | Weather::Flickering | Weather::OneSample | Weather::SilentSince(_) => Reading::Fresh(()),
        }
    }

    /// The exact counts over `(from, until]`.
    fn counts(&self, from: Timestamp, until: Timestamp) -> Counts {
        let mut counts = Counts { bad: 0.0, total: 0.0 };
        for (index, stretch) in self.stretches.iter().enumerate() {
            let end = self.stretches.get(index + 1).map_or(until, |next| next.from.min(until));
            let seconds = end.duration_since(stretch.from.max(from)).as_secs_f64().max(0.0);
            counts.total += seconds * stretch.per_second;
            counts.bad += seconds * stretch.per_second * stretch.failing;
        }
        for burst in self.bursts.iter().filter(|burst| burst.at > from && burst.at <= until) {
            counts.total += burst.total;
            counts.bad += burst.bad;
        }
        counts
    }
}
