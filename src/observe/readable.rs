//! What cannot be read is passed over, loudly, and blinds nobody to the rest.
//!
//! One object that the API server stores and that we cannot parse must not fail the list that it is in.

use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;

/// The object; `None` and a line in the log for one that cannot be read.
pub fn readable<K: Resource<DynamicType = ()>>(guard: DeserializeGuard<K>) -> Option<K> {
    guard
        .0
        .inspect_err(|invalid| {
            tracing::error!(
                kind = %K::kind(&()),
                namespace = invalid.metadata.namespace,
                name = invalid.metadata.name,
                cause = invalid.error,
                "an object cannot be read and is passed over"
            );
        })
        .ok()
}

/// The event of an object that can be read. Of one that no longer can, what it said before stays in force until
/// the next complete list.
pub fn readable_event<K: Resource<DynamicType = ()>>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    Some(match event {
        Event::Apply(object) => Event::Apply(readable(object)?),
        Event::InitApply(object) => Event::InitApply(readable(object)?),
        Event::Delete(object) => Event::Delete(readable(object)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}
