//! A rig that outlives the command that started it, for people who want a cluster to play with.
//!
//! Flow: `up` starts an owner process, which holds a lock in the directory for as long as its rig runs and writes down
//! where the rig is once it serves; `down` asks the owner to end and waits until the lock is free. So a directory
//! whose lock is free holds no rig, whatever else lies in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use std::os::unix::process::CommandExt;

use serde::{Deserialize, Serialize};

use crate::playground::{self, Accounts};
use crate::process::tail;
use crate::rig::{Rig, RigError, RigOptions};
use crate::wait::{self, TimedOut};

/// How long `up` waits for an owner that may have to build the tools first.
const UP: Duration = Duration::from_mins(45);

/// How long an owner may take to end its rig.
const DOWN: Duration = Duration::from_secs(30);

/// How long an owner waits for a lock that somebody is only looking at.
const GLANCE: Duration = Duration::from_secs(2);

/// Why a background rig could not be started or ended.
#[derive(Debug, thiserror::Error)]
pub enum BackgroundError {
    /// A file of the background rig could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The owner's note cannot be read.
    #[error("unreadable {}: {source}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The owner ended before its rig served.
    #[error("the rig did not start; the end of {}:\n{tail}", log.display())]
    Failed {
        /// The owner's output.
        log: PathBuf,
        /// The end of it.
        tail: String,
    },
    /// Another owner has this directory.
    #[error("a rig already runs in {}", .0.display())]
    Taken(PathBuf),
    /// Something did not happen in time.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// The rig itself failed.
    #[error(transparent)]
    Rig(#[from] RigError),
}

/// Where a background rig is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The owner's process.
    pub owner: u32,
    /// The kubeconfig of an admin, who may do everything.
    pub kubeconfig: PathBuf,
    /// Prometheus' address.
    pub prometheus: String,
    /// People with ordinary rights, and what they need.
    pub accounts: Accounts,
}

/// What [`up`] found or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Up {
    /// It was running already.
    Already(Address),
    /// It was started.
    Started(Address),
}

/// Makes a rig run in `directory`: `program serve --dir DIRECTORY` becomes its owner unless one runs there already.
pub async fn up(directory: &Path, program: &Path) -> Result<Up, BackgroundError> {
    fs::create_dir_all(directory).map_err(at(directory))?;
    let place = Place::new(directory)?;
    if let Some(address) = place.running()? {
        return Ok(Up::Already(address));
    }
    let mut owner = place.spawn_owner(program)?;
    let place = &place;
    let started = wait::until("running rig", UP, || {
        let found = place.running();
        let has_ended = owner.try_wait().ok().flatten().is_some() && !place.is_held();
        async move {
            match (found, has_ended) {
                (Ok(Some(address)), _) => Ok(Ok(address)),
                (Err(error), _) => Ok(Err(error)),
                (Ok(None), true) => Ok(Err(place.failure())),
                (Ok(None), false) => Err("it is still starting"),
            }
        }
    });
    Ok(Up::Started(started.await??))
}

/// Ends the rig in `directory`; tells whether there was one.
pub async fn down(directory: &Path) -> Result<bool, BackgroundError> {
    if !directory.is_dir() {
        return Ok(false);
    }
    let place = Place::new(directory)?;
    let was_running = place.is_held();
    if let Some(address) = place.running()? {
        let told = Command::new("sh").args(["-c", "kill -s TERM \"$1\"", "kill", &address.owner.to_string()]).status();
        told.map_err(at(directory))?;
    }
    let gone = || async { if place.is_held() { Err("its owner still runs") } else { Ok(()) } };
    wait::until("end of the rig", DOWN, gone).await?;
    fs::remove_dir_all(&place.directory).map_err(at(&place.directory))?;
    Ok(was_running)
}

/// Owns a rig in `directory` until this process is told to end, or one of the rig's servers ends by itself.
pub async fn serve(directory: &Path) -> Result<(), BackgroundError> {
    fs::create_dir_all(directory).map_err(at(directory))?;
    let place = Place::new(directory)?;
    let lock = File::create(&place.lock).map_err(at(&place.lock))?;
    let mine = || async { lock.try_lock() };
    wait::until("lock", GLANCE, mine).await.map_err(|_| BackgroundError::Taken(place.directory.clone()))?;
    place.clear()?;
    let options = RigOptions { directory: Some(place.rig.clone()), ..RigOptions::default() };
    let starting = async {
        let rig = Rig::start(options).await?;
        let (accounts, service) = playground::furnish(&rig).await?;
        Ok::<_, RigError>((rig, accounts, service))
    };
    let (rig, accounts, service) = tokio::select! {
        started = starting => started?,
        () = told_to_end() => return Ok(()),
    };
    place.write(&rig, accounts)?;
    let outcome = tokio::select! {
        () = told_to_end() => Ok(()),
        broken = rig.broken() => Err(broken.into()),
    };
    drop(service);
    if outcome.is_err() {
        rig.keep();
    }
    place.forget()?;
    outcome
}

async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The files of a background rig.
struct Place {
    directory: PathBuf,
    lock: PathBuf,
    note: PathBuf,
    log: PathBuf,
    rig: PathBuf,
}

impl Place {
    fn new(directory: &Path) -> Result<Self, BackgroundError> {
        let directory = directory.canonicalize().map_err(at(directory))?;
        Ok(Self {
            lock: directory.join("owner.lock"),
            note: directory.join("address.json"),
            log: directory.join("owner.log"),
            rig: directory.join("rig"),
            directory,
        })
    }

    fn is_held(&self) -> bool {
        File::open(&self.lock).is_ok_and(|lock| lock.try_lock().is_err())
    }

    /// Where the rig is, if one serves.
    fn running(&self) -> Result<Option<Address>, BackgroundError> {
        if !self.is_held() {
            return Ok(None);
        }
        match fs::read(&self.note) {
            Ok(note) => serde_json::from_slice(&note)
                .map(Some)
                .map_err(|source| BackgroundError::Note { path: self.note.clone(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BackgroundError::File { path: self.note.clone(), source }),
        }
    }

    /// In a process group of its own, so that an interrupt from the terminal does not reach it.
    fn spawn_owner(&self, program: &Path) -> Result<std::process::Child, BackgroundError> {
        let log = File::create(&self.log).map_err(at(&self.log))?;
        let errors = log.try_clone().map_err(at(&self.log))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--dir").arg(&self.directory).process_group(0);
        command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(at(program))
    }

    fn failure(&self) -> BackgroundError {
        BackgroundError::Failed { log: self.log.clone(), tail: tail(&self.log) }
    }

    /// Removes what a killed owner left.
    fn clear(&self) -> Result<(), BackgroundError> {
        self.forget()?;
        match fs::remove_dir_all(&self.rig) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&self.rig)(error)),
            _ => Ok(()),
        }
    }

    fn forget(&self) -> Result<(), BackgroundError> {
        match fs::remove_file(&self.note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&self.note)(error)),
            _ => Ok(()),
        }
    }

    fn write(&self, rig: &Rig, accounts: Accounts) -> Result<(), BackgroundError> {
        let address = Address {
            owner: std::process::id(),
            kubeconfig: rig.admin().kubeconfig.clone(),
            prometheus: rig.prometheus_url()?.to_owned(),
            accounts,
        };
        let unfinished = self.note.with_extension("unfinished");
        let text = serde_json::to_string_pretty(&address)
            .map_err(|source| BackgroundError::Note { path: self.note.clone(), source })?;
        fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, &self.note)).map_err(at(&self.note))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackgroundError + use<> {
    let path = path.to_owned();
    move |source| BackgroundError::File { path, source }
}
