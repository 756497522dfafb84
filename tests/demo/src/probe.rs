//! Asks Prometheus one query again and again until it answers with a value: when could anybody have known?

use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;

/// How often it asks.
pub(crate) const EVERY: Duration = Duration::from_millis(20);

/// A query that has a value exactly when the condition holds.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    http: Client,
    url: String,
    query: String,
}

impl Probe {
    /// A probe of a Prometheus at this address.
    pub(crate) fn new(prometheus: &str, query: &str) -> anyhow::Result<Self> {
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        Ok(Self { http, url: format!("{prometheus}/api/v1/query"), query: query.to_owned() })
    }

    /// Whether the query has a value now.
    pub(crate) async fn holds(&self) -> anyhow::Result<bool> {
        let query = [("query", self.query.as_str())];
        let url = reqwest::Url::parse_with_params(&self.url, query)?;
        let answer = self.http.get(url).send().await?.error_for_status()?.bytes().await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        Ok(answer.pointer("/data/result").and_then(Value::as_array).is_some_and(|result| !result.is_empty()))
    }

    /// When an answer first said so. A question that fails is asked again.
    pub(crate) async fn first(&self) -> Instant {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if matches!(self.holds().await, Ok(true)) {
                return Instant::now();
            }
        }
    }
}
