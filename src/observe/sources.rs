//! The metrics sources that exist: which of them a namespace may use, and with which credentials.
//!
//! MetricsSources come from a watch that others run; their Secrets are read from the operator's own namespace
//! only, kept for a minute, and read again after the source refused them. A source is rebuilt when its
//! specification or its Secrets changed. It never asks a source anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};
use tokio::time::{Instant, timeout};

use super::prometheus::client::Client as HttpClient;
use super::prometheus::{Credentials, CredentialsError, Source, Transport};
use crate::api::metrics_source::{MetricsSource, MetricsSourceSpec};

/// The API server answers a read of one Secret in far less.
const SECRET_DEADLINE: Duration = Duration::from_secs(5);

/// Time for which a Secret that was read is used before it is read again.
const SECRET_KEPT: Duration = Duration::from_mins(1);

/// Wrong credentials stay wrong until a person acts: looking more often would only load the API server.
const SECRET_RETRY: Duration = Duration::from_secs(5);

/// Why a source cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceProblem {
    /// There is no MetricsSource by this name.
    #[error("there is no MetricsSource {name:?}; {}", known_sources(.known))]
    NotFound {
        /// The name.
        name: String,
        /// Those that exist and may be used.
        known: Vec<String>,
    },
    /// The MetricsSource is not for this namespace.
    #[error(
        "MetricsSource {name:?} is not for namespace {namespace:?}; ask a platform admin to add it to spec.allowedNamespaces"
    )]
    NotAllowed {
        /// The MetricsSource.
        name: String,
        /// The namespace.
        namespace: String,
    },
    /// A Secret does not exist.
    #[error("MetricsSource {name:?} needs Secret {namespace}/{secret}, which does not exist; create it with the {}", key_list(.keys))]
    SecretMissing {
        /// The MetricsSource.
        name: String,
        /// The operator's namespace.
        namespace: String,
        /// The Secret.
        secret: String,
        /// What it has to hold.
        keys: Vec<&'static str>,
    },
    /// A Secret lacks a key, or it is no text.
    #[error("MetricsSource {name:?} needs the key {key} in Secret {namespace}/{secret}; add it as text")]
    SecretIncomplete {
        /// The MetricsSource.
        name: String,
        /// The operator's namespace.
        namespace: String,
        /// The Secret.
        secret: String,
        /// The key.
        key: &'static str,
    },
    /// A Secret's content cannot be used.
    #[error("Secret {namespace}/{secret}, which MetricsSource {name:?} needs, {cause}; correct it")]
    SecretUnusable {
        /// The MetricsSource.
        name: String,
        /// The operator's namespace.
        namespace: String,
        /// The Secret.
        secret: String,
        /// What is wrong with it.
        cause: CredentialsError,
    },
    /// A Secret could not be read.
    #[error(
        "Secret {namespace}/{secret}, which MetricsSource {name:?} needs, cannot be read: {cause}; check that the API server answers and that the operator may get Secrets in its namespace"
    )]
    SecretUnreadable {
        /// The MetricsSource.
        name: String,
        /// The operator's namespace.
        namespace: String,
        /// The Secret.
        secret: String,
        /// What the API server said, or that it said nothing.
        cause: String,
    },
    /// The specification cannot be used.
    #[error("MetricsSource {name:?} cannot be used: {cause}; correct its spec")]
    Unusable {
        /// The MetricsSource.
        name: String,
        /// Why.
        cause: String,
    },
}

impl SourceProblem {
    /// The reason of a condition that carries this problem.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "SourceNotFound",
            Self::NotAllowed { .. } => "SourceNotAllowed",
            Self::SecretMissing { .. } => "SecretMissing",
            Self::SecretIncomplete { .. } => "SecretIncomplete",
            Self::SecretUnusable { .. } => "SecretUnusable",
            Self::SecretUnreadable { .. } => "SecretUnreadable",
            Self::Unusable { .. } => "SourceUnusable",
        }
    }
}

fn known_sources(known: &[String]) -> String {
    if known.is_empty() {
        "none is for this namespace: ask a platform admin for one".to_owned()
    } else {
        format!("this namespace may use: {}", known.join(", "))
    }
}

fn key_list(keys: &[&str]) -> String {
    format!("{} {}", if keys.len() == 1 { "key" } else { "keys" }, keys.join(" and "))
}

/// How a source is reached. The error says why its specification cannot be used.
pub type Reach = dyn Fn(&MetricsSourceSpec, Credentials) -> Result<Box<dyn Transport>, String> + Send + Sync;

/// All metrics sources.
pub struct Sources {
    store: Store<MetricsSource>,
    client: Client,
    namespace: String,
    places: Mutex<HashMap<String, Arc<Place>>>,
    reach: Arc<Reach>,
}

/// One source's place; whoever builds it holds the lock, so that its Secrets are read once and not by each pilot.
type Place = tokio::sync::Mutex<Option<Built>>;

/// A source and what it was built from.
struct Built {
    source: Arc<Source>,
    spec: MetricsSourceSpec,
    secrets: Vec<SecretVersion>,
    read_at: Instant,
}

/// The state of a Secret, told without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SecretVersion {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl Sources {
    /// The sources in `store`, with Secrets in the operator's `namespace`.
    pub fn new(store: Store<MetricsSource>, client: Client, namespace: &str) -> Self {
        let reach: Arc<Reach> = Arc::new(|spec, credentials| Ok(Box::new(HttpClient::new(spec, credentials)?)));
        Self { store, client, namespace: namespace.to_owned(), places: Mutex::default(), reach }
    }

    /// The same sources, reached in another way than over HTTP.
    #[must_use]
    pub fn over(self, reach: Arc<Reach>) -> Self {
        Self { reach, ..self }
    }

    /// The source by this name, for a Pilot in this namespace.
    pub async fn get(&self, name: &str, namespace: &str) -> Result<Arc<Source>, SourceProblem> {
        let object = self.find(name, Some(namespace))?;
        if !is_allowed(&object.spec, namespace) {
            return Err(SourceProblem::NotAllowed { name: name.to_owned(), namespace: namespace.to_owned() });
        }
        self.open(name, &object.spec).await
    }

    /// The source by this name, for its own status: no matter which namespaces may use it.
    pub async fn for_status(&self, name: &str) -> Result<Arc<Source>, SourceProblem> {
        let object = self.find(name, None)?;
        self.open(name, &object.spec).await
    }

    fn find(&self, name: &str, namespace: Option<&str>) -> Result<Arc<MetricsSource>, SourceProblem> {
        if let Some(object) = self.store.get(&ObjectRef::new(name)) {
            return Ok(object);
        }
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let sources = self.store.state();
        let mut known: Vec<String> = sources
            .iter()
            .filter(|object| namespace.is_none_or(|namespace| is_allowed(&object.spec, namespace)))
            .filter_map(|object| object.metadata.name.clone())
            .collect();
        known.sort();
        Err(SourceProblem::NotFound { name: name.to_owned(), known })
    }

    async fn open(&self, name: &str, spec: &MetricsSourceSpec) -> Result<Arc<Source>, SourceProblem> {
        let place = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(places.entry(name.to_owned()).or_default())
        };
        let mut place = place.lock().await;
        if let Some(built) = place.as_ref().filter(|built| built.spec == *spec && !built.is_due()) {
            return Ok(Arc::clone(&built.source));
        }
        let secrets = match self.read_secrets(name, spec).await {
            Ok(secrets) => secrets,
            // What worked a minute ago most likely still does, and asking with old credentials harms nobody.
            Err(problem @ SourceProblem::SecretUnreadable { .. }) => {
                return match place.as_mut().filter(|built| built.spec == *spec) {
                    Some(built) => Ok(built.put_off()),
                    None => Err(problem),
                };
            }
            Err(problem) => {
                *place = None;
                return Err(problem);
            }
        };
        let versions: Vec<_> = secrets.iter().map(|(_, secret)| version(secret)).collect();
        if let Some(built) = place.as_mut().filter(|built| built.spec == *spec && built.secrets == versions) {
            return Ok(built.put_off());
        }
        let credentials = self.credentials(name, &secrets)?;
        let transport = (self.reach)(spec, credentials)
            .map_err(|cause| SourceProblem::Unusable { name: name.to_owned(), cause })?;
        let source = Arc::new(Source::over(name, spec, transport));
        *place =
            Some(Built { source: Arc::clone(&source), spec: spec.clone(), secrets: versions, read_at: Instant::now() });
        Ok(source)
    }

    /// Every Secret that the specification names, in the order of [`Need::of`].
    async fn read_secrets(&self, name: &str, spec: &MetricsSourceSpec) -> Result<Vec<(Need, Secret)>, SourceProblem> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut secrets = Vec::new();
        for need in Need::of(spec) {
            let unreadable = |cause: String| SourceProblem::SecretUnreadable {
                name: name.to_owned(),
                namespace: self.namespace.clone(),
                secret: need.secret.clone(),
                cause,
            };
            match timeout(SECRET_DEADLINE, api.get_opt(&need.secret)).await {
                Ok(Ok(Some(secret))) => secrets.push((need, secret)),
                Ok(Ok(None)) => {
                    return Err(SourceProblem::SecretMissing {
                        name: name.to_owned(),
                        namespace: self.namespace.clone(),
                        secret: need.secret,
                        keys: need.purpose.keys().to_vec(),
                    });
                }
                Ok(Err(error)) => return Err(unreadable(error.to_string())),
                Err(_) => return Err(unreadable(format!("no answer within {SECRET_DEADLINE:?}"))),
            }
        }
        Ok(secrets)
    }

    fn credentials(&self, name: &str, secrets: &[(Need, Secret)]) -> Result<Credentials, SourceProblem> {
        let mut credentials = Credentials::default();
        for (need, secret) in secrets {
            let key = |key| self.key(name, need, secret, key);
            let made = match need.purpose {
                Purpose::Basic => credentials.basic(key("username")?, key("password")?),
                Purpose::Bearer => credentials.bearer(key("token")?),
                Purpose::Authorities => credentials.trusting(key("ca.crt")?.as_bytes()),
            };
            credentials = made.map_err(|cause| SourceProblem::SecretUnusable {
                name: name.to_owned(),
                namespace: self.namespace.clone(),
                secret: need.secret.clone(),
                cause,
            })?;
        }
        Ok(credentials)
    }

    fn key<'a>(
        &self,
        name: &str,
        need: &Need,
        secret: &'a Secret,
        key: &'static str,
    ) -> Result<&'a str, SourceProblem> {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        let text = bytes.and_then(|ByteString(bytes)| std::str::from_utf8(bytes).ok()).filter(|text| !text.is_empty());
        text.ok_or_else(|| SourceProblem::SecretIncomplete {
            name: name.to_owned(),
            namespace: self.namespace.clone(),
            secret: need.secret.clone(),
            key,
        })
    }
}

impl Built {
    /// Whether its Secrets have to be read again. Without Secrets there is nothing to read.
    fn is_due(&self) -> bool {
        let kept = if self.source.is_unauthenticated() { SECRET_RETRY } else { SECRET_KEPT };
        !self.secrets.is_empty() && self.read_at.elapsed() >= kept
    }

    fn put_off(&mut self) -> Arc<Source> {
        self.read_at = Instant::now();
        Arc::clone(&self.source)
    }
}

/// A Secret that a specification names, and what for.
struct Need {
    secret: String,
    purpose: Purpose,
}

#[derive(Clone, Copy)]
enum Purpose {
    Basic,
    Bearer,
    Authorities,
}

impl Purpose {
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Basic => &["username", "password"],
            Self::Bearer => &["token"],
            Self::Authorities => &["ca.crt"],
        }
    }
}

impl Need {
    fn of(spec: &MetricsSourceSpec) -> Vec<Self> {
        let auth = spec.auth.as_ref();
        let named = [
            (Purpose::Basic, auth.and_then(|auth| auth.basic.as_ref())),
            (Purpose::Bearer, auth.and_then(|auth| auth.bearer.as_ref())),
            (Purpose::Authorities, spec.tls.as_ref().and_then(|tls| tls.ca.as_ref())),
        ];
        let needs = named.into_iter().filter_map(|(purpose, reference)| Some((purpose, reference?)));
        needs.map(|(purpose, reference)| Self { secret: reference.name.clone(), purpose }).collect()
    }
}

fn is_allowed(spec: &MetricsSourceSpec, namespace: &str) -> bool {
    spec.allowed_namespaces.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == namespace))
}

fn version(secret: &Secret) -> SecretVersion {
    SecretVersion { uid: secret.metadata.uid.clone(), resource_version: secret.metadata.resource_version.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(secrets: Vec<SecretVersion>) -> Built {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let spec: MetricsSourceSpec = serde_json::from_value(serde_json::json!({"url": "http://127.0.0.1:1"})).unwrap();
        let source = Arc::new(Source::new("default", &spec, Credentials::default()).unwrap());
        Built { source, spec, secrets, read_at: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn secrets_are_read_once_a_minute() {
        let secret = SecretVersion { uid: None, resource_version: None };
        let mut with_secret = built(vec![secret]);
        let without = built(Vec::new());
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!with_secret.is_due());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(with_secret.is_due() && !without.is_due());
        with_secret.put_off();
        assert!(!with_secret.is_due());
    }
}
