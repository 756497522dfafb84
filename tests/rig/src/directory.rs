//! The directory in which one rig lives: logs, data, credentials.
//!
//! Kept until the rig is known to be good, so that whatever fails during the start leaves its logs to read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Removed when dropped, unless something went wrong.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    kept: AtomicBool,
}

impl Directory {
    /// Makes a fresh directory, at `path` or below the system's directory for temporary files.
    pub(crate) fn create(path: Option<&Path>) -> io::Result<Self> {
        let path = match path {
            Some(path) => {
                fs::create_dir_all(path)?;
                path.canonicalize()?
            }
            None => tempfile::Builder::new().prefix("pilotguard-rig-").tempdir()?.keep(),
        };
        for part in ["logs", "people", "pki", "data"] {
            fs::create_dir_all(path.join(part))?;
        }
        Ok(Self { path, kept: AtomicBool::new(true) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// States whether the directory outlives this value.
    pub(crate) fn keep(&self, kept: bool) {
        self.kept.store(kept, Ordering::Relaxed);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.kept.load(Ordering::Relaxed) || std::thread::panicking() {
            eprintln!("rig: logs and data are kept in {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("rig: cannot remove {}: {error}", self.path.display());
        }
    }
}
