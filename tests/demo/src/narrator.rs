//! Tells the story on standard output: steps, sentences, commands as a person would type them, and what they answered.
//!
//! Colour is for terminals only, and not where `NO_COLOR` is set.

use std::io::{IsTerminal, Write};

/// The widest line of prose.
const WIDTH: usize = 96;
const INDENT: &str = "   ";

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Who tells.
#[derive(Debug)]
pub(crate) struct Narrator {
    is_terminal: bool,
    has_colour: bool,
    steps: usize,
    step: usize,
    title: String,
    width: usize,
}

impl Narrator {
    /// A story of so many steps.
    pub(crate) fn new(steps: usize) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
        Self { is_terminal, has_colour, steps, step: 0, title: String::new(), width: WIDTH }
    }

    /// The step that is being told.
    pub(crate) fn place(&self) -> String {
        format!("step {} of {} ({})", self.step, self.steps, self.title)
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, title: &str) {
        self.step += 1;
        title.clone_into(&mut self.title);
        let heading = format!("{} of {} · {title}", self.step, self.steps);
        println!("\n{}", self.in_colour(BOLD, &heading));
    }

    /// Says something, wrapped.
    pub(crate) fn say(&self, text: &str) {
        for line in self.wrapped(text) {
            println!("{INDENT}{line}");
        }
    }

    /// Shows what a person types.
    pub(crate) fn types(&self, person: &str, command: &str) {
        let prompt = self.in_colour(DIM, &format!("{person} $"));
        println!("\n{INDENT}{prompt} {}", self.in_colour(CYAN, command));
    }

    /// Shows what was answered, as it came.
    pub(crate) fn shows(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("{}", format!("{INDENT}{} {line}", self.in_colour(DIM, "│")).trim_end());
        }
    }

    /// States something that was checked on the API server.
    pub(crate) fn confirms(&self, text: &str) {
        let mut lines = self.wrapped(text).into_iter();
        let first = lines.next().unwrap_or_default();
        println!("\n{INDENT}{} {first}", self.in_colour(GREEN, "✓"));
        for line in lines {
            println!("{INDENT}  {line}");
        }
    }

    /// Says what failed.
    pub(crate) fn regrets(&self, text: &str) {
        println!("\n{} {text}", self.in_colour(RED, "✗"));
    }

    /// Shows something that goes on: rewritten in place on a terminal; elsewhere only where it is `notable`.
    pub(crate) fn ticks(&self, text: &str, notable: bool) {
        if self.is_terminal {
            print!("\r\x1b[2K{INDENT}{text}");
            // A line that cannot be shown is no reason to end.
            let _ = std::io::stdout().flush();
        } else if notable {
            println!("{INDENT}{text}");
        }
    }

    /// Ends what went on.
    pub(crate) fn ticked(&self) {
        if self.is_terminal {
            println!();
        }
    }

    fn in_colour(&self, colour: &str, text: &str) -> String {
        if self.has_colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn wrapped(&self, text: &str) -> Vec<String> {
        let mut lines = vec![String::new()];
        for word in text.split_whitespace() {
            let line = lines.last().map_or(0, |line| line.chars().count());
            if line > 0 && line + 1 + word.chars().count() > self.width {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
        }
        lines
    }
}
