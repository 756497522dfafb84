//! Is it known that a source does not answer? Then nobody waits for it.
//!
//! Closed: queries pass. After a few queries in a row that nobody answered, a probe (a query that costs nothing) tells a
//! source that is down from queries that are too expensive. Open: every query is refused at once. Half-open: now and then
//! one more probe goes out, and the first that is answered closes it again. It is told the time and does no input or output.

use std::time::Duration;

use tokio::time::Instant;

use super::client::Failure;

/// Number of unanswered queries in a row that call for a probe.
const FAILURES_BEFORE_PROBE: u32 = 3;

/// After the first failed probe the next one waits so long, and after each further one twice as long…
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// … but never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether queries may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// They pass.
    Closed,
    /// They are refused.
    Open,
    /// They are refused while one probe is out.
    HalfOpen,
}

impl BreakerState {
    /// The state as a number, for a metric.
    pub const fn as_number(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// What becomes of a query before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Pass,
    /// A probe has to be answered first; whoever is told this sends it.
    Probe,
    /// The source is known not to answer, and how it showed.
    Refuse(Failure),
}

#[derive(Debug, Default)]
pub(super) struct Breaker {
    open: Option<Open>,
    /// Unanswered queries in a row, while closed.
    failures: u32,
    /// A probe is out.
    is_probing: bool,
}

#[derive(Debug)]
struct Open {
    why: Failure,
    until: Instant,
    pause: Duration,
}

impl Breaker {
    pub(super) const fn state(&self) -> BreakerState {
        match (&self.open, self.is_probing) {
            (None, _) => BreakerState::Closed,
            (Some(_), false) => BreakerState::Open,
            (Some(_), true) => BreakerState::HalfOpen,
        }
    }

    /// Asks before a query is sent.
    pub(super) fn ask(&mut self, now: Instant) -> Passage {
        if let Some(why) = self.refuses(now) {
            return Passage::Refuse(why);
        }
        let is_suspect = self.failures >= FAILURES_BEFORE_PROBE && !self.is_probing;
        if self.open.is_none() && !is_suspect {
            return Passage::Pass;
        }
        self.is_probing = true;
        Passage::Probe
    }

    /// How it is known that the source does not answer, while no probe is due.
    pub(super) fn refuses(&self, now: Instant) -> Option<Failure> {
        let open = self.open.as_ref()?;
        (self.is_probing || now < open.until).then(|| open.why.clone())
    }

    /// A query was answered, whatever the answer.
    pub(super) const fn answered(&mut self) {
        self.failures = 0;
    }

    /// A query was not answered.
    pub(super) const fn unanswered(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// What came of a probe. One that was given up says nothing.
    pub(super) fn probed(&mut self, outcome: Option<Result<(), Failure>>, now: Instant) {
        self.is_probing = false;
        match outcome {
            None => {}
            Some(Ok(())) => *self = Self::default(),
            Some(Err(why)) => {
                let doubled = |open: &Open| (open.pause * 2).min(LONGEST_PAUSE);
                let pause = self.open.as_ref().map_or(FIRST_PAUSE, doubled);
                self.open = Some(Open { why, until: now + pause, pause });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::prometheus::client::late;

    fn failure() -> Failure {
        late("gave no answer".to_owned())
    }

    fn open(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_BEFORE_PROBE {
            assert_eq!(breaker.ask(now), Passage::Pass);
            breaker.unanswered();
        }
        assert_eq!(breaker.ask(now), Passage::Probe);
        breaker.probed(Some(Err(failure())), now);
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_does_not_answer_is_known_not_to() {
        let now = Instant::now();
        let mut breaker = open(now);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.ask(now + Duration::from_millis(1999)), Passage::Refuse(failure()));
        assert_eq!(breaker.ask(now + FIRST_PAUSE), Passage::Probe);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert_eq!(breaker.ask(now + FIRST_PAUSE), Passage::Refuse(failure()), "one probe at a time");
        breaker.probed(Some(Ok(())), now + FIRST_PAUSE);
        assert_eq!((breaker.state(), breaker.ask(now)), (BreakerState::Closed, Passage::Pass));
    }

    #[tokio::test(start_paused = true)]
    async fn an_expensive_query_opens_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.unanswered();
            if breaker.ask(now) == Passage::Probe {
                assert_eq!(breaker.ask(now), Passage::Pass, "others pass while it is found out");
                breaker.probed(Some(Ok(())), now);
            }
            assert_eq!(breaker.state(), BreakerState::Closed);
        }
        for _ in 0..FAILURES_BEFORE_PROBE - 1 {
            breaker.unanswered();
        }
        breaker.answered();
        breaker.unanswered();
        assert_eq!(breaker.ask(now), Passage::Pass, "only those in a row count");
    }

    #[tokio::test(start_paused = true)]
    async fn probes_come_ever_less_often() {
        let mut now = Instant::now();
        let mut breaker = open(now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let asked_at = now;
            while breaker.ask(now) != Passage::Probe {
                now += Duration::from_secs(1);
            }
            pauses.push((now - asked_at).as_secs());
            breaker.probed(Some(Err(failure())), now);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_given_up_is_sent_again() {
        let now = Instant::now();
        let mut breaker = open(now);
        assert_eq!(breaker.ask(now + FIRST_PAUSE), Passage::Probe);
        breaker.probed(None, now + FIRST_PAUSE);
        assert_eq!(breaker.ask(now + FIRST_PAUSE), Passage::Probe);
    }
}
