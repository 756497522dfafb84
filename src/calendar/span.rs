//! Spans of time and how they melt together.

use std::iter::Peekable;

use jiff::Timestamp;

/// A half-open span of time, `[start, end)`; empty where `start` is not before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

/// Joins spans that overlap or touch, and leaves out what is empty or starts at `until` or later.
///
/// The spans must come in the order of their starts. What is yielded is in order and apart. A span that
/// reaches `until` is the last one, and is not followed further: its true end may be later.
pub(super) struct Merged<I: Iterator<Item = Span>> {
    spans: Peekable<I>,
    until: Timestamp,
    finished: bool,
}

impl<I: Iterator<Item = Span>> Merged<I> {
    pub(super) fn new(spans: I, until: Timestamp) -> Self {
        Merged { spans: spans.peekable(), until, finished: false }
    }
}

impl<I: Iterator<Item = Span>> Iterator for Merged<I> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        while !self.finished {
            let Some(mut span) = self.spans.next().filter(|span| span.start < self.until) else {
                break;
            };
            while span.end < self.until
                && let Some(next) = self.spans.next_if(|next| next.start <= span.end)
            {
                span.end = span.end.max(next.end);
            }
            self.finished = span.end >= self.until;
            if span.start < span.end {
                return Some(span);
            }
        }
        self.finished = true;
        None
    }
}
