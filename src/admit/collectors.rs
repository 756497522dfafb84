//! Kubernetes' own accounts that clean up. They are never refused a deletion.

/// Whoever removes what belongs to something that is gone cannot be talked to and must not be stopped.
pub(super) fn is_collector(user: &str) -> bool {
    COLLECTORS.contains(&user)
}

/// The user names of Kubernetes' own collectors; the last is used where controllers share one account.
pub(super) const COLLECTORS: [&str; 3] = [
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:kube-controller-manager",
];
