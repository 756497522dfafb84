//! The edges of several windows, walked in order.

use std::iter::Peekable;

use jiff::Timestamp;

use super::span::Span;

/// A span of time, `[start, end)`, in which the same windows are active, by their index.
pub(super) struct Stretch {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) active: Vec<usize>,
}

/// Cuts `[from, until)` into stretches wherever a window starts or ends.
pub(super) struct Timeline<S: Iterator<Item = Span>> {
    windows: Vec<Peekable<S>>,
    at: Timestamp,
    until: Timestamp,
}

impl<S: Iterator<Item = Span>> Timeline<S> {
    /// `windows` yields for each window its spans, in order and apart.
    pub(super) fn new(windows: impl Iterator<Item = S>, from: Timestamp, until: Timestamp) -> Self {
        Timeline { windows: windows.map(Iterator::peekable).collect(), at: from, until }
    }
}

impl<S: Iterator<Item = Span>> Iterator for Timeline<S> {
    type Item = Stretch;

    fn next(&mut self) -> Option<Stretch> {
        if self.at >= self.until {
            return None;
        }
        let start = self.at;
        let mut end = self.until;
        let mut active = Vec::new();
        for (index, spans) in self.windows.iter_mut().enumerate() {
            while spans.next_if(|span| span.end <= start).is_some() {}
            let Some(span) = spans.peek() else { continue };
            if span.start <= start {
                active.push(index);
                end = end.min(span.end);
            } else {
                end = end.min(span.start);
            }
        }
        self.at = end;
        Some(Stretch { start, end, active })
    }
}
