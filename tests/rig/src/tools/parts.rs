//! What is built, from which packages and with which flags; the versions stand in each part's `go.mod`.

use std::time::Duration;

use super::Tool;

/// One Go program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) tool: Tool,
    pub(super) package: &'static str,
}

/// A folder that a module ships and that is kept beside the programs.
#[derive(Debug)]
pub(super) struct Shipped {
    pub(super) module: &'static str,
    pub(super) folder: &'static str,
    pub(super) name: &'static str,
}

/// Programs that share one `go.mod`.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) programs: &'static [Program],
    pub(super) shipped: Option<Shipped>,
    pub(super) flags: &'static [&'static str],
    /// Whether only some tests need it: a rig starts without it.
    pub(super) on_demand: bool,
    /// How long a cold build takes on two cores.
    pub(super) usual: Duration,
}

const STRIPPED: &[&str] = &["-ldflags=-s -w"];

pub(super) const PARTS: &[Part] = &[
    Part {
        name: "etcd",
        programs: &[Program { tool: Tool::Etcd, package: "go.etcd.io/etcd/server/v3" }],
        shipped: None,
        flags: STRIPPED,
        on_demand: false,
        usual: Duration::from_secs(45),
    },
    Part {
        name: "kubernetes",
        programs: &[
            Program { tool: Tool::KubeApiserver, package: "k8s.io/kubernetes/cmd/kube-apiserver" },
            Program { tool: Tool::KubeControllerManager, package: "k8s.io/kubernetes/cmd/kube-controller-manager" },
            Program { tool: Tool::KubeScheduler, package: "k8s.io/kubernetes/cmd/kube-scheduler" },
            Program { tool: Tool::Kubectl, package: "k8s.io/kubernetes/cmd/kubectl" },
        ],
        shipped: None,
        // A server that does not know its own version is refused by clients that demand a minimum.
        flags: &["-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
             -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"],
        on_demand: false,
        usual: Duration::from_mins(5),
    },
    Part {
        name: "kwok",
        programs: &[Program { tool: Tool::Kwok, package: "sigs.k8s.io/kwok/cmd/kwok" }],
        shipped: Some(Shipped { module: "sigs.k8s.io/kwok", folder: "kustomize/stage", name: "stage" }),
        flags: STRIPPED,
        on_demand: false,
        usual: Duration::from_mins(1),
    },
    Part {
        name: "prometheus",
        programs: &[
            Program { tool: Tool::Prometheus, package: "github.com/prometheus/prometheus/cmd/prometheus" },
            Program { tool: Tool::Promtool, package: "github.com/prometheus/prometheus/cmd/promtool" },
        ],
        shipped: None,
        // Without the clients of every cloud, of which no test has one; static targets are left.
        flags: &["-ldflags=-s -w", "-tags=remove_all_sd"],
        on_demand: false,
        usual: Duration::from_secs(100),
    },
    Part {
        name: "kubeconform",
        programs: &[Program { tool: Tool::Kubeconform, package: "github.com/yannh/kubeconform/cmd/kubeconform" }],
        shipped: None,
        flags: STRIPPED,
        on_demand: false,
        usual: Duration::from_secs(10),
    },
    Part {
        name: "helm",
        programs: &[Program { tool: Tool::Helm, package: "helm.sh/helm/v4/cmd/helm" }],
        shipped: None,
        flags: STRIPPED,
        on_demand: false,
        usual: Duration::from_mins(1),
    },
    Part {
        name: "argocd",
        // One program for all of Argo CD's servers; which one it is, its environment says.
        programs: &[Program { tool: Tool::ArgoCd, package: "github.com/argoproj/argo-cd/v3/cmd" }],
        shipped: Some(Shipped { module: "github.com/argoproj/argo-cd/v3", folder: "manifests/crds", name: "crds" }),
        flags: STRIPPED,
        on_demand: true,
        usual: Duration::from_mins(4),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_pinned_as_a_tool_of_its_part() {
        for part in PARTS {
            let pins = std::fs::read_to_string(super::super::build::source(part).join("go.mod")).unwrap();
            for program in part.programs {
                let pinned = pins.lines().any(|line| line.trim_start_matches("tool").trim() == program.package);
                assert!(pinned, "{} is no tool of part {}", program.package, part.name);
            }
        }
    }
}
