//! The two clients: one that watches and retries, and one that acts, never repeats itself and gives up in time.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::client::ClientBuilder;
use kube::{Api, Client, Config};
use tower::limit::ConcurrencyLimitLayer;

/// Maximum number of reads and writes in flight at once: pilots are evaluated side by side, at the start all of them.
const MAX_IN_FLIGHT: usize = 64;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no usable kubeconfig, and this is no pod.
    #[error("no cluster is configured; set KUBECONFIG or run in a pod with a service account")]
    Config(#[source] kube::config::InferConfigError),
    /// The client cannot be built from the configuration.
    #[error("the cluster's configuration cannot be used")]
    Build(#[source] kube::Error),
    /// The API server does not answer.
    #[error("the API server did not report the account of this operator")]
    Account(#[source] kube::Error),
    /// The API server answers, but names no user.
    #[error("the API server reported no user for this operator; check its credentials")]
    Nameless,
    /// The API server did not answer in time.
    #[error("the API server did not answer within 10s")]
    Deadline,
}

/// The clients of one process.
#[derive(Clone)]
pub struct Clients {
    /// Watches; retries.
    pub watching: Client,
    /// Reads and writes once, within seconds.
    pub acting: Client,
}

impl Clients {
    /// Clients for the cluster that the environment names.
    pub async fn connect() -> Result<Self, ClientError> {
        let config = Config::infer().await.map_err(ClientError::Config)?;
        let mut acting = config.clone();
        acting.default_retry = false;
        acting.connect_timeout = Some(Duration::from_secs(3));
        acting.read_timeout = Some(Duration::from_secs(5));
        // Else the time for which a connection lay idle counts as waiting, and a request that is sent in the fifth
        // second of idleness fails at once.
        acting.reset_reader_on_write = true;
        Ok(Self {
            watching: Client::try_from(config).map_err(ClientError::Build)?,
            acting: ClientBuilder::try_from(acting)
                .map_err(ClientError::Build)?
                .with_layer(&ConcurrencyLimitLayer::new(MAX_IN_FLIGHT))
                .build(),
        })
    }

    /// The user name under which this process acts.
    pub async fn own_account(&self) -> Result<String, ClientError> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.acting.clone());
        let (params, question) = (PostParams::default(), SelfSubjectReview::default());
        let asked = reviews.create(&params, &question);
        let review = tokio::time::timeout(Duration::from_secs(10), asked)
            .await
            .map_err(|_| ClientError::Deadline)?
            .map_err(ClientError::Account)?;
        user_of(review)
    }
}

/// Without a name the operator would take everyone's requests for its own, or its own for someone else's.
fn user_of(review: SelfSubjectReview) -> Result<String, ClientError> {
    let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
    user.filter(|user| !user.is_empty()).ok_or(ClientError::Nameless)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_account_has_a_name() {
        let user_of = |status: Value| user_of(serde_json::from_value(json!({"status": status})).unwrap());
        assert_eq!(user_of(json!({"userInfo": {"username": "ada"}})).unwrap(), "ada");
        for nameless in [Value::Null, json!({}), json!({"userInfo": {}}), json!({"userInfo": {"username": ""}})] {
            assert!(matches!(user_of(nameless), Err(ClientError::Nameless)));
        }
    }
}
