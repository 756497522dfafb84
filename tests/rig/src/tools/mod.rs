//! The programs that a rig runs, built once from pinned Go modules into a cache that all clones share.
//!
//! Flow: each part (one folder below `tests/rig/tools`, one `go.mod`) is keyed by its pins, flags and Go version; a part
//! whose folder is in the cache is used as it is, any other is built under a lock and moved into place when whole.
//!
//! Guarantees: two builds never run at once on one cache; a killed build leaves nothing that looks finished.
//! It downloads no prebuilt program, only Go modules whose sums are pinned.

mod build;
mod parts;
mod progress;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use build::BuildError;
use parts::{PARTS, Part};

/// A program that [`Tools`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// The cluster's store.
    Etcd,
    /// The Kubernetes API server.
    KubeApiserver,
    /// Kubernetes' own controllers.
    KubeControllerManager,
    /// Assigns pods to nodes.
    KubeScheduler,
    /// The Kubernetes command line.
    Kubectl,
    /// Plays the kubelet for nodes that do not exist.
    Kwok,
    /// The metrics store.
    Prometheus,
    /// Prometheus' tool for rules and stored blocks.
    Promtool,
    /// The chart renderer and installer.
    Helm,
    /// Checks manifests against schemas.
    Kubeconform,
    /// Argo CD: all its servers in one program.
    ArgoCd,
}

impl Tool {
    /// The program's file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubectl => "kubectl",
            Self::Kwok => "kwok",
            Self::Prometheus => "prometheus",
            Self::Promtool => "promtool",
            Self::Helm => "helm",
            Self::Kubeconform => "kubeconform",
            Self::ArgoCd => "argocd",
        }
    }

    /// Whether a `KUBEBUILDER_ASSETS` folder customarily holds it.
    fn is_a_usual_asset(self) -> bool {
        matches!(self, Self::Etcd | Self::KubeApiserver | Self::Kubectl)
    }
}

/// Where every tool and every supporting file is.
#[derive(Debug, Clone)]
pub struct Tools {
    programs: BTreeMap<Tool, PathBuf>,
    files: BTreeMap<&'static str, PathBuf>,
}

impl Tools {
    /// Finds the tools of every rig and builds those that are missing, one part after another, telling its progress on
    /// stderr.
    ///
    /// `$KUBEBUILDER_ASSETS`, where set, provides etcd, kube-apiserver and kubectl. Blocks, for minutes when the cache is
    /// empty.
    pub fn ready() -> Result<Self, BuildError> {
        Self::find(|part| !part.on_demand)
    }

    /// As [`Tools::ready`], with those that only some tests need.
    pub fn all() -> Result<Self, BuildError> {
        Self::find(|_| true)
    }

    fn find(is_wanted: impl Fn(&Part) -> bool) -> Result<Self, BuildError> {
        let mut programs = assets(std::env::var_os("KUBEBUILDER_ASSETS"));
        let needed: Vec<_> = PARTS
            .iter()
            .filter(|part| is_wanted(part))
            .filter(|part| part.programs.iter().any(|program| !programs.contains_key(&program.tool)))
            .collect();
        let mut files = BTreeMap::new();
        for (part, directory) in needed.iter().zip(build::parts(&needed)?) {
            for program in part.programs {
                programs.entry(program.tool).or_insert_with(|| directory.join("bin").join(program.tool.name()));
            }
            files.insert(part.name, directory.join("files"));
        }
        Ok(Self { programs, files })
    }

    /// The path of a tool.
    pub fn path(&self, tool: Tool) -> PathBuf {
        self.programs.get(&tool).cloned().unwrap_or_else(|| PathBuf::from(tool.name()))
    }

    /// The definitions of Argo CD's kinds, as its own module ships them; only where [`Tools::all`] found it.
    pub fn argocd_definitions(&self) -> PathBuf {
        self.files.get("argocd").map_or_else(PathBuf::new, |files| files.join("crds"))
    }

    /// The stages by which kwok plays nodes and pods, as its own module ships them: `node/fast`, `pod/chaos` and so on.
    pub fn kwok_stages(&self) -> PathBuf {
        self.files.get("kwok").map_or_else(PathBuf::new, |files| files.join("stage"))
    }
}

/// The tools that a folder of the user's provides.
fn assets(folder: Option<OsString>) -> BTreeMap<Tool, PathBuf> {
    let Some(folder) = folder.filter(|folder| !folder.is_empty()) else {
        return BTreeMap::new();
    };
    let tools = PARTS.iter().flat_map(|part| part.programs).map(|program| program.tool);
    tools
        .filter(|tool| tool.is_a_usual_asset())
        .map(|tool| (tool, Path::new(&folder).join(tool.name())))
        .filter(|(_, path)| path.is_file())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_assets_provides_only_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("etcd"), "").unwrap();
        std::fs::write(folder.path().join("kube-scheduler"), "").unwrap();

        let provided = assets(Some(folder.path().into()));

        assert_eq!(provided.into_keys().collect::<Vec<_>>(), [Tool::Etcd]);
        assert!(assets(None).is_empty());
        assert!(assets(Some(OsString::new())).is_empty());
    }
}
