//! How the events of a span are counted: a short span is read whole, of a long one a running count is kept (`tally.rs`).
//!
//! What keeps a running count: the events since it was moved last until a *settled* instant, an interval ago, because
//! samples arrive a moment after their time; and, anew at every evaluation, the events since then. What a running count
//! cannot be kept of, because the source refuses what it takes, is read whole.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::Source;
use super::plan::{Replies, rounded_down};
use super::queries::{Counter, Measure};
use super::readings::{Figure, Points};
use super::request::{Ask, Request};
use super::tally::{Part, Tally, open_for, slot_length};
use crate::observation::Unknown;

/// Number of intervals from which on a span is not read whole.
const LONG: i32 = 40;

/// Number of intervals without a move after which a running count begins anew.
const MOST_MISSED: i32 = 20;

/// For how long what could not be begun is read whole.
const READ_WHOLE: SignedDuration = SignedDuration::from_hours(1);

/// How often what nobody asks for is forgotten.
const SWEPT_EVERY: SignedDuration = SignedDuration::from_mins(10);

/// The running counts of a source, by the counter's selector.
#[derive(Debug, Default)]
pub(super) struct Tallies(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    tallies: HashMap<String, Tally>,
    /// Until when a counter's long spans are read whole.
    read_whole: HashMap<String, Timestamp>,
    swept_at: Option<Timestamp>,
}

/// A span that ends now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Timestamp,
    /// The length of a declared window, which moves on; any other span keeps its beginning.
    pub(super) window: Option<SignedDuration>,
}

/// How the events of a span are found out.
pub(super) enum Count {
    Whole(Request),
    Running(Box<Running>),
}

/// A running count, and what is asked to know it now.
pub(super) struct Running {
    counter: String,
    part: Part,
    /// The beginning of the span.
    from: Timestamp,
    /// The settled instant, up to which the running count is moved.
    until: Timestamp,
    /// From when it is moved, if it is not there yet.
    advance: Option<(Timestamp, Request)>,
    begin: Option<Begin>,
    /// The events since the settled instant.
    rest: Request,
}

/// How a running count is begun.
enum Begin {
    Since(Request),
    Window { span: SignedDuration, slot: SignedDuration, past: Request, open: Request },
}

impl Source {
    /// Plans how the events of a span are counted.
    pub(super) fn count(&self, counter: &Arc<Counter>, Span { from, window }: Span, ask: Ask) -> Count {
        let span = window.unwrap_or_else(|| ask.at.duration_since(from));
        let whole = || Count::Whole(ask.of(counter, Measure::Increase(span)));
        let interval = self.evaluation_interval;
        if !ask.is_shared || span < interval * LONG {
            return whole();
        }
        let settled = rounded_down(ask.at.saturating_sub(interval).unwrap_or(ask.at), interval);
        let part = window.map_or(Part::Since(from), Part::Window);
        let mut known = self.tallies.lock();
        known.sweep(ask.at);
        if known.read_whole.get(counter.text()).is_some_and(|until| *until > ask.at) {
            return whole();
        }
        let tally = known.recent(counter.text(), settled, interval * MOST_MISSED);
        let moved = tally.map_or(settled, Tally::until);
        let until = moved.max(settled);
        if from >= until || until >= ask.at {
            return whole();
        }
        let at = |at: Timestamp, measure| Ask { at, ..ask }.of(counter, measure);
        let events = |since: Timestamp, until: Timestamp| at(until, Measure::Events(until.duration_since(since)));
        let begin = || match window {
            None => Begin::Since(events(from, until)),
            Some(span) => {
                let slot = slot_length(span, interval);
                let open = at(until, Measure::Events(open_for(until, slot)));
                Begin::Window { span, slot, past: at(until, Measure::History { span, slot }), open }
            }
        };
        Count::Running(Box::new(Running {
            counter: counter.text().to_owned(),
            part,
            from,
            until,
            advance: (moved < until).then(|| (moved, events(moved, until))),
            begin: (!tally.is_some_and(|tally| tally.knows(part))).then(begin),
            rest: events(until, ask.at),
        }))
    }

    /// The events of a span, from the replies to the requests of its plan.
    pub(super) fn counted(&self, count: &Count, replies: &Replies<'_>) -> Figure {
        let running = match count {
            Count::Whole(request) => return replies.figure(request),
            Count::Running(running) => running,
        };
        let advanced = running.advance.as_ref().map(|(from, request)| (from, replies.figure(request)));
        let begun = running.begin.as_ref().map(|begin| begin.read(replies)).transpose();
        let rest = replies.figure(&running.rest);
        let mut known = self.tallies.lock();
        let refused = begun.as_ref().err().or(rest.as_ref().err()).filter(|why| **why != Unknown::SourceUnavailable);
        if refused.is_some() || (begun.is_err() && rest.is_ok()) {
            known
                .read_whole
                .insert(running.counter.clone(), running.until.saturating_add(READ_WHOLE).unwrap_or(Timestamp::MAX));
        }
        let (begun, rest) = (begun?, rest?);
        if begun.as_ref().is_some_and(Begun::is_nothing) {
            return Ok(rest);
        }
        let tally = known.tallies.entry(running.counter.clone()).or_insert_with(|| Tally::new(running.until));
        if let Some((from, events)) = advanced {
            tally.advance(*from, running.until, events?.unwrap_or(0.0));
        }
        let is_there = tally.until() == running.until;
        if let (Some(begun), Some(begin), true) = (begun, &running.begin, is_there) {
            begin.begin(tally, running.from, &begun);
        }
        let counted = tally.count(running.part, running.from).ok_or(Unknown::SourceUnavailable)?;
        // Another evaluation may have moved it further, beyond what the rest begins with.
        Ok(Some(counted + rest.filter(|_| is_there).unwrap_or(0.0)))
    }
}

/// What there was before a running count began.
struct Begun {
    past: Vec<(f64, f64)>,
    events: Option<f64>,
}

impl Begun {
    fn is_nothing(&self) -> bool {
        self.past.is_empty() && self.events.is_none()
    }
}

impl Begin {
    fn read(&self, replies: &Replies<'_>) -> Result<Begun, Unknown> {
        match self {
            Self::Since(request) => Ok(Begun { past: Vec::new(), events: replies.figure(request)? }),
            Self::Window { past, open, .. } => {
                let past: Points = replies.points(past);
                Ok(Begun { past: past?, events: replies.figure(open)? })
            }
        }
    }

    fn begin(&self, tally: &mut Tally, from: Timestamp, begun: &Begun) {
        let events = begun.events.unwrap_or(0.0);
        match self {
            Self::Since(_) => tally.begin_since(from, events),
            Self::Window { span, slot, .. } => tally.begin_window(*span, *slot, &begun.past, events),
        }
    }

    fn requests(&self) -> Vec<&Request> {
        match self {
            Self::Since(request) => vec![request],
            Self::Window { past, open, .. } => vec![past, open],
        }
    }
}

impl Count {
    pub(super) fn requests(&self) -> Vec<&Request> {
        match self {
            Self::Whole(request) => vec![request],
            Self::Running(running) => {
                let Running { advance, begin, rest, .. } = running.as_ref();
                let moved = advance.iter().map(|(_, request)| request);
                moved.chain(begin.iter().flat_map(Begin::requests)).chain([rest]).collect()
            }
        }
    }
}

impl Tallies {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The running count of a counter, unless it was not moved for too long.
    fn recent(&mut self, counter: &str, settled: Timestamp, most: SignedDuration) -> Option<&Tally> {
        if self.tallies.get(counter).is_some_and(|tally| settled.duration_since(tally.until()) > most) {
            self.tallies.remove(counter);
        }
        self.tallies.get(counter)
    }

    /// Forgets from time to time what nobody asks for.
    fn sweep(&mut self, now: Timestamp) {
        if self.swept_at.is_some_and(|at| now.duration_since(at) < SWEPT_EVERY) {
            return;
        }
        self.swept_at = Some(now);
        self.tallies.retain(|_, tally| !tally.is_idle(now));
        self.read_whole.retain(|_, until| *until > now);
    }
}
