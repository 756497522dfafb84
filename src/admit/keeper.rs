//! Keeps the webhook configurations in the API server as [`Registration`] wants them.
//!
//! Written when the set of guarded workloads changes and when someone else edited or deleted them; never when
//! nothing differs. Whoever edits them again and again is followed ever more slowly. What is in force is told
//! only after the API server has accepted it.

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
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::pilots::GuardedSet;
use super::registration::Registration;
use crate::release::ownership::FIELD_MANAGER;
use crate::runtime::clients::Clients;

/// Every call to the API server is given up after this time.
const DEADLINE: Duration = Duration::from_secs(5);

/// Changes of the set that come so close together are written once.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// What failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);

/// The second edit within [`QUIET`] is undone this long after the first, each further one after twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// No edit is left in place for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// After so long without an edit the next one is undone at once.
const QUIET: Duration = Duration::from_mins(1);

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
    let mut keeper = Keeper {
        mutating: Api::all(clients.acting.clone()),
        validating: Api::all(clients.acting),
        registration,
        accepted: None,
        healing: Healing::default(),
    };
    let mut due = Some(Instant::now());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = guarded.changed() => match changed {
                Ok(()) => {
                    let soon = Instant::now() + DEBOUNCE;
                    due = Some(due.map_or(soon, |due| due.min(soon)));
                }
                Err(_) => return,
            },
            Some(()) = edits.next() => due = Some(Instant::now()),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let known = guarded.borrow_and_update().clone();
                due = match known {
                    Some(set) => keeper.bring_into_force(&set, &applied).await,
                    None => None,
                };
            }
        }
    }
}

struct Keeper {
    mutating: Api<MutatingWebhookConfiguration>,
    validating: Api<ValidatingWebhookConfiguration>,
    registration: Registration,
    /// What the API server accepted last. What differs from it was done by someone else.
    accepted: Option<Arc<GuardedSet>>,
    healing: Healing,
}

impl Keeper {
    /// Writes what differs from what `set` wants, and returns when to look again unless something happens.
    async fn bring_into_force(&mut self, set: &Arc<GuardedSet>, applied: &watch::Sender<Applied>) -> Option<Instant> {
        let is_edit = self.accepted.as_ref() == Some(set);
        let now = Instant::now();
        let not_before = self.healing.not_before.filter(|time| is_edit && *time > now);
        let (mutating, validating) = self.registration.configurations(set);
        let may_write = not_before.is_none();
        let outcome = async {
            let first =
                ensure(&self.mutating, mutating, |one, other| one.webhooks == other.webhooks, applied, may_write)
                    .await?;
            let second =
                ensure(&self.validating, validating, |one, other| one.webhooks == other.webhooks, applied, may_write)
                    .await?;
            Ok::<_, KeeperError>(first.or(second))
        };
        match outcome.await {
            Ok(Some(_)) if !may_write => not_before,
            Ok(found) => {
                if is_edit && let Some(edit) = found {
                    self.healing.healed(now, &edit);
                }
                self.accepted = Some(set.clone());
                applied.send_if_modified(|current| current.replace(set.clone()).as_ref() != Some(set));
                None
            }
            Err(problem) => {
                let cause = std::error::Error::source(&problem).map(ToString::to_string);
                tracing::warn!(%problem, cause, "the webhook configurations could not be written; trying again");
                Some(not_before.unwrap_or(now).max(now + RETRY))
            }
        }
    }
}

/// How patiently edits by someone else are undone: two who put back each other's writes must not keep an API
/// server busy.
#[derive(Debug, Default)]
struct Healing {
    not_before: Option<Instant>,
    last: Option<Instant>,
    wait: Duration,
}

impl Healing {
    fn healed(&mut self, now: Instant, edit: &Edit) {
        let is_repeated = self.last.is_some_and(|last| now.duration_since(last) < QUIET);
        if is_repeated && self.wait == FIRST_WAIT {
            let by = edit.by.as_deref().unwrap_or("someone who deletes them");
            tracing::warn!(%by, "the webhook configurations are edited repeatedly; pilotguard restores them ever more slowly");
        }
        self.wait = if is_repeated { (self.wait * 2).min(LONGEST_WAIT) } else { FIRST_WAIT };
        self.last = Some(now);
        self.not_before = Some(now + self.wait);
    }
}

/// What differed from what is wanted.
struct Edit {
    /// The field manager that wrote last, if it was another one than ours; `None` where nothing was stored.
    by: Option<String>,
}

impl Edit {
    fn of(stored: Option<&ObjectMeta>) -> Self {
        let managers = stored.and_then(|meta| meta.managed_fields.as_ref()).into_iter().flatten();
        let others = managers.filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER));
        let last = others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
        Self { by: last.and_then(|entry| entry.manager.clone()) }
    }
}

/// Makes one configuration what is wanted, if it may be written now, and returns what was found to differ.
/// Nothing is written where it is so already.
async fn ensure<K>(
    api: &Api<K>,
    mut wanted: K,
    is_same: impl Fn(&K, &K) -> bool,
    applied: &watch::Sender<Applied>,
    may_write: bool,
) -> Result<Option<Edit>, KeeperError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = wanted.meta().name.clone().unwrap_or_default();
    let what = |verb: &str| format!("{verb} {} {name}", K::kind(&()));
    let stored = within(&what("reading"), api.get_opt(&name)).await?;
    if stored.as_ref().is_some_and(|stored| is_same(stored, &wanted) && has_metadata(stored.meta(), wanted.meta())) {
        return Ok(None);
    }
    applied.send_if_modified(|current| current.take().is_some());
    let edit = Edit::of(stored.as_ref().map(Resource::meta));
    if !may_write {
        return Ok(Some(edit));
    }
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
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
    Ok(Some(edit))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_in_a_row_are_undone_ever_more_slowly_until_a_minute_is_quiet() {
        let mut healing = Healing::default();
        let mut now = Instant::now();
        let mut heal_after = |pause: Duration| {
            now += pause;
            healing.healed(now, &Edit { by: None });
            healing.not_before.map(|time| time - now)
        };
        let waits: Vec<_> = (0..10).map(|_| heal_after(LONGEST_WAIT)).collect();
        let expected = [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000];
        assert_eq!(waits, expected.map(|wait| Some(Duration::from_millis(wait))));
        assert_eq!(heal_after(Duration::from_mins(1)), Some(Duration::from_millis(200)));
    }
}
