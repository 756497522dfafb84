//! The command lines of etcd, the Kubernetes control plane and kwok.
//!
//! It only describes processes; starting them and waiting for them is the rig's work.

use std::path::{Path, PathBuf};

use crate::audit;
use crate::pki::{Certificate, PkiError, write};
use crate::process::Daemon;
use crate::tools::{Tool, Tools};

/// The range of Services' virtual addresses.
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// The range of pods' addresses, which kwok hands out.
const POD_RANGE: &str = "10.128.0.1/16";

/// kwok's stages: nodes become Ready and stay so by leases, pods run as soon as they are bound.
const STAGES: [&str; 3] = ["node/fast", "node/heartbeat-with-lease", "pod/fast"];

/// The servers of a cluster.
#[derive(Debug)]
pub(crate) struct Servers {
    // Dropped in this order: who uses another ends before it.
    pub(crate) followers: Vec<Daemon>,
    pub(crate) apiserver: Daemon,
    pub(crate) etcd: Daemon,
    pub(crate) etcd_health: String,
    pub(crate) audit_log: PathBuf,
}

impl Servers {
    pub(crate) fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        self.followers.iter().chain([&self.apiserver, &self.etcd])
    }
}

/// What all command lines need.
pub(crate) struct Layout<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) directory: &'a Path,
    pub(crate) logs: PathBuf,
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) apiserver: u16,
    pub(crate) authority: &'a Path,
    pub(crate) serving: Certificate,
    pub(crate) token_public: PathBuf,
    pub(crate) token_private: PathBuf,
}

impl Layout<'_> {
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.logs.join("audit.jsonl")
    }

    pub(crate) fn etcd(&self) -> Daemon {
        let client = format!("http://127.0.0.1:{}", self.etcd);
        let peer = format!("http://127.0.0.1:{}", self.etcd_peer);
        let arguments = [
            "--name=rig".to_owned(),
            format!("--data-dir={}", self.directory.join("data/etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=rig={peer}"),
            // The data is thrown away with the rig: surviving a power cut is worth no disk flush.
            "--unsafe-no-fsync".to_owned(),
        ];
        self.daemon("etcd", Tool::Etcd, arguments)
    }

    pub(crate) fn apiserver(&self) -> Result<Daemon, PkiError> {
        let policy = self.directory.join("audit-policy.json");
        write(&policy, audit::POLICY)?;
        let arguments = [
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.apiserver),
            format!("--tls-cert-file={}", self.serving.certificate.display()),
            format!("--tls-private-key-file={}", self.serving.key.display()),
            format!("--client-ca-file={}", self.authority.display()),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", self.token_public.display()),
            format!("--service-account-signing-key-file={}", self.token_private.display()),
            "--authorization-mode=RBAC".to_owned(),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            "--allow-privileged=true".to_owned(),
            // Webhook Services are resolved to their endpoints, since no kube-proxy serves their virtual addresses.
            "--enable-aggregator-routing=true".to_owned(),
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", self.audit_log().display()),
            "--profiling=false".to_owned(),
        ];
        Ok(self.daemon("kube-apiserver", Tool::KubeApiserver, arguments))
    }

    pub(crate) fn controller_manager(&self, kubeconfig: &Path) -> Daemon {
        let arguments = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--service-account-private-key-file={}", self.token_private.display()),
            format!("--root-ca-file={}", self.authority.display()),
            "--use-service-account-credentials=true".to_owned(),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
        ];
        self.daemon("kube-controller-manager", Tool::KubeControllerManager, arguments)
    }

    pub(crate) fn scheduler(&self, kubeconfig: &Path) -> Daemon {
        let arguments = [
            format!("--kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
        ];
        self.daemon("kube-scheduler", Tool::KubeScheduler, arguments)
    }

    pub(crate) fn kwok(&self, kubeconfig: &Path) -> std::io::Result<Daemon> {
        let mut arguments = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "--manage-all-nodes=true".to_owned(),
            "--node-lease-duration-seconds=40".to_owned(),
            format!("--cidr={POD_RANGE}"),
        ];
        for stage in STAGES {
            for file in std::fs::read_dir(self.tools.kwok_stages().join(stage))? {
                let path = file?.path();
                let is_a_stage = path.extension().is_some_and(|extension| extension == "yaml")
                    && path.file_stem().is_some_and(|stem| stem != "kustomization");
                if is_a_stage {
                    arguments.push(format!("--config={}", path.display()));
                }
            }
        }
        Ok(self.daemon("kwok", Tool::Kwok, arguments))
    }

    fn daemon(&self, name: &'static str, tool: Tool, arguments: impl IntoIterator<Item = String>) -> Daemon {
        Daemon::new(name, &self.tools.path(tool), arguments, &self.logs)
    }
}
