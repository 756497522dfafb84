//! People and service accounts: who talks to the cluster, with credentials of their own and no rights by default.
//!
//! No [`Person`] that is made here is ever in `system:masters`, so whatever one may do was granted by an RBAC binding.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::pki::{self, Authority, Certificate, PkiError};
use crate::wait::{PATIENCE, TimedOut, within};

/// Why a person could not be made or could not act.
#[derive(Debug, thiserror::Error)]
pub enum PersonError {
    /// The credentials could not be made or stored.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The credentials could not be read back.
    #[error("unusable credentials of {name}: {source}")]
    Credentials {
        /// The person.
        name: String,
        /// What the client says.
        source: Box<kube::Error>,
    },
    /// The kubeconfig could not be read back.
    #[error("unusable kubeconfig of {name}: {source}")]
    Kubeconfig {
        /// The person.
        name: String,
        /// What the client says.
        source: Box<kube::config::KubeconfigError>,
    },
    /// A folder for the credentials could not be made, or `kubectl` could not be run.
    #[error("cannot act as a person: {0}")]
    System(#[from] std::io::Error),
    /// `kubectl` did not end in time.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

/// Who acts: by client certificate, by token, or as an entry of another kubeconfig says.
enum Credentials<'a> {
    Certificate(&'a Certificate),
    Token(&'a str),
    Entry(Value),
}

/// Where to find the cluster and the command line.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// The `cluster` of a kubeconfig.
    pub(crate) entry: Value,
    pub(crate) kubectl: PathBuf,
}

/// A user of the cluster.
#[derive(Debug, Clone)]
pub struct Person {
    /// The name that RBAC, admission and audit see.
    pub name: String,
    /// A kubeconfig that acts as this person.
    pub kubeconfig: PathBuf,
    config: Config,
    kubectl: PathBuf,
    /// Where `kubectl` runs, if not where this process does.
    directory: Option<PathBuf>,
}

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the command ended with code 0.
    pub fn succeeded(&self) -> bool {
        self.code == 0
    }
}

impl Person {
    async fn create(
        cluster: &Cluster,
        name: &str,
        directory: &Path,
        credentials: &Credentials<'_>,
    ) -> Result<Self, PersonError> {
        let content = kubeconfig(cluster, name, credentials);
        let kubeconfig = directory.join("kubeconfig");
        pki::write(&kubeconfig, &format!("{content:#}\n"))?;
        let unreadable = |source| PersonError::Kubeconfig { name: name.to_owned(), source: Box::new(source) };
        let read = Kubeconfig::read_from(&kubeconfig).map_err(unreadable)?;
        let mut config =
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.map_err(unreadable)?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.default_retry = false;
        Ok(Self { name: name.to_owned(), kubeconfig, config, kubectl: cluster.kubectl.clone(), directory: None })
    }

    /// The same person, whose `kubectl` runs in this directory and finds the files there by name.
    #[must_use]
    pub fn in_directory(&self, directory: &Path) -> Self {
        Self { directory: Some(directory.to_owned()), ..self.clone() }
    }

    /// A client that acts as this person: no retries, 5 s to connect. It belongs to the current Tokio runtime.
    pub fn client(&self) -> Result<Client, PersonError> {
        Client::try_from(self.config.clone())
            .map_err(|source| PersonError::Credentials { name: self.name.clone(), source: Box::new(source) })
    }

    /// Runs `kubectl` as this person. An exit code other than 0 is no error here but part of the output.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output, PersonError> {
        self.kubectl_with(arguments, "").await
    }

    /// Runs `kubectl` as this person with `input` on its standard input, for `apply -f -`.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<Output, PersonError> {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        command.env("KUBECACHEDIR", self.kubeconfig.with_file_name("cache"));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let what = format!("end of kubectl {}", arguments.join(" "));
        let output = within(&what, PATIENCE, async {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // A kubectl that does not read its input ends on its own terms.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            child.wait_with_output().await
        })
        .await??;
        Ok(Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// How the API server comes to know users.
enum Passports {
    /// By certificates of an authority that it trusts.
    Authority(Box<Authority>),
    /// By impersonation: the `user` of a kubeconfig, and the folder that ends with the copies of those credentials.
    Impersonation(Value, #[expect(dead_code, reason = "removed when dropped")] TempDir),
}

/// Makes people: users by certificate or impersonation, service accounts from tokens of the API server.
pub(crate) struct People {
    passports: Passports,
    cluster: Cluster,
    folder: PathBuf,
    count: AtomicU32,
}

impl People {
    /// Keeps everyone's credentials below `folder`.
    pub(crate) fn certified(authority: Authority, cluster: Cluster, folder: PathBuf) -> Self {
        Self { passports: Passports::Authority(Box::new(authority)), cluster, folder, count: AtomicU32::new(0) }
    }

    /// Impersonates users with the rights of `user`. Everyone's kubeconfig holds its credentials, so all are removed
    /// with this value, whatever is kept of a rig.
    pub(crate) fn impersonated(user: Value, cluster: Cluster) -> Result<Self, PersonError> {
        let own = tempfile::Builder::new().prefix("pilotguard-people-").tempdir()?;
        let folder = own.path().to_owned();
        Ok(Self { passports: Passports::Impersonation(user, own), cluster, folder, count: AtomicU32::new(0) })
    }

    /// A user without rights of its own.
    pub(crate) async fn user(&self, name: &str, groups: &[&str]) -> Result<Person, PersonError> {
        let folder = self.own_folder(name)?;
        let credentials = match &self.passports {
            Passports::Authority(authority) => Credentials::Certificate(&authority.client(&folder, name, groups)?),
            Passports::Impersonation(user, _) => Credentials::Entry(as_another(user, name, groups)),
        };
        Person::create(&self.cluster, name, &folder, &credentials).await
    }

    /// Whoever the `user` of a kubeconfig is.
    pub(crate) async fn by_entry(&self, name: &str, user: &Value) -> Result<Person, PersonError> {
        let folder = self.own_folder(name)?;
        Person::create(&self.cluster, name, &folder, &Credentials::Entry(user.clone())).await
    }

    /// A user whom the API server knows by a token of its own.
    pub(crate) async fn by_token(&self, name: &str, token: &str) -> Result<Person, PersonError> {
        let folder = self.own_folder(name)?;
        Person::create(&self.cluster, name, &folder, &Credentials::Token(token)).await
    }

    /// Numbered, for two people may have one name.
    fn own_folder(&self, name: &str) -> std::io::Result<PathBuf> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let plain = name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let folder = self.folder.join(format!("{number}-{plain}"));
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

impl std::fmt::Debug for People {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("People").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// The `user` of a kubeconfig who impersonates another one.
fn as_another(user: &Value, name: &str, groups: &[&str]) -> Value {
    let mut user = user.clone();
    if let Some(entry) = user.as_object_mut() {
        entry.retain(|key, _| !key.starts_with("as-"));
        entry.insert("as".to_owned(), json!(name));
        entry.insert("as-groups".to_owned(), json!(groups));
    }
    user
}

/// JSON, which is YAML too.
fn kubeconfig(cluster: &Cluster, name: &str, credentials: &Credentials<'_>) -> Value {
    let user = match credentials {
        Credentials::Certificate(files) => {
            json!({"client-certificate": files.certificate, "client-key": files.key})
        }
        Credentials::Token(token) => json!({"token": token}),
        Credentials::Entry(user) => user.clone(),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "rig",
            "cluster": cluster.entry,
        }],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": name}}],
        "current-context": "rig",
    })
}
