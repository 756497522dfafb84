//! What the API server is told to send: the webhook configurations for a set of guarded workloads.
//!
//! Pure. A call that must not be missed (a template, a resumed rollout, our marks, the birth or death of a
//! workload whose Pilot is enforcing) is registered under `failurePolicy: Fail`, as narrowly as match
//! conditions can say it; everything else is under `Ignore`, so that an outage of the operator never stops
//! scaling, observed pilots or other people's work. Where a set is empty there is no entry for it.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, OwnerReference};
use kube::api::ObjectMeta;

use super::break_glass;
use super::cel::{condition, literal};
use super::moves::OWNER_IDENTITY;
use super::objects::PROBE_DECISION;
use super::paths::{OBJECTS, OBSERVED, SCALE, WORKLOADS};
use super::pilots::{GuardedSet, WorkloadKey};
use super::review::{COLLECTORS, PROBE};
use crate::api::workload::PartKind;

/// Owners are compared in the API server up to this number; nobody shall make it give up over a longer list.
const MOST_OWNERS: usize = 16;

/// The API server waits so long for an answer, in seconds.
const TIMEOUT_SECONDS: i32 = 3;

/// A list of workload names is written into a match condition up to so many bytes (some 1,500 workloads).
/// Beyond, every workload of the selected namespaces is sent and the webhook lets the others through.
pub const LONGEST_LIST: usize = 64 * 1024;

/// The label that the API server itself keeps on every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Where the API server reaches the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Through a Service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: i32,
    },
    /// At an address, `https://host:port`, without a path.
    Url(String),
}

/// What all entries have in common.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The name of both configurations; tells several operators on one API server apart.
    pub instance: String,
    /// Where the webhook is.
    pub endpoint: Endpoint,
    /// The certificate authority that it is verified with, PEM.
    pub ca_pem: String,
    /// The user name of the operator, whose requests are not sent to itself, except a probe.
    pub own_account: String,
    /// The namespaces whose Pilots and Decisions this operator looks after; `None`: all.
    pub namespaces: Option<BTreeSet<String>>,
    /// Whose removal removes the configurations.
    pub owner: Option<OwnerReference>,
}

impl Registration {
    /// The configurations that guard exactly `set`.
    pub fn configurations(&self, set: &GuardedSet) -> (MutatingWebhookConfiguration, ValidatingWebhookConfiguration) {
        let mutating = [
            self.workloads(set),
            self.observed_workloads(set),
            self.configuration(set),
            self.observed_configuration(set),
            self.replicas(set),
            Some(self.decisions()),
            Some(self.pilots()),
        ];
        let validating = [
            self.deletions(set),
            self.observed_deletions(set),
            self.configuration_deletions(set),
            self.observed_configuration_deletions(set),
            self.scale(set),
            Some(self.pilot_deletions()),
            Some(self.sources()),
            Some(self.calendars()),
        ];
        let metadata = ObjectMeta {
            name: Some(self.instance.clone()),
            labels: Some(
                [("app.kubernetes.io/managed-by", "pilotguard"), ("app.kubernetes.io/instance", &self.instance)]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
            owner_references: self.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        (
            MutatingWebhookConfiguration {
                metadata: metadata.clone(),
                webhooks: Some(mutating.into_iter().flatten().map(Entry::into_mutating).collect()),
            },
            ValidatingWebhookConfiguration {
                metadata,
                webhooks: Some(validating.into_iter().flatten().map(Entry::into_validating).collect()),
            },
        )
    }

    fn workloads(&self, set: &GuardedSet) -> Option<Entry> {
        let conditions = vec![condition("moves-release", &moves_release())];
        let entry = self.guarded("workloads", WORKLOADS, &pods(&set.enforcing), &["CREATE", "UPDATE"], conditions)?;
        Some(entry.with_status().failing())
    }

    fn observed_workloads(&self, set: &GuardedSet) -> Option<Entry> {
        let conditions = vec![condition("moves-release", &moves_release())];
        let observed = pods(&set.observing);
        let entry = self.guarded("observed-workloads", OBSERVED, &observed, &["CREATE", "UPDATE"], conditions)?;
        Some(entry.with_status())
    }

    fn configuration(&self, set: &GuardedSet) -> Option<Entry> {
        let conditions = vec![condition("changes-content", &changes_content())];
        let governed = configuration(&set.enforcing);
        self.guarded("configuration", WORKLOADS, &governed, &["CREATE", "UPDATE"], conditions).map(Entry::failing)
    }

    fn observed_configuration(&self, set: &GuardedSet) -> Option<Entry> {
        let conditions = vec![condition("changes-content", &changes_content())];
        let observed = configuration(&set.observing);
        self.guarded("observed-configuration", OBSERVED, &observed, &["CREATE", "UPDATE"], conditions)
    }

    fn configuration_deletions(&self, set: &GuardedSet) -> Option<Entry> {
        let conditions = vec![condition("not-collected", &not_collected())];
        let governed = configuration(&set.enforcing);
        self.guarded("configuration-deletions", WORKLOADS, &governed, &["DELETE"], conditions).map(Entry::failing)
    }

    fn observed_configuration_deletions(&self, set: &GuardedSet) -> Option<Entry> {
        let conditions = vec![condition("not-collected", &not_collected())];
        let observed = configuration(&set.observing);
        self.guarded("observed-configuration-deletions", OBSERVED, &observed, &["DELETE"], conditions)
    }

    fn deletions(&self, set: &GuardedSet) -> Option<Entry> {
        let conditions = vec![condition("not-collected", &not_collected())];
        self.guarded("deletions", WORKLOADS, &pods(&set.enforcing), &["DELETE"], conditions).map(Entry::failing)
    }

    fn observed_deletions(&self, set: &GuardedSet) -> Option<Entry> {
        let conditions = vec![condition("not-collected", &not_collected())];
        self.guarded("observed-deletions", OBSERVED, &pods(&set.observing), &["DELETE"], conditions)
    }

    fn replicas(&self, set: &GuardedSet) -> Option<Entry> {
        let conditions = vec![condition("only-replicas", &only_replicas())];
        self.guarded("replicas", WORKLOADS, &with_replicas(set), &["UPDATE"], conditions)
    }

    fn scale(&self, set: &GuardedSet) -> Option<Entry> {
        let entry = self.guarded("scale", SCALE, &with_replicas(set), &["UPDATE"], vec![])?;
        Some(Entry { resources: entry.subresources("scale").collect(), ..entry })
    }

    fn decisions(&self) -> Entry {
        let entry = self.own("decisions", &["decisions"], &["CREATE"]);
        let is_probe = format!(
            "(has(request.dryRun) && request.dryRun && object.metadata.?name.orValue('') == {})",
            literal(PROBE_DECISION)
        );
        let conditions = vec![condition("not-ourselves", &format!("{} || {is_probe}", self.is_not_ourselves()))];
        Entry { namespaces: self.namespaces.clone(), conditions, ..entry }
    }

    /// Who creates a Pilot is written onto it.
    fn pilots(&self) -> Entry {
        let entry = self.own("pilots", &["pilots"], &["CREATE", "UPDATE"]);
        Entry { namespaces: self.namespaces.clone(), ..entry }
    }

    fn pilot_deletions(&self) -> Entry {
        let entry = self.own("pilot-deletions", &["pilots"], &["DELETE"]);
        Entry { namespaces: self.namespaces.clone(), ..entry }
    }

    fn sources(&self) -> Entry {
        self.own("metrics-sources", &["metricssources"], &["CREATE", "UPDATE"])
    }

    fn calendars(&self) -> Entry {
        self.own("change-calendars", &["changecalendars"], &["CREATE", "UPDATE"])
    }

    fn own(&self, name: &str, resources: &[&str], operations: &'static [&'static str]) -> Entry {
        Entry {
            name: format!("{name}.pilotguard.dev"),
            client: self.client(OBJECTS),
            is_failing: false,
            group: "pilotguard.dev",
            version: "v1alpha1",
            resources: resources.iter().map(|resource| (*resource).to_owned()).collect(),
            operations,
            namespaces: None,
            conditions: vec![condition("not-ourselves", &self.is_not_ourselves())],
        }
    }

    fn guarded(
        &self,
        name: &str,
        path: &str,
        workloads: &BTreeSet<WorkloadKey>,
        operations: &'static [&'static str],
        more: Vec<MatchCondition>,
    ) -> Option<Entry> {
        let kinds: BTreeSet<PartKind> = workloads.iter().map(|workload| workload.reference.kind).collect();
        let group = kinds.first()?.group();
        Some(Entry {
            name: format!("{name}.pilotguard.dev"),
            client: self.client(path),
            is_failing: false,
            group,
            version: "v1",
            resources: kinds.into_iter().map(|kind| kind.resource().to_owned()).collect(),
            operations,
            namespaces: Some(workloads.iter().map(|workload| workload.namespace.clone()).collect()),
            conditions: guarded_names(workloads)
                .into_iter()
                .chain([self.not_ourselves(group), break_glass::not_broken()])
                .chain(more)
                .collect(),
        })
    }

    fn client(&self, path: &str) -> WebhookClientConfig {
        let ca_bundle = Some(ByteString(self.ca_pem.clone().into_bytes()));
        match &self.endpoint {
            Endpoint::Url(base) => WebhookClientConfig {
                ca_bundle,
                url: Some(format!("{}{path}", base.trim_end_matches('/'))),
                service: None,
            },
            Endpoint::Service { namespace, name, port } => WebhookClientConfig {
                ca_bundle,
                url: None,
                service: Some(ServiceReference {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    port: Some(*port),
                    path: Some(path.to_owned()),
                }),
            },
        }
    }

    /// A rollback must work while the webhook is down, and so must the dry-run by which it is prepared; by a probe the
    /// operator proves that the webhook is up.
    fn not_ourselves(&self, group: &str) -> MatchCondition {
        let probed = if group.is_empty() { "object.?metadata" } else { "object.?spec.?template.?metadata" };
        let is_dry_run = "has(request.dryRun) && request.dryRun && object != null";
        let is_probe = format!("{is_dry_run} && {probed}.?annotations[?{}].hasValue()", literal(PROBE));
        condition("not-ourselves", &format!("{} || ({is_probe})", self.is_not_ourselves()))
    }

    fn is_not_ourselves(&self) -> String {
        format!("request.userInfo.username != {}", literal(&self.own_account))
    }
}

/// Those that run pods.
fn pods(workloads: &BTreeSet<WorkloadKey>) -> BTreeSet<WorkloadKey> {
    workloads.iter().filter(|workload| workload.reference.kind.has_pods()).cloned().collect()
}

/// Those that configure the others.
fn configuration(workloads: &BTreeSet<WorkloadKey>) -> BTreeSet<WorkloadKey> {
    workloads.iter().filter(|workload| !workload.reference.kind.has_pods()).cloned().collect()
}

fn with_replicas(set: &GuardedSet) -> BTreeSet<WorkloadKey> {
    let all = set.enforcing.union(&set.observing);
    all.filter(|workload| workload.reference.kind.has_replicas()).cloned().collect()
}

fn guarded_names(workloads: &BTreeSet<WorkloadKey>) -> Option<MatchCondition> {
    let names = workloads.iter().map(|workload| literal(workload.to_string())).collect::<Vec<_>>().join(",");
    // The deletion of a collection comes without `request.name`, and so does what asks for a generated name.
    let name = "(oldObject != null ? oldObject : object).metadata.?name.orValue('')";
    let text = format!("(request.resource.resource + '/' + request.namespace + '/' + {name}) in [{names}]");
    (text.len() <= LONGEST_LIST).then(|| condition("guarded", &text))
}

/// On CREATE there is no old object. A template, a resumed rollout (of a StatefulSet or a DaemonSet: any other way of
/// updating), or any of our annotations.
fn moves_release() -> String {
    let is_status = "(has(request.subResource) && request.subResource == 'status')";
    format!(
        "oldObject == null || ({is_status} ? {} : ({}))",
        touches_annotations_of_status(),
        moves_release_of_update()
    )
}

fn moves_release_of_update() -> String {
    let template = "object.spec.template != oldObject.spec.template";
    let is_paused = |object: &str| format!("(has({object}.spec.paused) && {object}.spec.paused)");
    let resumed = format!("({} && !{})", is_paused("oldObject"), is_paused("object"));
    let strategy = "(has(oldObject.spec.updateStrategy) && has(object.spec.updateStrategy) && \
                    object.spec.updateStrategy != oldObject.spec.updateStrategy)";
    format!("{template} || {resumed} || {strategy} || {} || {}", touches_annotations(), gains_owner())
}

/// On CREATE there is no old object. The content of a ConfigMap, or any of our annotations.
fn changes_content() -> String {
    let differs = |field: &str| {
        format!(
            "(has(object.{field}) != has(oldObject.{field}) || \
             (has(object.{field}) && object.{field} != oldObject.{field}))"
        )
    };
    let (data, binary) = (differs("data"), differs("binaryData"));
    format!("oldObject == null || {data} || {binary} || {} || {}", touches_annotations(), gains_owner())
}

/// Of a status write the API server stores status, annotations and owners. Controllers often write from an older copy;
/// that is refused as a conflict in any case and need not be asked about. A version of 0 asks for no such check.
fn touches_annotations_of_status() -> String {
    let is_conflict = "has(object.metadata.resourceVersion) && object.metadata.resourceVersion.matches('^[1-9][0-9]*$') \
                       && object.metadata.resourceVersion != oldObject.metadata.resourceVersion";
    format!("(!({is_conflict}) && ({} || {}))", touches_annotations(), gains_owner())
}

/// The garbage collector deletes what has lost its owners.
fn gains_owner() -> String {
    let owners = |object: &str| format!("{object}.metadata.?ownerReferences.orValue([])");
    let (new, old) = (owners("object"), owners("oldObject"));
    let is_same = OWNER_IDENTITY.map(|field| format!("other.{field} == owner.{field}")).join(" && ");
    let is_long = format!("{new}.size() > {MOST_OWNERS} || {old}.size() > {MOST_OWNERS}");
    format!("({is_long} || {new}.exists(owner, !{old}.exists(other, {is_same})))")
}

fn touches_annotations() -> String {
    let differs = |one: &str, other: &str| {
        format!(
            "(has({one}.metadata.annotations) && {one}.metadata.annotations.exists(k, k.startsWith('pilotguard.dev/') && \
             (!has({other}.metadata.annotations) || !(k in {other}.metadata.annotations) || \
             {one}.metadata.annotations[k] != {other}.metadata.annotations[k])))"
        )
    };
    format!("{} || {}", differs("object", "oldObject"), differs("oldObject", "object"))
}

fn only_replicas() -> String {
    let replicas = |object: &str| format!("(has({object}.spec.replicas) ? {object}.spec.replicas : 1)");
    format!("{} != {} && !({})", replicas("object"), replicas("oldObject"), moves_release_of_update())
}

fn not_collected() -> String {
    let names = COLLECTORS.map(literal).join(",");
    format!("!(request.userInfo.username in [{names}])")
}

/// One entry of a configuration. Every field that the API server would fill in is written out, so that what
/// is stored can be compared with what is wanted.
struct Entry {
    name: String,
    client: WebhookClientConfig,
    is_failing: bool,
    group: &'static str,
    version: &'static str,
    resources: Vec<String>,
    operations: &'static [&'static str],
    namespaces: Option<BTreeSet<String>>,
    conditions: Vec<MatchCondition>,
}

impl Entry {
    fn failing(self) -> Self {
        Self { is_failing: true, ..self }
    }

    /// A write to the status stores annotations too.
    fn with_status(mut self) -> Self {
        let status: Vec<String> = self.subresources("status").collect();
        self.resources.extend(status);
        self
    }

    fn subresources(&self, part: &str) -> impl Iterator<Item = String> {
        self.resources.iter().map(move |resource| format!("{resource}/{part}"))
    }

    fn failure_policy(&self) -> String {
        if self.is_failing { "Fail" } else { "Ignore" }.to_owned()
    }

    fn rules(&self) -> Vec<RuleWithOperations> {
        let texts = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect());
        vec![RuleWithOperations {
            api_groups: texts(&[self.group]),
            api_versions: texts(&[self.version]),
            resources: Some(self.resources.clone()),
            operations: texts(self.operations),
            scope: Some("*".to_owned()),
        }]
    }

    fn selector(&self) -> LabelSelector {
        let requirement = |names: &BTreeSet<String>| LabelSelectorRequirement {
            key: NAMESPACE_NAME.to_owned(),
            operator: "In".to_owned(),
            values: Some(names.iter().cloned().collect()),
        };
        LabelSelector {
            match_expressions: self.namespaces.as_ref().map(|names| vec![requirement(names)]),
            match_labels: None,
        }
    }

    fn into_mutating(self) -> MutatingWebhook {
        MutatingWebhook {
            admission_review_versions: vec!["v1".to_owned()],
            failure_policy: Some(self.failure_policy()),
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(self.selector()),
            object_selector: Some(LabelSelector::default()),
            reinvocation_policy: Some("IfNeeded".to_owned()),
            rules: Some(self.rules()),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(TIMEOUT_SECONDS),
            client_config: self.client,
            match_conditions: Some(self.conditions),
            name: self.name,
        }
    }

    fn into_validating(self) -> ValidatingWebhook {
        ValidatingWebhook {
            admission_review_versions: vec!["v1".to_owned()],
            failure_policy: Some(self.failure_policy()),
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(self.selector()),
            object_selector: Some(LabelSelector::default()),
            rules: Some(self.rules()),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(TIMEOUT_SECONDS),
            client_config: self.client,
            match_conditions: Some(self.conditions),
            name: self.name,
        }
    }
}
