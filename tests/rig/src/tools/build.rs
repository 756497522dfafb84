//! Builds parts into the cache: the only place that runs `go`.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread::sleep;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::parts::{PARTS, Part};
use super::progress::Progress;
use crate::process::{Leashed, ProcessError, tail};
use crate::tree;

const TICK: Duration = Duration::from_millis(200);

/// Prefix of folders that a build fills and then moves into place.
const UNFINISHED: &str = "unfinished-";

/// Why the tools could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no `go` to build with.
    #[error("the program `go` was not found: install Go {0} or newer, put it on PATH and try again")]
    NoGo(String),
    /// The installed Go is older than a part demands.
    #[error("{found} is too old: part {part} needs Go {wanted} or newer, install it and try again")]
    OldGo {
        /// What `go version` says.
        found: String,
        /// The part that needs more.
        part: &'static str,
        /// The oldest Go that will do.
        wanted: String,
    },
    /// Neither of the variables that name a cache is set.
    #[error("no folder for built tools: set PILOTGUARD_CACHE, XDG_CACHE_HOME or HOME")]
    NoCache,
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// `go` could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// `go` ran and failed.
    #[error("building {part} failed ({status}); the end of {}:\n{tail}", log.display())]
    Failed {
        /// The part.
        part: &'static str,
        /// How `go` ended.
        status: ExitStatus,
        /// Its whole output.
        log: PathBuf,
        /// The end of its output.
        tail: String,
    },
}

/// The folder of each part in the cache, all of them built.
pub(super) fn parts(needed: &[&'static Part]) -> Result<Vec<PathBuf>, BuildError> {
    let cache = cache()?;
    let go = go_version()?;
    let mut folders = Vec::new();
    for part in needed {
        folders.push(cache.join(format!("{}-{}", part.name, key(part, &go)?)));
    }
    if folders.iter().any(|folder| !folder.is_dir()) {
        let _lock = lock(&cache)?;
        remove_unfinished(&cache)?;
        let missing: Vec<_> = needed.iter().zip(&folders).filter(|(_, folder)| !folder.is_dir()).collect();
        for (nth, (part, folder)) in missing.iter().enumerate() {
            build(part, folder, &format!("rig: building {} ({} of {})", part.name, nth + 1, missing.len()))?;
        }
    }
    Ok(folders)
}

/// The folder that holds a part's `go.mod` and `go.sum`.
pub(super) fn source(part: &Part) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(part.name)
}

fn cache() -> Result<PathBuf, BuildError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("PILOTGUARD_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("pilotguard")))
        .or_else(|| set("HOME").map(|folder| folder.join(".cache/pilotguard")))
        .ok_or(BuildError::NoCache)?;
    fs::create_dir_all(&cache).and_then(|()| cache.canonicalize()).map_err(at(&cache))
}

/// What `go version` says, once it is known to be new enough for every part.
fn go_version() -> Result<String, BuildError> {
    let mut wanted = Vec::new();
    for part in PARTS {
        wanted.push((part, go_directive(part)?));
    }
    let newest = wanted.iter().map(|(_, version)| version.clone()).max_by_key(|version| numbers(version));
    let output = Command::new("go").env("GOTOOLCHAIN", "local").arg("version").output();
    let Ok(output) = output else {
        return Err(BuildError::NoGo(newest.unwrap_or_default()));
    };
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let have = numbers(found.trim_start_matches("go version go"));
    match wanted.into_iter().find(|(_, version)| numbers(version) > have) {
        Some((part, wanted)) => Err(BuildError::OldGo { found, part: part.name, wanted }),
        None => Ok(found),
    }
}

fn go_directive(part: &Part) -> Result<String, BuildError> {
    let path = source(part).join("go.mod");
    let pins = fs::read_to_string(&path).map_err(at(&path))?;
    Ok(pins.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or_default().trim().to_owned())
}

/// The leading numbers of a version: `1.26.8 linux/amd64` is `[1, 26, 8]`.
fn numbers(version: &str) -> Vec<u32> {
    let word = version.split_whitespace().next().unwrap_or_default();
    word.split('.').map_while(|number| number.parse().ok()).collect()
}

/// Names a build by everything that decides its result.
fn key(part: &Part, go: &str) -> Result<String, BuildError> {
    let mut digest = Sha256::new();
    for file in ["go.mod", "go.sum"] {
        let path = source(part).join(file);
        digest.update(fs::read(&path).map_err(at(&path))?);
    }
    for program in part.programs {
        digest.update(program.package);
    }
    for text in part.flags.iter().chain([&go]) {
        digest.update(text.as_bytes());
    }
    let mut head = [0; 8];
    head.copy_from_slice(&digest.finalize()[..8]);
    Ok(format!("{:016x}", u64::from_be_bytes(head)))
}

/// Holds the cache's lock; the system lets go of it when the holder ends in whatever way.
fn lock(cache: &Path) -> Result<File, BuildError> {
    let path = cache.join("build.lock");
    let file = File::create(&path).map_err(at(&path))?;
    let mut waiting = None;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => waiting
                .get_or_insert_with(|| {
                    Progress::start(format!("rig: waiting for another build in {}", cache.display()), None)
                })
                .tick(),
            Err(TryLockError::Error(source)) => return Err(BuildError::File { path, source }),
        }
        sleep(TICK);
    }
    if let Some(waiting) = waiting {
        waiting.finish("it ended");
    }
    Ok(file)
}

/// Clears what killed builds left; the caller holds the lock, so nobody fills these folders now.
fn remove_unfinished(cache: &Path) -> Result<(), BuildError> {
    for entry in fs::read_dir(cache).map_err(at(cache))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path()).map_err(at(&entry.path()))?;
        }
    }
    Ok(())
}

fn build(part: &'static Part, folder: &Path, title: &str) -> Result<(), BuildError> {
    let unfinished = folder.with_file_name(format!("{UNFINISHED}{}", part.name));
    let log = folder.with_extension("log");
    fs::create_dir_all(unfinished.join("bin")).map_err(at(&unfinished))?;
    File::create(&log).map_err(at(&log))?;
    let mut progress = Progress::start(title.to_owned(), Some(part.usual));
    for program in part.programs {
        let status =
            compile(part, program.package, &unfinished.join("bin").join(program.tool.name()), &log, &mut progress)?;
        if !status.success() {
            progress.finish("failed");
            return Err(BuildError::Failed { part: part.name, status, tail: tail(&log), log });
        }
    }
    copy_shipped(part, &unfinished, &log)?;
    fs::rename(&unfinished, folder).map_err(at(folder))?;
    progress.finish("built");
    fs::remove_file(&log).map_err(at(&log))
}

fn compile(
    part: &Part,
    package: &str,
    program: &Path,
    log: &Path,
    progress: &mut Progress,
) -> Result<ExitStatus, BuildError> {
    let mut command = go(part);
    command.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath"]).args(part.flags);
    command.arg("-o").arg(program).arg(package);
    let mut child = Leashed::spawn(&command, log)?;
    loop {
        if let Some(status) = child.ended() {
            return Ok(status);
        }
        progress.tick();
        sleep(TICK);
    }
}

/// `go` in a part's folder, deaf to settings that would change what is built.
fn go(part: &Part) -> Command {
    let mut command = Command::new("go");
    command.current_dir(source(part));
    command.envs([("GOTOOLCHAIN", "local"), ("GOFLAGS", ""), ("GOWORK", "off"), ("CGO_ENABLED", "0")]);
    command
}

fn copy_shipped(part: &'static Part, folder: &Path, log: &Path) -> Result<(), BuildError> {
    let Some(shipped) = &part.shipped else {
        return Ok(());
    };
    let listed = go(part).args(["list", "-m", "-f", "{{.Dir}}", shipped.module]).output().map_err(at(folder))?;
    if !listed.status.success() {
        let tail = String::from_utf8_lossy(&listed.stderr).into_owned();
        return Err(BuildError::Failed { part: part.name, status: listed.status, log: log.to_owned(), tail });
    }
    let module = PathBuf::from(String::from_utf8_lossy(&listed.stdout).trim());
    let source = module.join(shipped.folder);
    tree::copy(&source, &folder.join("files").join(shipped.name)).map_err(at(&source))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BuildError + use<> {
    let path = path.to_owned();
    move |source| BuildError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.26.8 linux/amd64") >= numbers("1.26.0"));
        assert!(numbers("1.9") < numbers("1.26.0"));
        assert!(numbers("") < numbers("1.26.0"));
    }
}
