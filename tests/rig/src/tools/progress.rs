//! Shows a person that a long build goes on: a live line on a terminal, else a plain line at least every 15 seconds.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const EVERY: Duration = Duration::from_secs(15);

/// The progress of one step.
pub(super) struct Progress {
    title: String,
    usual: Option<Duration>,
    started: Instant,
    last: Instant,
    live: Option<ProgressBar>,
}

impl Progress {
    /// Announces a step and, if known, how long it usually takes.
    pub(super) fn start(title: String, usual: Option<Duration>) -> Self {
        let started = Instant::now();
        let live = stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        let progress = Self { title, usual, started, last: started, live };
        if progress.live.is_none() {
            eprintln!("{}", progress.line());
        }
        progress
    }

    /// To be called a few times a second while the step runs.
    pub(super) fn tick(&mut self) {
        if let Some(live) = &self.live {
            live.set_message(self.line());
            live.tick();
        } else if self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            eprintln!("{}", self.line());
        }
    }

    /// Announces the end of the step.
    pub(super) fn finish(self, outcome: &str) {
        if let Some(live) = &self.live {
            live.finish_and_clear();
        }
        eprintln!("{}: {outcome} after {}", self.title, plain(self.started.elapsed()));
    }

    fn line(&self) -> String {
        let elapsed = plain(self.started.elapsed());
        match self.usual {
            Some(usual) => format!("{}: {elapsed} of about {}", self.title, plain(usual)),
            None => format!("{}: {elapsed}", self.title),
        }
    }
}

fn plain(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {:02} s", seconds / 60, seconds % 60) }
}
