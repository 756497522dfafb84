//! Argo CD beside the rig's cluster: its repo server, its application controller and the redis between them, as plain
//! processes on free ports, with files of their own below the rig's directory.
//!
//! The controller acts as the ServiceAccount `argocd-application-controller` in the namespace `argocd`, which is bound to
//! `cluster-admin` as Argo CD's own manifests bind it. There is no web server and no login: an Application is an object,
//! and whoever may write one uses Argo CD. It needs the programs `redis-server` and `git` on the PATH.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::person::{Person, PersonError};
use crate::ports;
use crate::process::{Daemon, ProcessError};
use crate::rig::{Rig, RigError};
use crate::tools::{BuildError, Tool, Tools};
use crate::wait::{self, PATIENCE, TimedOut};

/// Where Argo CD keeps its configuration and its Applications.
pub const NAMESPACE: &str = "argocd";

/// The account by which it changes the cluster.
const ACCOUNT: &str = "argocd-application-controller";

/// Starts that lost a port to another process before it gives up.
const ATTEMPTS: u32 = 3;

/// The kinds that it looks at: each one more is a list and a watch on everything in a shared cluster.
const INCLUSIONS: &str = r#"
- {apiGroups: [""], kinds: [ConfigMap, Pod, Service], clusters: ["*"]}
- {apiGroups: [apps], kinds: [Deployment, ReplicaSet], clusters: ["*"]}
- {apiGroups: [batch], kinds: [Job], clusters: ["*"]}
- {apiGroups: [pilotguard.dev], kinds: ["*"], clusters: ["*"]}
"#;

/// Why Argo CD does not run.
#[derive(Debug, thiserror::Error)]
pub enum ArgoCdError {
    /// It is not built and could not be.
    #[error(transparent)]
    Tools(#[from] BuildError),
    /// The build was interrupted.
    #[error("the build of Argo CD was interrupted")]
    Interrupted,
    /// The rig did not do as asked.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// kubectl could not be run.
    #[error(transparent)]
    Person(#[from] PersonError),
    /// The API server did not take one of its objects.
    #[error("an object of Argo CD was refused: {0}")]
    Refused(String),
    /// One of its servers could not be started, or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// One of its servers does not serve.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// A file could not be written, or no port was free.
    #[error("the files of Argo CD: {0}")]
    Files(#[from] std::io::Error),
}

/// A running Argo CD; it ends when this value is dropped.
#[derive(Debug)]
pub struct ArgoCd {
    // Dropped in this order: who uses another ends before it.
    controller: Daemon,
    repo_server: Daemon,
    redis: Daemon,
    /// Who changes the cluster.
    pub account: Person,
}

impl ArgoCd {
    /// Installs its kinds and its configuration, starts its servers and returns once they serve. Builds it first if it is
    /// missing, which takes minutes once.
    pub async fn start(rig: &Rig) -> Result<Self, ArgoCdError> {
        let tools = tokio::task::spawn_blocking(Tools::all).await.map_err(|_| ArgoCdError::Interrupted)??;
        install(rig, &tools).await?;
        let account = rig.service_account(NAMESPACE, ACCOUNT).await?;
        let home = rig.directory().join("argocd");
        prepare(&home)?;
        for _ in 1..ATTEMPTS {
            match Self::attempt(rig, &tools, &account, &home).await {
                Err(ArgoCdError::Process(error)) if error.is_a_lost_port() => {}
                outcome => return outcome,
            }
        }
        Self::attempt(rig, &tools, &account, &home).await
    }

    async fn attempt(rig: &Rig, tools: &Tools, account: &Person, home: &Path) -> Result<Self, ArgoCdError> {
        let [redis_port, repo_port, repo_metrics, metrics] = ports::free()?;
        let program = tools.path(Tool::ArgoCd);
        let layout = Layout { program: &program, home, account, logs: rig.logs() };
        let argocd = Self {
            redis: layout.redis(redis_port),
            repo_server: layout.repo_server(repo_port, repo_metrics, redis_port),
            controller: layout.controller(metrics, repo_port, redis_port),
            account: account.clone(),
        };
        argocd.redis.start()?;
        serves(&argocd.redis, redis_port).await?;
        argocd.repo_server.start()?;
        serves(&argocd.repo_server, repo_port).await?;
        argocd.controller.start()?;
        serves(&argocd.controller, metrics).await?;
        Ok(argocd)
    }

    /// Fails when it has ended by itself.
    pub fn check(&self) -> Result<(), ProcessError> {
        [&self.controller, &self.repo_server, &self.redis].into_iter().try_for_each(Daemon::check)
    }
}

/// Returns once somebody listens, unless the server ends first.
async fn serves(daemon: &Daemon, port: u16) -> Result<(), ArgoCdError> {
    let connected = wait::until("listening server of Argo CD", PATIENCE, || TcpStream::connect(("127.0.0.1", port)));
    tokio::select! {
        connected = connected => Ok(connected.map(drop)?),
        ended = daemon.ended() => Err(ended.into()),
    }
}

/// What its command lines need.
struct Layout<'a> {
    program: &'a Path,
    home: &'a Path,
    account: &'a Person,
    logs: PathBuf,
}

impl Layout<'_> {
    fn redis(&self, port: u16) -> Daemon {
        let port = port.to_string();
        let words = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        Daemon::new("argocd-redis", Path::new("redis-server"), words, &self.logs)
    }

    fn repo_server(&self, port: u16, metrics: u16, redis: u16) -> Daemon {
        let arguments = [
            "--address=127.0.0.1".to_owned(),
            format!("--port={port}"),
            "--metrics-address=127.0.0.1".to_owned(),
            format!("--metrics-port={metrics}"),
            format!("--redis=localhost:{redis}"),
            "--disable-tls".to_owned(),
            "--client-ca-path=".to_owned(),
        ];
        self.daemon("argocd-repo-server", &arguments)
    }

    fn controller(&self, metrics: u16, repo_server: u16, redis: u16) -> Daemon {
        let arguments = [
            format!("--namespace={NAMESPACE}"),
            format!("--metrics-port={metrics}"),
            format!("--repo-server=localhost:{repo_server}"),
            "--repo-server-plaintext".to_owned(),
            format!("--redis=localhost:{redis}"),
            // Nobody tells it of a commit by a webhook here.
            "--app-resync=10".to_owned(),
            "--app-resync-jitter=0".to_owned(),
            // Its own defaults heal again after 2 s, 6 s, 18 s and so on, up to five minutes: tests wait for each.
            "--self-heal-backoff-timeout-seconds=1".to_owned(),
            "--self-heal-backoff-factor=1".to_owned(),
            "--self-heal-backoff-cap-seconds=2".to_owned(),
            // Its web server would ask for the health of each object; without one it is in the Application.
            "--persist-resource-health".to_owned(),
        ];
        self.daemon("argocd-application-controller", &arguments)
    }

    /// Which server the program is, it is told by its environment.
    fn daemon(&self, name: &'static str, arguments: &[String]) -> Daemon {
        let mut words: Vec<OsString> = self.environment(name);
        words.push(self.program.into());
        words.extend(arguments.iter().map(OsString::from));
        Daemon::new(name, Path::new("env"), words, &self.logs)
    }

    fn environment(&self, name: &str) -> Vec<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let set = |name: &str, value: &Path| {
            let mut pair = OsString::from(format!("{name}="));
            pair.push(value);
            pair
        };
        let mut search = OsString::from("PATH=");
        search.push(self.home);
        search.push(":");
        search.push(path);
        vec![
            search,
            format!("ARGOCD_BINARY_NAME={name}").into(),
            format!("HOSTNAME={name}-0").into(),
            "ARGOCD_FAKE_IN_CLUSTER=true".into(),
            "ARGOCD_GPG_ENABLED=false".into(),
            set("KUBECONFIG", &self.account.kubeconfig),
            set("ARGOCD_TLS_DATA_PATH", &self.home.join("tls")),
            set("ARGOCD_SSH_DATA_PATH", &self.home.join("ssh")),
            set("ARGOCD_GNUPGHOME", &self.home.join("gnupg")),
            set("ARGOCD_PLUGINSOCKFILEPATH", &self.home.join("plugins")),
            set("TMPDIR", &self.home.join("tmp")),
        ]
    }
}

/// Its folders, and in place of its helper that checks signatures one that finds nothing wrong.
fn prepare(home: &Path) -> std::io::Result<()> {
    for folder in ["tls", "ssh", "gnupg", "plugins", "tmp"] {
        fs::create_dir_all(home.join(folder))?;
    }
    fs::write(home.join("ssh/ssh_known_hosts"), "")?;
    let helper = home.join("git-verify-wrapper.sh");
    fs::write(&helper, "#!/bin/sh\n")?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))
}

async fn install(rig: &Rig, tools: &Tools) -> Result<(), ArgoCdError> {
    let crds = tools.argocd_definitions();
    for name in ["application-crd.yaml", "appproject-crd.yaml"] {
        apply(rig, &crds.join(name).display().to_string(), "").await?;
    }
    let established = || async {
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=5s",
            "crd/applications.argoproj.io",
            "crd/appprojects.argoproj.io",
        ];
        let output = rig.admin().kubectl(&wait).await.map_err(|error| error.to_string())?;
        if output.succeeded() { Ok(()) } else { Err(output.stderr) }
    };
    wait::until("kinds of Argo CD", PATIENCE, established).await?;
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": objects()});
    apply(rig, "-", &objects.to_string()).await
}

async fn apply(rig: &Rig, file: &str, input: &str) -> Result<(), ArgoCdError> {
    let output = rig.admin().kubectl_with(&["apply", "--server-side", "-f", file], input).await?;
    if output.succeeded() { Ok(()) } else { Err(ArgoCdError::Refused(output.stderr)) }
}

fn objects() -> Vec<Value> {
    let own = |kind: &str, name: &str, mut object: Value| {
        object["apiVersion"] = json!(if kind == "AppProject" { "argoproj.io/v1alpha1" } else { "v1" });
        object["kind"] = json!(kind);
        object["metadata"] =
            json!({"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "argocd"}});
        object
    };
    let configuration = json!({"resource.inclusions": INCLUSIONS});
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        own("ServiceAccount", ACCOUNT, json!({})),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": ACCOUNT},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
        }),
        own("ConfigMap", "argocd-cm", json!({"data": configuration})),
        own("ConfigMap", "argocd-rbac-cm", json!({})),
        own("Secret", "argocd-secret", json!({"stringData": {"server.secretkey": "of no use without a web server"}})),
        own(
            "AppProject",
            "default",
            json!({"spec": {
                "sourceRepos": ["*"],
                "destinations": [{"server": "*", "namespace": "*"}],
                "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
            }}),
        ),
    ]
}
