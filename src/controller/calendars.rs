//! ChangeCalendars and Namespaces: what is seen of them wakes the pilots that they concern, and each calendar's status
//! says whether it can be used.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::watches::{Watching, config};
use super::{Context, chain};
use crate::admit::pilots::Guardian;
use crate::api::change_calendar::ChangeCalendarStatus;
use crate::api::pilot::Pilot;
use crate::declaration::change_calendar::SharedCalendar;
use crate::observe::calendars::RawCalendar;
use crate::release::ownership::FIELD_MANAGER;
use crate::report::calendars::conditions;

/// How often what the calendars say is compared with what was written last.
const EVERY: Duration = Duration::from_secs(2);

/// A write that takes longer is given up; the next round writes again.
const DEADLINE: Duration = Duration::from_secs(5);

/// Feeds the calendars and the labels of namespaces for as long as the operator runs.
pub(super) fn follow(watching: &Watching, context: &Arc<Context>, pilots: &mpsc::UnboundedSender<ObjectRef<Pilot>>) {
    let (watching, context, pilots) = (watching.clone(), context.clone(), pilots.clone());
    let (stop, watches) = (watching.stop.clone(), context.watches.clone());
    watches.keep("ChangeCalendar and Namespace", &stop, move || {
        follow_once(watching.clone(), context.clone(), pilots.clone())
    });
}

async fn follow_once(watching: Watching, context: Arc<Context>, pilots: mpsc::UnboundedSender<ObjectRef<Pilot>>) {
    let mut calendars = watching.events::<RawCalendar>(config()).boxed();
    let mut namespaces = watching.events::<PartialObjectMeta<Namespace>>(config()).boxed();
    let (stop, cluster) = (&watching.stop, &context.cluster);
    loop {
        let concerned: Vec<Arc<Guardian>> = tokio::select! {
            () = stop.cancelled() => break,
            Some(event) = calendars.next() => {
                let moved = cluster.calendars.see_calendar(&event, context.guarded.zones());
                let is_concerned = |pilot: &Guardian| moved.iter().any(|calendar| narrows(&context, calendar, pilot));
                context.guarded.pilots().into_iter().filter(|pilot| is_concerned(pilot)).collect()
            }
            Some(event) = namespaces.next() => {
                let moved = cluster.calendars.see_namespace(&event);
                let is_concerned = |pilot: &Guardian| moved.contains(&pilot.id.namespace);
                context.guarded.pilots().into_iter().filter(|pilot| is_concerned(pilot)).collect()
            }
            else => break,
        };
        for pilot in concerned {
            // Nobody listens any more only when the operator is ending.
            let _ = pilots.send(ObjectRef::new(&pilot.id.name).within(&pilot.id.namespace));
        }
    }
}

fn narrows(context: &Context, calendar: &SharedCalendar, pilot: &Guardian) -> bool {
    context.cluster.calendars.applies(calendar, &pilot.id.namespace, pilot.named_calendar.as_deref())
}

/// Keeps the status of the calendars until it is stopped.
pub(super) async fn keep_status(context: &Context, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        for kept in context.cluster.calendars.all() {
            let conditions = conditions(&kept.calendar, &kept.status.conditions, kept.generation, (context.clock)());
            let status = ChangeCalendarStatus { conditions };
            if status == kept.status {
                continue;
            }
            let name = &kept.calendar.name;
            if let Err(cause) = write(context.writer.client(), name, &status).await {
                tracing::warn!(calendar = name, cause, "writing a ChangeCalendar's status failed");
            }
        }
    }
}

async fn write(client: &Client, name: &str, status: &ChangeCalendarStatus) -> Result<(), String> {
    let api: Api<RawCalendar> = Api::all(client.clone());
    let (params, status) = (PatchParams::apply(FIELD_MANAGER), json!({ "status": status }));
    let patch = Patch::Merge(&status);
    match tokio::time::timeout(DEADLINE, api.patch_status(name, &params, &patch)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err("the API server took too long".to_owned()),
    }
}
