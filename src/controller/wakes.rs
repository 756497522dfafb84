//! Who is to be evaluated before it is due: pilots that something touched, gathered for a moment so that a burst wakes
//! each of them once. The moment begins with the first touch, so that no stream of touches can put an evaluation off.

use std::collections::HashSet;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;

use crate::api::pilot::Pilot;

/// A burst of events wakes a pilot once.
const MOMENT: Duration = Duration::from_millis(20);

/// The pilots that were touched, each once for each moment.
pub(super) fn gathered(
    touched: mpsc::UnboundedReceiver<ObjectRef<Pilot>>,
) -> impl Stream<Item = ObjectRef<Pilot>> + Send + 'static {
    let moments = stream::unfold(touched, async |mut touched| {
        let mut pilots = HashSet::from([touched.recv().await?]);
        tokio::time::sleep(MOMENT).await;
        while let Ok(pilot) = touched.try_recv() {
            pilots.insert(pilot);
        }
        Some((stream::iter(pilots), touched))
    });
    moments.flatten()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn pilot(name: &str) -> ObjectRef<Pilot> {
        ObjectRef::new(name).within("shop")
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_stream_of_touches_puts_nothing_off() {
        let (touch, touched) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for _ in 0..1000 {
                touch.send(pilot("web")).unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let begun = Instant::now();
        let mut woken = Box::pin(gathered(touched));
        assert_eq!(woken.next().await, Some(pilot("web")));
        assert!(begun.elapsed() <= MOMENT * 2, "{:?}", begun.elapsed());
        let rest = woken.count().await;
        assert!((100..400).contains(&rest), "{rest} wakes for 1000 touches in 5 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_wakes_each_pilot_once() {
        let (touch, touched) = mpsc::unbounded_channel();
        for _ in 0..100 {
            touch.send(pilot("web")).unwrap();
            touch.send(pilot("cart")).unwrap();
        }
        drop(touch);
        assert_eq!(gathered(touched).count().await, 2);
    }
}
