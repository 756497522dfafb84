//! What only a real Kubernetes control plane can prove. All tests here share one rig, started by the first that runs.
//!
//! A module registers its tests with `tests![name, …]`; each is an `async fn name(cluster: &Cluster) ->
//! anyhow::Result<()>`. Tests run at the same time: each works in namespaces of its own, and takes nothing away from
//! the rig.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Conclusion, Trial};
use pilotguard_rig::{Rig, RigOptions};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use cluster::Cluster;

/// One test on the shared cluster.
pub(crate) struct Test {
    name: &'static str,
    run: for<'a> fn(&'a Cluster) -> BoxFuture<'a, anyhow::Result<()>>,
}

/// Makes the functions of these names the module's tests.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        /// What this module proves.
        pub(crate) fn tests() -> Vec<crate::Test> {
            vec![$(crate::Test {
                name: concat!(module_path!(), "::", stringify!($name)),
                run: |cluster| Box::pin($name(cluster)),
            }),*]
        }
    };
}

mod bad_input;
mod bad_metrics;
mod calendars;
mod changes;
mod chart;
mod cluster;
mod commands;
mod configuration;
mod contained;
mod crashes;
mod deletion;
mod everyday;
mod exact;
mod examples;
mod exceptions;
mod footprint;
mod gitops;
mod held;
mod kinds;
mod merging;
mod mutating;
mod objects;
mod observing;
mod operator;
mod owners;
mod policies;
mod quiet;
mod release;
mod rights;
mod rollback;
mod scene;
mod schemas;
mod several;
mod storage;

fn all() -> Vec<Test> {
    // Those that take longest first: the others fit in beside them.
    [
        gitops::tests(),
        quiet::tests(),
        crashes::tests(),
        rollback::tests(),
        configuration::tests(),
        several::tests(),
        everyday::tests(),
        exact::tests(),
        storage::tests(),
        exceptions::tests(),
        owners::tests(),
        observing::tests(),
        bad_metrics::tests(),
        deletion::tests(),
        changes::tests(),
        held::tests(),
        calendars::tests(),
        kinds::tests(),
        merging::tests(),
        mutating::tests(),
        contained::tests(),
        bad_input::tests(),
        commands::tests(),
        chart::tests(),
        examples::tests(),
        objects::tests(),
        operator::tests(),
        policies::all_tests(),
        rights::tests(),
        schemas::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A `static` would never be dropped, and a rig that is not dropped keeps its files.
struct Shared {
    runtime: Runtime,
    cluster: OnceCell<Result<Cluster, String>>,
}

impl Shared {
    async fn cluster(&self) -> Result<&Cluster, String> {
        let start = async || {
            let rig = Rig::start(RigOptions::default()).await.map_err(|error| error.to_string())?;
            Cluster::prepare(rig).await.map_err(|error| format!("{error:#}"))
        };
        self.cluster.get_or_init(start).await.as_ref().map_err(|error| format!("the cluster did not start: {error}"))
    }

    async fn run(&self, test: &Test) -> anyhow::Result<()> {
        let cluster = self.cluster().await.map_err(anyhow::Error::msg)?;
        (test.run)(cluster).await
    }
}

/// Tests wait far more than they work, so more of them run at a time than there are processors.
const AT_A_TIME: usize = 12;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    run(&arguments).exit();
}

fn run(arguments: &Arguments) -> Conclusion {
    let runtime = Runtime::new().expect("a runtime for the tests");
    let shared = Arc::new(Shared { runtime, cluster: OnceCell::new() });
    let trial = |test: Test| {
        let shared = Arc::clone(&shared);
        Trial::test(test.name.trim_start_matches("cluster::"), move || {
            shared.runtime.block_on(shared.run(&test)).map_err(|error| format!("{error:#}").into())
        })
    };
    let mut conclusion = libtest_mimic::run(arguments, all().into_iter().map(trial).collect());
    let Some(Ok(cluster)) = shared.cluster.get() else { return conclusion };
    // Only the whole run uses every right.
    if conclusion.num_filtered_out == 0
        && !conclusion.has_failed()
        && let Err(error) = shared.runtime.block_on(footprint::is_what_the_chart_grants(cluster))
    {
        eprintln!("the operators' footprint is not what the chart grants: {error:#}");
        conclusion.num_failed += 1;
    }
    if conclusion.has_failed() {
        cluster.rig.keep();
    }
    conclusion
}
