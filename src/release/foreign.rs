//! Whether another controller decides what a workload runs, or how much of it: Argo Rollouts or Flagger.
//!
//! Read off the workload alone: who owns it, what is written on it, and who wrote to its spec. Whether somebody's
//! Rollout or Canary names it is not asked, for those kinds need not exist in the cluster.

use serde_json::Value;

/// A controller that moves workloads by rules of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Argo Rollouts: a Rollout owns the workload, or takes its template from it and scales it.
    ArgoRollouts,
    /// Flagger: the workload is a Canary's target, which it scales, or the primary that it keeps.
    Flagger,
}

impl Foreign {
    const ALL: [Self; 2] = [Self::ArgoRollouts, Self::Flagger];

    /// What people call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ArgoRollouts => "Argo Rollouts",
            Self::Flagger => "Flagger",
        }
    }

    /// The kind that it reads its rules from, with the group.
    const fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::ArgoRollouts => ("argoproj.io", "Rollout"),
            Self::Flagger => ("flagger.app", "Canary"),
        }
    }

    /// The name under which the API server notes which fields it wrote: that of its program.
    const fn field_manager(self) -> &'static str {
        match self {
            Self::ArgoRollouts => "rollouts-controller",
            Self::Flagger => "flagger",
        }
    }

    fn owns(self, object: &Value) -> bool {
        let (group, kind) = self.kind();
        list(object, "/metadata/ownerReferences").any(|owner| {
            let group_of = text(owner, "apiVersion").split('/').next().unwrap_or_default();
            group_of == group && text(owner, "kind") == kind
        })
    }

    fn wrote_spec(self, object: &Value) -> bool {
        list(object, "/metadata/managedFields")
            .any(|entry| text(entry, "manager") == self.field_manager() && entry.pointer("/fieldsV1/f:spec").is_some())
    }

    fn left_a_mark(self, object: &Value) -> bool {
        match self {
            Self::ArgoRollouts => {
                let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
                annotations.into_iter().flatten().any(|(key, _)| key.starts_with("rollout.argoproj.io/"))
            }
            // How it scales a DaemonSet to nothing.
            Self::Flagger => {
                let selector = object.pointer("/spec/template/spec/nodeSelector");
                selector.is_some_and(|selector| selector.get("flagger.app/scale-to-zero").is_some())
            }
        }
    }
}

/// The controller that drives a workload besides Kubernetes' own, if one does.
pub fn foreign(object: &Value) -> Option<Foreign> {
    Foreign::ALL
        .into_iter()
        .find(|foreign| foreign.owns(object) || foreign.left_a_mark(object) || foreign.wrote_spec(object))
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_controller_is_known_by_what_it_owns_marks_and_writes() {
        let owned =
            |api_version: &str, kind: &str| json!({"ownerReferences": [{"apiVersion": api_version, "kind": kind}]});
        let written = |manager: &str, field: &str| {
            json!({"managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}},
                {"manager": manager, "operation": "Update", "fieldsV1": {field: {"f:replicas": {}}}}]})
        };
        let rows = [
            (json!({"name": "web"}), None),
            (owned("argoproj.io/v1alpha1", "Rollout"), Some(Foreign::ArgoRollouts)),
            (owned("argoproj.io/v1alpha1", "Application"), None),
            (owned("flagger.app/v1beta1", "Canary"), Some(Foreign::Flagger)),
            (owned("example.com/v1", "Canary"), None),
            (json!({"annotations": {"rollout.argoproj.io/revision": "3"}}), Some(Foreign::ArgoRollouts)),
            (json!({"annotations": {"argocd.argoproj.io/tracking-id": "web"}}), None),
            (written("rollouts-controller", "f:spec"), Some(Foreign::ArgoRollouts)),
            (written("flagger", "f:spec"), Some(Foreign::Flagger)),
            (written("flagger", "f:status"), None),
            (written("kube-controller-manager", "f:spec"), None),
        ];
        for (metadata, expected) in rows {
            assert_eq!(foreign(&json!({"metadata": metadata})), expected, "{metadata}");
        }
        let parked = json!({"spec": {"template": {"spec": {"nodeSelector": {"flagger.app/scale-to-zero": "true"}}}}});
        assert_eq!(foreign(&parked), Some(Foreign::Flagger));
    }
}
