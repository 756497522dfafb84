//! A Git repository on disk, as a team pushes to it and a GitOps tool reads from it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::wait::{TimedOut, within};

/// How long one `git` may take.
const GIT: Duration = Duration::from_secs(20);

/// Why a repository does not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A file could not be written, or `git` could not be run.
    #[error("cannot write to a Git repository: {0}")]
    System(#[from] std::io::Error),
    /// `git` did not end in time.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// `git` said no.
    #[error("git {command}: {stderr}")]
    Failed {
        /// Its arguments.
        command: String,
        /// What it said.
        stderr: String,
    },
}

/// A repository with one branch, `main`.
#[derive(Debug)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// Makes an empty one at `path`.
    pub async fn create(path: &Path) -> Result<Self, RepositoryError> {
        std::fs::create_dir_all(path)?;
        let repository = Self { path: path.to_owned() };
        repository.git(&["init", "--quiet", "--initial-branch=main"]).await?;
        Ok(repository)
    }

    /// Where a tool on the same machine finds it.
    pub fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    /// Commits these files, by their path in the repository, beside those that are there; returns the commit's name.
    pub async fn commit(&self, message: &str, files: &[(&str, &str)]) -> Result<String, RepositoryError> {
        for (name, content) in files {
            let file = self.path.join(name);
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(file, content)?;
        }
        self.git(&["add", "--all"]).await?;
        let author =
            ["-c", "user.name=Grace Hopper", "-c", "user.email=grace@example.com", "-c", "commit.gpgsign=false"];
        self.git(&[&author[..], &["commit", "--quiet", "--message", message]].concat()).await?;
        Ok(self.git(&["rev-parse", "HEAD"]).await?.trim().to_owned())
    }

    async fn git(&self, arguments: &[&str]) -> Result<String, RepositoryError> {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(&self.path).stdin(Stdio::null()).kill_on_drop(true);
        let output = within("end of git", GIT, command.output()).await??;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(RepositoryError::Failed { command: arguments.join(" "), stderr })
    }
}
