//! What a Prometheus-compatible API answers to an instant query, decoded.
//!
//! Total over all inputs: whatever the bytes are, the result is an [`Envelope`] or a [`Malformed`], never
//! a panic and never a guess. It does no input or output.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The bytes are not an answer in the API's format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an answer of the query API: {0}")]
pub struct Malformed(String);

/// An answer of the query API.
#[derive(Clone, Debug, PartialEq)]
pub enum Envelope {
    /// The query was evaluated.
    Success {
        /// What it yielded.
        result: QueryResult,
        /// Why the result may be incomplete or wrong. Empty: the server vouches for it.
        warnings: Vec<String>,
    },
    /// The query was not evaluated.
    Error {
        /// `bad_data`, `execution`, `timeout` and others; the list is open.
        error_type: String,
        /// The server's explanation.
        message: String,
    },
}

/// What a query yielded.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryResult {
    /// One number.
    Scalar(f64),
    /// One sample for each series.
    Vector(Vec<Series>),
    /// For each series its samples at several times.
    Matrix(Vec<Samples>),
    /// A text, or a type that is not known here; its name.
    Other(String),
}

/// A series: its labels and its sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its sample.
    pub sample: Sample,
}

/// A series at several times: its labels, and its numbers with their times in seconds. Samples that are histograms are left
/// out.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The times and numbers.
    pub points: Vec<(f64, f64)>,
}

/// The sample of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// A number, which may be NaN or infinite.
    Float(f64),
    /// A native histogram.
    Histogram,
}

/// Decodes a response body. `infos` are ignored: they never make a result doubtful.
pub fn decode(body: &[u8]) -> Result<Envelope, Malformed> {
    let wire: Wire = serde_json::from_slice(body).map_err(|error| Malformed(error.to_string()))?;
    match wire.status {
        Status::Error => Ok(Envelope::Error {
            error_type: wire.error_type.unwrap_or_default(),
            message: wire.error.unwrap_or_default(),
        }),
        Status::Success => {
            let data = wire.data.ok_or_else(|| Malformed("it has no data".to_owned()))?;
            let mut warnings = wire.warnings.unwrap_or_default();
            if wire.is_partial.unwrap_or_default() {
                warnings.push("isPartial is set".to_owned());
            }
            Ok(Envelope::Success { result: data.into_result()?, warnings })
        }
    }
}

#[derive(Deserialize)]
struct Wire {
    status: Status,
    data: Option<Data>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
    warnings: Option<Vec<String>>,
    /// VictoriaMetrics marks an answer from which a storage node is missing so, instead of by a warning.
    #[serde(rename = "isPartial")]
    is_partial: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Success,
    Error,
}

/// Its result can be read only once its type is known, and the type may come last.
#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default, rename = "metric")]
    labels: BTreeMap<String, String>,
    value: Option<Point>,
    histogram: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Rows {
    #[serde(default, rename = "metric")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<Timed>,
}

/// The time, and the number as a text, because JSON has no NaN.
#[derive(Deserialize)]
struct Point(IgnoredAny, String);

/// The same where the time counts.
#[derive(Deserialize)]
struct Timed(f64, String);

impl Data {
    fn into_result(self) -> Result<QueryResult, Malformed> {
        let malformed = |error: serde_json::Error| Malformed(error.to_string());
        match self.result_type.as_str() {
            "scalar" => {
                serde_json::from_value::<Point>(self.result).map_err(malformed)?.number().map(QueryResult::Scalar)
            }
            "vector" => {
                let rows: Option<Vec<Row>> = serde_json::from_value(self.result).map_err(malformed)?;
                rows.unwrap_or_default()
                    .into_iter()
                    .map(Row::into_series)
                    .collect::<Result<_, _>>()
                    .map(QueryResult::Vector)
            }
            "matrix" => {
                let rows: Option<Vec<Rows>> = serde_json::from_value(self.result).map_err(malformed)?;
                let rows = rows.unwrap_or_default().into_iter().map(Rows::into_samples);
                rows.collect::<Result<_, _>>().map(QueryResult::Matrix)
            }
            _ => Ok(QueryResult::Other(self.result_type)),
        }
    }
}

impl Row {
    fn into_series(self) -> Result<Series, Malformed> {
        let sample = match (self.value, self.histogram) {
            (Some(point), None) => Sample::Float(point.number()?),
            (None, Some(_)) => Sample::Histogram,
            _ => return Err(Malformed("a row does not have exactly one of value and histogram".to_owned())),
        };
        Ok(Series { labels: self.labels, sample })
    }
}

impl Rows {
    fn into_samples(self) -> Result<Samples, Malformed> {
        let points = self.values.into_iter().map(|Timed(at, text)| Ok((at, number(&text)?)));
        Ok(Samples { labels: self.labels, points: points.collect::<Result<_, _>>()? })
    }
}

impl Point {
    fn number(self) -> Result<f64, Malformed> {
        number(&self.1)
    }
}

fn number(text: &str) -> Result<f64, Malformed> {
    text.parse().map_err(|_| Malformed("a value is not a number".to_owned()))
}
