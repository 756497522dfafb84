//! The wire types: what is stored in the API server, and nothing else.
//!
//! Every type here is data with a schema. [`crate::declaration`] parses it into what the program works with; the only
//! rules here are those of the schema.

pub mod change_calendar;
pub mod change_record;
pub mod changes;
pub mod decimal;
pub mod decision;
pub mod duration;
pub mod incident;
pub mod metrics_source;
pub mod owners;
pub mod pilot;
pub mod selector;
pub mod slo;
pub mod status;
pub mod trigger;
pub mod window;
pub mod workload;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// API group of every kind, and prefix of every annotation and label.
pub const GROUP: &str = "pilotguard.dev";

/// All CustomResourceDefinitions, the most important first.
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    vec![
        pilot::Pilot::crd(),
        change_record::ChangeRecord::crd(),
        decision::Decision::crd(),
        metrics_source::MetricsSource::crd(),
        change_calendar::ChangeCalendar::crd(),
    ]
}
