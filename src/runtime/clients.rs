//! The two clients: one that watches and retries, and one that acts, never repeats itself and gives up in time.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client, Config};

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
    #[error("the API server did not say under which account this operator runs")]
    Account(#[source] kube::Error),
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
            acting: Client::try_from(acting).map_err(ClientError::Build)?,
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
        let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
        Ok(user.unwrap_or_default())
    }
}
