//! The paths under which the webhook is registered and served.

/// Requests on workloads of enforcing Pilots, and on their replicas.
pub const WORKLOADS: &str = "/workloads";
/// Requests on workloads of Pilots that only observe.
pub const OBSERVED: &str = "/observed";
/// Requests on the scale subresource.
pub const SCALE: &str = "/scale";
/// Requests on Pilots, Decisions and MetricsSources.
pub const OBJECTS: &str = "/objects";
