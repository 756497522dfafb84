//! Keeps the webhook configurations in the API server as [`Registration`] wants them.
//!
//! Written when the set of guarded workloads changes and when someone else edited or deleted them; never when
//! nothing differs. What is in force is told only after the API server has accepted it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::pilots::GuardedSet;
use super::registration::Registration;
use crate::runtime::clients::Clients;

/// Every call to the API server is given up after this time.
const DEADLINE: Duration = Duration::from_secs(5);

/// Changes of the set that come so close together are written once.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// What failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);

/// A watch is renewed after so many seconds, which bounds how long a lost one goes unnoticed.
const WATCH_SECONDS: u32 = 25;

/// The set of workloads whose entries the API server has accepted; `None` before the first time and while an
/// edit by someone else is being undone.
pub type Applied = Option<Arc<GuardedSet>>;

/// Why a configuration could not be written.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The API server refused or could not be reached.
    #[error("the API server did not accept {what}")]
    Api {
        /// What was asked of it.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("the API server did not answer within {} s: {what}", DEADLINE.as_secs())]
    Deadline {
        /// What was asked of it.
        what: String,
    },
}

/// The ClusterRole of this name as the owner of what it permits to write: removing it removes that too.
pub async fn owning_cluster_role(client: &Client, name: &str) -> Result<OwnerReference, KeeperError> {
    let role =
        within(&format!("reading ClusterRole {name}"), Api::<ClusterRole>::all(client.clone()).get(name)).await?;
    Ok(OwnerReference {
        api_version: ClusterRole::api_version(&()).into_owned(),
        kind: ClusterRole::kind(&()).into_owned(),
        name: name.to_owned(),
        uid: role.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    })
}

/// Keeps the configurations until `stop`. They are left in place then: without them nothing is guarded, and
/// with them a change is refused until the operator is back. Nothing is written before the workloads are
/// known, so that a start does not open what the last process guarded.
pub async fn keep(
    clients: Clients,
    registration: Registration,
    mut guarded: watch::Receiver<Option<Arc<GuardedSet>>>,
    applied: watch::Sender<Applied>,
    stop: CancellationToken,
) {
    let instance = &registration.instance;
    let mut edits = futures::stream::select(
        edits(Api::<MutatingWebhookConfiguration>::all(clients.watching.clone()), instance),
        edits(Api::<ValidatingWebhookConfiguration>::all(clients.watching), instance),
    );
    let keeper =
        Keeper { mutating: Api::all(clients.acting.clone()), validating: Api::all(clients.acting), registration };
    let mut has_failed = false;
    loop {
        let known = guarded.borrow_and_update().clone();
        if let Some(set) = known {
            has_failed = !keeper.bring_into_force(&set, &applied).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = guarded.changed() => match changed {
                Ok(()) => sleep(DEBOUNCE).await,
                Err(_) => return,
            },
            Some(()) = edits.next() => {}
            () = sleep(RETRY), if has_failed => {}
        }
    }
}

struct Keeper {
    mutating: Api<MutatingWebhookConfiguration>,
    validating: Api<ValidatingWebhookConfiguration>,
    registration: Registration,
}

impl Keeper {
    /// Writes what differs from what `set` wants; returns whether all of it is in force.
    async fn bring_into_force(&self, set: &Arc<GuardedSet>, applied: &watch::Sender<Applied>) -> bool {
        let (mutating, validating) = self.registration.configurations(set);
        let outcome = async {
            ensure(&self.mutating, mutating, |one, other| one.webhooks == other.webhooks, applied).await?;
            ensure(&self.validating, validating, |one, other| one.webhooks == other.webhooks, applied).await
        };
        match outcome.await {
            Ok(()) => {
                applied.send_if_modified(|current| current.replace(set.clone()).as_ref() != Some(set));
                true
            }
            Err(problem) => {
                let cause = std::error::Error::source(&problem).map(ToString::to_string);
                tracing::warn!(%problem, cause, "the webhook configurations could not be written; trying again");
                false
            }
        }
    }
}

/// Makes one configuration what is wanted. Nothing is written where it is so already.
async fn ensure<K>(
    api: &Api<K>,
    mut wanted: K,
    is_same: impl Fn(&K, &K) -> bool,
    applied: &watch::Sender<Applied>,
) -> Result<(), KeeperError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = wanted.meta().name.clone().unwrap_or_default();
    let what = |verb: &str| format!("{verb} {} {name}", K::kind(&()));
    let stored = within(&what("reading"), api.get_opt(&name)).await?;
    if stored.as_ref().is_some_and(|stored| is_same(stored, &wanted) && has_metadata(stored.meta(), wanted.meta())) {
        return Ok(());
    }
    applied.send_if_modified(|current| current.take().is_some());
    let parameters = PostParams { field_manager: Some("pilotguard".to_owned()), ..PostParams::default() };
    if let Some(stored) = stored {
        // Replaced and not merged: entries and conditions that someone added have to go.
        let meta = wanted.meta_mut();
        meta.resource_version.clone_from(&stored.meta().resource_version);
        meta.annotations.clone_from(&stored.meta().annotations);
        within(&what("replacing"), api.replace(&name, &parameters, &wanted)).await?;
    } else {
        within(&what("creating"), api.create(&parameters, &wanted)).await?;
    }
    tracing::info!(kind = %K::kind(&()), %name, "webhook configuration written");
    Ok(())
}

fn has_metadata(stored: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    stored.labels == wanted.labels && stored.owner_references == wanted.owner_references
}

/// Something whenever the object of this name was touched by anyone, or the watch began anew.
fn edits<K>(api: Api<K>, name: &str) -> impl Stream<Item = ()> + Send + Unpin + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let only = watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
    let events = watcher(api, only).backoff(EverySecond);
    Box::pin(events.filter_map(|event| async {
        match event {
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => Some(()),
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
            Err(problem) => {
                tracing::debug!(%problem, "the watch on the webhook configuration began anew");
                None
            }
        }
    }))
}

/// A watch that grew slower with every error would leave an edit in place for half a minute.
struct EverySecond;

impl Iterator for EverySecond {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(RETRY)
    }
}

impl Backoff for EverySecond {
    fn reset(&mut self) {}
}

async fn within<T>(what: &str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, KeeperError> {
    match timeout(DEADLINE, call).await {
        Ok(answer) => answer.map_err(|source| KeeperError::Api { what: what.to_owned(), source: Box::new(source) }),
        Err(_) => Err(KeeperError::Deadline { what: what.to_owned() }),
    }
}
