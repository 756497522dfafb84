//! A real Kubernetes control plane and a real Prometheus, run as plain processes for tests, the demo and benchmarks.
//!
//! [`Rig::start`] builds what is missing ([`tools`]), starts etcd, kube-apiserver, kube-controller-manager,
//! kube-scheduler, kwok and Prometheus on free ports of the loopback interface, and returns once all of them serve.
//! Everyone who talks to the cluster is a [`Person`] with rights of their own.
//!
//! Guarantees:
//! - Any number of rigs run side by side, in one process or in several.
//! - Every process that a rig started ends with the rig's owner, even when the owner is killed with `SIGKILL`.
//! - A rig's directory (logs, data, credentials) is removed with the rig, and kept with its path printed when the
//!   start failed, a panic is unwinding, or [`Rig::keep`] was called.
//!
//! It never touches a cluster that it did not start, but for the one that [`Rig::attach`] is given, and never waits
//! without a deadline.

mod access;
pub mod argocd;
pub mod attach;
pub mod audit;
pub mod background;
mod control_plane;
mod directory;
mod expose;
mod nodes;
pub mod operator;
pub mod person;
pub mod pki;
pub mod playground;
mod ports;
pub mod process;
pub mod prometheus;
pub mod release;
pub mod repository;
mod rig;
pub mod service;
mod start;
pub mod tools;
mod tree;
pub mod wait;

pub use argocd::ArgoCd;
pub use attach::Access;
pub use audit::AuditEvent;
pub use operator::{Operator, OperatorOptions};
pub use person::{Output, Person};
pub use process::{Leashed, Signal};
pub use prometheus::Target;
pub use release::{Release, ReleaseOptions};
pub use repository::Repository;
pub use rig::{Rig, RigError, RigOptions};
pub use service::{DemoService, ServiceOptions};
pub use tools::{Tool, Tools};
