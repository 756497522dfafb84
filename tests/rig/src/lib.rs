//! A real Kubernetes control plane and Prometheus, started as processes.
