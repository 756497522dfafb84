//! Child processes on a leash: they end with their owner, however the owner ends.
//!
//! Flow: each child runs below a small shell that leads a process group of its own and holds the reading end of a pipe
//! from the owner. When the pipe closes, because the owner let go, panicked or was killed, the shell kills the
//! whole group, grandchildren included. A line on the pipe is the name of a signal to pass on to the child.
//!
//! Assumptions: a POSIX `sh`, and children that stay in their process group. What a child leaves on disk is
//! throw-away, so it is killed with `SIGKILL`.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Lines of a child's log that an error quotes.
const TAIL: usize = 15;

/// How long a killed child may take to be gone.
const LAST_MOMENT: Duration = Duration::from_secs(10);

const LEASH: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null & child=$!
( while read -r signal <&3; do kill -s "$signal" "$child"; done; kill -s KILL 0 ) & leash=$!
wait "$child"; code=$?
kill -s KILL "$leash"
exit "$code"
"#;

/// Why a child process could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program or its log file could not be opened.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program's path.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A signal could not be passed on because the child is gone.
    #[error("cannot signal {program}: it no longer runs")]
    Gone {
        /// The program's path.
        program: String,
    },
    /// The child ended while it was expected to serve.
    #[error("{name} ended with {status}; the end of {}:\n{tail}", log.display())]
    Ended {
        /// The child's name.
        name: String,
        /// How it ended.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of its log.
        tail: String,
    },
}

impl ProcessError {
    /// Whether the child ended because another process had taken its port.
    pub(crate) fn is_a_lost_port(&self) -> bool {
        let Self::Ended { log, .. } = self else {
            return false;
        };
        std::fs::read_to_string(log).is_ok_and(|log| log.contains("address already in use"))
    }
}

/// A signal that [`Leashed::signal`] passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Asks the child to end in its own way.
    Term,
    /// Freezes the child.
    Stop,
    /// Lets a frozen child go on.
    Cont,
}

/// A running child that is killed, with all its own children, when this value is dropped or its owner dies.
#[derive(Debug)]
pub struct Leashed {
    program: String,
    shell: Child,
}

impl Leashed {
    /// Starts `command` with its arguments, environment and directory; both output streams are appended to `log`.
    pub fn spawn(command: &Command, log: &Path) -> Result<Self, ProcessError> {
        let program = command.get_program().to_string_lossy().into_owned();
        Self::spawn_shell(command, log)
            .map(|shell| Self { program: program.clone(), shell })
            .map_err(|source| ProcessError::Start { program, source })
    }

    fn spawn_shell(command: &Command, log: &Path) -> std::io::Result<Child> {
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(LEASH).arg("leash").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            shell.current_dir(directory);
        }
        shell.process_group(0).stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
        shell.spawn()
    }

    /// How the child ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.shell.try_wait().ok().flatten()
    }

    /// Passes a signal on to the child.
    pub fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        let line: &[u8] = match signal {
            Signal::Term => b"TERM\n",
            Signal::Stop => b"STOP\n",
            Signal::Cont => b"CONT\n",
        };
        let sent = self.shell.stdin.as_mut().map(|leash| leash.write_all(line));
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(ProcessError::Gone { program: self.program.clone() }),
        }
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        // The closed pipe is the order to kill.
        drop(self.shell.stdin.take());
        let deadline = Instant::now() + LAST_MOMENT;
        while self.ended().is_none() {
            if Instant::now() > deadline {
                eprintln!("rig: {} does not end", self.program);
                return;
            }
            sleep(Duration::from_millis(5));
        }
    }
}

/// One of the rig's servers: what to run, and the running child while there is one.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    child: Mutex<Option<Leashed>>,
}

impl Daemon {
    /// Describes a server; nothing runs yet. Its output goes to `logs/NAME.log`.
    pub fn new<A: Into<OsString>>(
        name: &'static str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        logs: &Path,
    ) -> Self {
        Self {
            name,
            program: program.to_owned(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            log: logs.join(format!("{name}.log")),
            child: Mutex::new(None),
        }
    }

    /// Starts the server, in place of one that runs.
    pub fn start(&self) -> Result<(), ProcessError> {
        self.stop();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        *self.child() = Some(Leashed::spawn(&command, &self.log)?);
        Ok(())
    }

    /// Kills the server; nothing happens when it does not run.
    pub fn stop(&self) {
        *self.child() = None;
    }

    /// Fails when the server was started and has ended by itself.
    pub fn check(&self) -> Result<(), ProcessError> {
        let Some(status) = self.child().as_mut().and_then(Leashed::ended) else {
            return Ok(());
        };
        Err(ProcessError::Ended {
            name: self.name.to_owned(),
            status: status.to_string(),
            log: self.log.clone(),
            tail: tail(&self.log),
        })
    }

    /// Returns once the server has ended by itself; pends while it runs.
    pub async fn ended(&self) -> ProcessError {
        loop {
            if let Err(ended) = self.check() {
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Leashed>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last lines of a log, or why it cannot be read.
pub fn tail(log: &Path) -> String {
    match File::open(log).and_then(std::io::read_to_string) {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(TAIL)..].join("\n")
        }
        Err(error) => format!("(cannot be read: {error})"),
    }
}
