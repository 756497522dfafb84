//! An API server in this process: objects, versions, watches and patches, as far as the operator uses them. Deployments are
//! rolled out the moment they are written, and dry-runs of the operator's probe are answered as the webhook would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Response, StatusCode};
use futures::stream;
use kube::Client;
use pilotguard::admit::review::PROBE;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::clock;

/// Where an object lives: its group and resource, its namespace and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    resource: String,
    namespace: String,
    name: String,
}

/// A request, taken apart.
struct Asked {
    method: Method,
    place: Place,
    subresource: Option<String>,
    query: BTreeMap<String, String>,
    content_type: String,
    body: Vec<u8>,
}

#[derive(Default)]
struct Store {
    version: u64,
    objects: BTreeMap<Place, Value>,
    /// Everything that was ever seen to change, oldest first.
    log: Vec<(u64, Place, &'static str, Value)>,
    /// How many requests each verb and resource got.
    requests: BTreeMap<String, usize>,
    /// How many objects of each resource were listed, beside those of watches.
    listed: BTreeMap<String, usize>,
}

/// Says what a request is refused with, if it is: by its verb, path and query.
type Refusal = Box<dyn Fn(&str, &str, &str) -> Option<StatusCode> + Send>;

/// A running API server.
#[derive(Clone, Default)]
pub struct ApiServer {
    store: Arc<Mutex<Store>>,
    moved: Arc<watch::Sender<u64>>,
    refusal: Arc<Mutex<Option<Refusal>>>,
}

type Answer = Result<Value, (StatusCode, String)>;

impl ApiServer {
    /// A client of it.
    pub fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move { Ok::<_, std::convert::Infallible>(server.serve(request).await) }
        });
        Client::new(service, "default")
    }

    /// Stores an object as if somebody had applied it.
    pub fn apply(&self, resource: &str, object: Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let place = Place {
            resource: resource.to_owned(),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
        };
        let before = self.lock().objects.get(&place).cloned();
        let mut wanted = object;
        if let Some(before) = &before {
            let mut merged = before.clone();
            json_patch::merge(&mut merged, &wanted);
            wanted = merged;
        }
        self.write(&place, wanted);
    }

    /// Deletes an object.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let (resource, namespace, name) = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.remove(&Place { resource, namespace, name });
    }

    /// The names of all objects of a resource.
    pub fn names(&self, resource: &str) -> Vec<String> {
        self.lock().objects.keys().filter(|place| place.resource == resource).map(|place| place.name.clone()).collect()
    }

    /// An object as it stands.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let place = Place { resource: resource.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() };
        self.lock().objects.get(&place).cloned()
    }

    /// How many requests of this verb (`PATCH`, …) this resource got.
    pub fn requests(&self, verb: &str, resource: &str) -> usize {
        self.lock().requests.get(&format!("{verb} {resource}")).copied().unwrap_or_default()
    }

    /// How many objects of this resource were listed, beside those of watches.
    pub fn listed(&self, resource: &str) -> usize {
        self.lock().listed.get(resource).copied().unwrap_or_default()
    }

    /// From now on refuses what `refusal` says, by verb, path and query.
    pub fn refuse(&self, refusal: impl Fn(&str, &str, &str) -> Option<StatusCode> + Send + 'static) {
        *self.refusal.lock().unwrap() = Some(Box::new(refusal));
    }

    /// Accepts everything again.
    pub fn accept(&self) {
        *self.refusal.lock().unwrap() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    async fn serve(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let refused = self.refusal.lock().unwrap().as_ref().and_then(|refusal| {
            let uri = request.uri();
            refusal(request.method().as_str(), uri.path(), uri.query().unwrap_or_default())
        });
        if let Some(code) = refused {
            return respond(Err((code, "the simulation refuses this".to_owned())));
        }
        let asked = Asked::read(request).await;
        let counted = format!("{} {}", asked.method, asked.place.resource);
        *self.lock().requests.entry(counted).or_default() += 1;
        if asked.query.get("watch").is_some_and(|watch| watch == "true") {
            return self.watch(asked);
        }
        respond(self.answer(&asked))
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let found = self.lock().objects.get(&asked.place).cloned();
        let missing = || (StatusCode::NOT_FOUND, format!("{:?} not found", asked.place));
        match asked.method {
            Method::GET if asked.place.name.is_empty() => Ok(self.list(asked)),
            Method::GET => found.ok_or_else(missing),
            Method::POST => self.create(asked),
            Method::DELETE => {
                let gone = found.ok_or_else(missing)?;
                self.remove(&asked.place);
                Ok(gone)
            }
            Method::PUT | Method::PATCH => self.update(asked, &found.ok_or_else(missing)?),
            _ => Err((StatusCode::METHOD_NOT_ALLOWED, "no such verb".to_owned())),
        }
    }

    fn create(&self, asked: &Asked) -> Answer {
        let object: Value = serde_json::from_slice(&asked.body).unwrap();
        if asked.subresource.is_some() || asked.place.resource.ends_with("selfsubjectreviews") {
            return Ok(object);
        }
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let place = Place { name, ..asked.place.clone() };
        if self.lock().objects.contains_key(&place) {
            return Err((StatusCode::CONFLICT, "it exists already".to_owned()));
        }
        Ok(self.write(&place, object))
    }

    fn update(&self, asked: &Asked, before: &Value) -> Answer {
        let wanted: Value = match (&asked.method, asked.content_type.as_str()) {
            (&Method::PUT, _) => serde_json::from_slice(&asked.body).unwrap(),
            (_, "application/json-patch+json") => {
                let patch: json_patch::Patch = serde_json::from_slice(&asked.body).unwrap();
                let mut patched = before.clone();
                let failed = "the server rejected our request due to an error in our request";
                json_patch::patch(&mut patched, &patch)
                    .map_err(|_| (StatusCode::UNPROCESSABLE_ENTITY, failed.to_owned()))?;
                patched
            }
            _ => {
                let patch: Value = serde_json::from_slice(&asked.body).unwrap();
                let mut patched = before.clone();
                json_patch::merge(&mut patched, &patch);
                patched
            }
        };
        let version = |object: &Value| object.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
        if asked.method == Method::PUT && version(&wanted) != version(before) {
            return Err((StatusCode::CONFLICT, "the object has been modified".to_owned()));
        }
        if asked.query.contains_key("dryRun") {
            return probed(&wanted);
        }
        let mut after = before.clone();
        if asked.subresource.as_deref() == Some("status") {
            after["status"] = wanted["status"].clone();
            // A write of the status stores annotations too.
            if let Some(annotations) = wanted.pointer("/metadata/annotations") {
                after["metadata"]["annotations"] = annotations.clone();
            }
        } else {
            after = wanted;
        }
        Ok(if after == *before { after } else { self.write(&asked.place, after) })
    }

    fn list(&self, asked: &Asked) -> Value {
        let mut store = self.lock();
        let chosen = store.objects.iter().filter(|(place, object)| asked.selects(place, object));
        let items: Vec<Value> = chosen.map(|(_, object)| object.clone()).collect();
        *store.listed.entry(asked.place.resource.clone()).or_default() += items.len();
        json!({ "metadata": {"resourceVersion": store.version.to_string()}, "items": items })
    }

    /// Stores an object under a new version.
    fn write(&self, place: &Place, mut object: Value) -> Value {
        let mut store = self.lock();
        store.version += 1;
        let version = store.version;
        let before = store.objects.get(place);
        let meta = object["metadata"].as_object_mut().unwrap();
        meta.insert("resourceVersion".to_owned(), json!(version.to_string()));
        meta.entry("uid").or_insert_with(|| json!(format!("{version:08}-uid")));
        meta.entry("creationTimestamp").or_insert_with(|| json!(clock::now().to_string()));
        let moved = before.is_none_or(|before| {
            before["spec"] != object["spec"] || before["metadata"]["annotations"] != object["metadata"]["annotations"]
        });
        let generation = before.and_then(|before| before["metadata"]["generation"].as_i64()).unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + i64::from(moved));
        if place.resource == "apps/deployments" {
            roll_out(&mut object);
        }
        let event = if before.is_some() { "MODIFIED" } else { "ADDED" };
        store.objects.insert(place.clone(), object.clone());
        store.log.push((version, place.clone(), event, object.clone()));
        drop(store);
        self.moved.send_replace(version);
        object
    }

    fn remove(&self, place: &Place) {
        let mut store = self.lock();
        if let Some(mut gone) = store.objects.remove(place) {
            store.version += 1;
            let version = store.version;
            gone["metadata"]["resourceVersion"] = json!(version.to_string());
            store.log.push((version, place.clone(), "DELETED", gone));
            drop(store);
            self.moved.send_replace(version);
        }
    }

    /// A stream of events: of all that there is first, where that is asked for, and of what moves afterwards.
    fn watch(&self, asked: Asked) -> Response<Body> {
        let seconds = asked.query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(25);
        let ends_at = Instant::now() + Duration::from_secs(seconds);
        let (first, from) = if asked.query.contains_key("sendInitialEvents") {
            let store = self.lock();
            let chosen = store.objects.iter().filter(|(place, object)| asked.selects(place, object));
            let mut lines: String = chosen.map(|(_, object)| line("ADDED", object)).collect();
            let bookmark = json!({
                "apiVersion": "v1", "kind": "Bookmark",
                "metadata": {"resourceVersion": store.version.to_string(), "creationTimestamp": null,
                    "annotations": {"k8s.io/initial-events-end": "true"}},
            });
            lines.push_str(&line("BOOKMARK", &bookmark));
            (lines, store.version)
        } else {
            let from = asked.query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or_default();
            (String::new(), from)
        };
        let state = (self.clone(), self.moved.subscribe(), asked, from, Some(first));
        let events = stream::unfold(state, move |(server, mut moved, asked, from, first)| async move {
            if let Some(first) = first.filter(|first| !first.is_empty()) {
                return Some((Ok::<_, axum::Error>(Bytes::from(first)), (server, moved, asked, from, None)));
            }
            loop {
                moved.borrow_and_update();
                let (lines, version) = server.since(&asked, from);
                if !lines.is_empty() {
                    return Some((Ok(Bytes::from(lines)), (server, moved, asked, version, None)));
                }
                timeout_at(ends_at, moved.changed()).await.ok()?.ok()?;
            }
        });
        Response::new(Body::from_stream(events))
    }

    fn since(&self, asked: &Asked, from: u64) -> (String, u64) {
        let store = self.lock();
        let new = store.log[store.log.partition_point(|(version, ..)| *version <= from)..].iter();
        let chosen = new.filter(|(_, place, _, object)| asked.selects(place, object));
        (chosen.map(|(_, _, event, object)| line(event, object)).collect(), store.version)
    }
}

impl Asked {
    async fn read(request: Request<kube::client::Body>) -> Self {
        let (parts, body) = request.into_parts();
        let mut segments: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let group = if segments[0] == "api" { "core" } else { segments[1] }.to_owned();
        segments.drain(..if group == "core" { 2 } else { 3 });
        let mut namespace = String::new();
        if segments.len() > 2 && segments[0] == "namespaces" {
            namespace = segments[1].to_owned();
            segments.drain(..2);
        }
        let mut segments = segments.into_iter().map(str::to_owned);
        let resource = format!("{group}/{}", segments.next().unwrap());
        let place = Place { resource, namespace, name: segments.next().unwrap_or_default() };
        let query = parts.uri.query().unwrap_or_default();
        let url = reqwest::Url::parse(&format!("http://api/?{query}")).unwrap();
        let query = url.query_pairs().into_owned().collect();
        let content_type = parts.headers.get("content-type").map(|value| value.to_str().unwrap().to_owned());
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap().to_vec();
        let content_type = content_type.unwrap_or_default();
        Self { method: parts.method, place, subresource: segments.next(), query, content_type, body }
    }

    fn selects(&self, place: &Place, object: &Value) -> bool {
        let selector = |name: &str| self.query.get(name).map(String::as_str).unwrap_or_default();
        let labels = &object["metadata"]["labels"];
        place.resource == self.place.resource
            && (self.place.namespace.is_empty() || place.namespace == self.place.namespace)
            && selects(selector("labelSelector"), |key| labels.get(key).and_then(Value::as_str))
            && selects(selector("fieldSelector"), |key| {
                object.pointer(&format!("/{}", key.replace('.', "/"))).and_then(Value::as_str)
            })
    }
}

/// `key` or `key in (a,b)`, or any number of `key=value` and `key!=value`: the operator asks for no more. What is absent
/// is empty.
fn selects<'a>(selector: &str, value: impl Fn(&str) -> Option<&'a str>) -> bool {
    if selector.is_empty() {
        return true;
    }
    if let Some((key, values)) = selector.split_once(" in ") {
        let values = values.trim_matches(['(', ')']);
        return value(key).is_some_and(|value| values.split(',').any(|one| one.trim() == value));
    }
    if !selector.contains('=') {
        return value(selector).is_some();
    }
    selector.split(',').all(|requirement| match (requirement.split_once("!="), requirement.split_once('=')) {
        (Some((key, unwanted)), _) => value(key).unwrap_or_default() != unwanted,
        (None, Some((key, wanted))) => value(key).unwrap_or_default() == wanted.trim_start_matches('='),
        (None, None) => false,
    })
}

fn line(event: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": event, "object": object}))
}

/// The Deployment controller: everything is available at once.
fn roll_out(deployment: &mut Value) {
    let replicas = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    deployment["status"] = json!({
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas, "readyReplicas": replicas,
    });
}

/// The webhook's answer to a dry-run.
fn probed(wanted: &Value) -> Answer {
    let of = |pointer: &str| wanted.pointer(pointer)?.get(PROBE)?.as_str().map(str::to_owned);
    match of("/spec/template/metadata/annotations").or_else(|| of("/metadata/annotations")) {
        Some(nonce) => Err((StatusCode::FORBIDDEN, format!("pilotguard probe {nonce} answered"))),
        None => Ok(wanted.clone()),
    }
}

fn respond(answer: Answer) -> Response<Body> {
    let (code, body) = match answer {
        Ok(object) => (StatusCode::OK, object),
        Err((code, message)) => {
            let reason = if code == StatusCode::CONFLICT { "Conflict" } else { "Invalid" };
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
                "reason": reason, "code": code.as_u16(),
            });
            (code, status)
        }
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = code;
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}
