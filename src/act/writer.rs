//! How anything is written to the API server: once, with a deadline, under our own name as field manager.
//!
//! A write is never repeated here. Whether it arrived is seen at the next evaluation, and decided anew there.

use std::fmt::Debug;
use std::time::Duration;

use json_patch::Patch as JsonPatch;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{DynamicResourceScope, NamespaceResourceScope};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::release::ownership::FIELD_MANAGER;

/// A write that takes longer is given up.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the API server says where a JSON patch does not fit the object, as after a failed `test`.
const FAILED_TEST: &str = "the server rejected our request due to an error in our request";

/// Why a write, or the reading before it, did not happen or may not have.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server refused.
    #[error("access to {kind} {name} was refused")]
    Refused {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object of that name exists and says something else.
    #[error("{kind} {name} exists with other content; delete it so that pilotguard can write its own")]
    Taken {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
    /// The API server did not answer in time; the write may or may not have arrived.
    #[error("access to {kind} {name} took longer than 5s")]
    Deadline {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
}

impl WriteError {
    /// The status code with which the API server refused.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Taken { .. } | Self::Deadline { .. } => None,
        }
    }

    /// The API server's message, where it sent one.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Refused { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(&status.message),
                _ => None,
            },
            Self::Taken { .. } | Self::Deadline { .. } => None,
        }
    }

    /// Whether the object exists already, or what the patch tested is true no more: the next evaluation tells.
    /// A refusal by a policy may carry the same code as a failed test; it is no conflict and has to be seen.
    pub fn is_conflict(&self) -> bool {
        match self.code() {
            Some(409) => true,
            Some(422) => self.message() == Some(FAILED_TEST),
            _ => false,
        }
    }
}

/// Writes to one API server.
#[derive(Clone)]
pub struct Writer {
    client: Client,
}

impl Writer {
    /// A writer on a client that does not retry.
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client, for reading.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Creates an object; one of that name that exists already is left alone. Returns whether it was created.
    pub async fn create<K: Namespaced>(&self, namespace: &str, object: &K) -> Result<bool, WriteError> {
        let name = object.meta().name.clone().unwrap_or_default();
        let api = self.api::<K>(namespace);
        match within::<K, _>(&name, api.create(&post_params(), object)).await {
            Err(error) if error.code() == Some(409) => Ok(false),
            result => result.map(|_| true),
        }
    }

    /// Asks whether an object would be created, without writing.
    pub async fn try_create<K: Namespaced>(&self, namespace: &str, object: &K) -> Result<(), WriteError> {
        let name = object.meta().name.clone().unwrap_or_default();
        let api = self.api::<K>(namespace);
        let parameters = PostParams { dry_run: true, ..post_params() };
        within::<K, _>(&name, api.create(&parameters, object)).await.map(drop)
    }

    /// Reads an object as it is now.
    pub async fn read<K: Namespaced>(&self, namespace: &str, name: &str) -> Result<K, WriteError> {
        let api = self.api::<K>(namespace);
        within::<K, _>(name, api.get(name)).await
    }

    /// As [`Writer::read`], of a kind that is known only now.
    pub async fn read_of<K: Dynamic>(
        &self,
        kind: &K::DynamicType,
        namespace: &str,
        name: &str,
    ) -> Result<K, WriteError> {
        let api: Api<K> = Api::namespaced_with(self.client.clone(), namespace, kind);
        bounded(&K::kind(kind), name, api.get(name)).await
    }

    /// Patches an object with operations that are tested first.
    pub async fn patch_of<K: Dynamic>(
        &self,
        kind: &K::DynamicType,
        (namespace, name): (&str, &str),
        patch: JsonPatch,
    ) -> Result<K, WriteError> {
        self.patch_with(kind, (namespace, name), patch, &params()).await
    }

    /// Asks whether a patch would be accepted, without writing.
    pub async fn try_patch_of<K: Dynamic>(
        &self,
        kind: &K::DynamicType,
        (namespace, name): (&str, &str),
        patch: JsonPatch,
    ) -> Result<K, WriteError> {
        self.patch_with(kind, (namespace, name), patch, &PatchParams { dry_run: true, ..params() }).await
    }

    /// Patches an object through its status: of that the API server stores annotations and status, whatever other
    /// admission makes of the rest.
    pub async fn patch_status_of<K: Dynamic>(
        &self,
        kind: &K::DynamicType,
        (namespace, name): (&str, &str),
        patch: JsonPatch,
    ) -> Result<K, WriteError> {
        let api: Api<K> = Api::namespaced_with(self.client.clone(), namespace, kind);
        bounded(&K::kind(kind), name, api.patch_status(name, &params(), &Patch::Json::<()>(patch))).await
    }

    async fn patch_with<K: Dynamic>(
        &self,
        kind: &K::DynamicType,
        (namespace, name): (&str, &str),
        patch: JsonPatch,
        params: &PatchParams,
    ) -> Result<K, WriteError> {
        let api: Api<K> = Api::namespaced_with(self.client.clone(), namespace, kind);
        bounded(&K::kind(kind), name, api.patch(name, params, &Patch::Json::<()>(patch))).await
    }

    /// Merges fields into an object.
    pub async fn merge<K: Namespaced>(&self, namespace: &str, name: &str, fields: &Value) -> Result<(), WriteError> {
        let api = self.api::<K>(namespace);
        within::<K, _>(name, api.patch(name, &params(), &Patch::Merge(fields))).await.map(drop)
    }

    /// Merges fields into an object's status.
    pub async fn merge_status<K: Namespaced>(
        &self,
        namespace: &str,
        name: &str,
        fields: &Value,
    ) -> Result<(), WriteError> {
        let api = self.api::<K>(namespace);
        within::<K, _>(name, api.patch_status(name, &params(), &Patch::Merge(fields))).await.map(drop)
    }

    /// Replaces an object's status, if its resourceVersion is still the one that it carries.
    pub async fn replace_status<K: Namespaced>(&self, namespace: &str, object: &K) -> Result<K, WriteError> {
        let name = object.meta().name.clone().unwrap_or_default();
        let api = self.api::<K>(namespace);
        within::<K, _>(&name, api.replace_status(&name, &post_params(), object)).await
    }

    /// Deletes an object; one that is gone already is no error.
    pub async fn delete<K: Namespaced>(&self, namespace: &str, name: &str) -> Result<(), WriteError> {
        let api = self.api::<K>(namespace);
        match within::<K, _>(name, api.delete(name, &DeleteParams::default())).await {
            Err(error) if error.code() == Some(404) => Ok(()),
            result => result.map(drop),
        }
    }

    fn api<K: Namespaced>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// A kind that is known only at run time.
pub trait Dynamic: Resource<Scope = DynamicResourceScope> + Clone + Debug + DeserializeOwned {}

impl<K> Dynamic for K where K: Resource<Scope = DynamicResourceScope> + Clone + Debug + DeserializeOwned {}

/// A kind that lives in a namespace and that we can read and write.
pub trait Namespaced:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned
{
}

impl<K> Namespaced for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned
{
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

async fn within<K: Namespaced, T>(
    name: &str,
    write: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, WriteError> {
    bounded(&K::kind(&()), name, write).await
}

async fn bounded<T>(
    kind: &str,
    name: &str,
    write: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, WriteError> {
    let (kind, name) = (|| kind.to_owned(), name.to_owned());
    match tokio::time::timeout(DEADLINE, write).await {
        Ok(result) => result.map_err(|source| WriteError::Refused { kind: kind(), name, source: Box::new(source) }),
        Err(_) => Err(WriteError::Deadline { kind: kind(), name }),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16, message: &str) -> WriteError {
        let status = Status { code, ..Status::failure(message, "Invalid") };
        let source = Box::new(kube::Error::Api(Box::new(status)));
        WriteError::Refused { kind: "Deployment".to_owned(), name: "web".to_owned(), source }
    }

    #[test]
    fn a_policy_that_refuses_is_no_conflict() {
        assert!(refused(409, "the object has been modified").is_conflict());
        assert!(refused(422, "the server rejected our request due to an error in our request").is_conflict());
        for message in [
            "admission webhook \"policy\" denied the request: no scaling on Fridays",
            "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1",
        ] {
            assert!(!refused(422, message).is_conflict(), "{message}");
        }
        assert!(!refused(403, "the server rejected our request due to an error in our request").is_conflict());
    }
}
