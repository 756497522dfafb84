//! pilotguard: a Kubernetes operator that makes pilots safe by declaration.
