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

mod chart;
mod cluster;
mod examples;
mod objects;
mod operator;
mod policies;
mod release;
mod rights;
mod schemas;

fn all() -> Vec<Test> {
    [
        chart::tests(),
        examples::tests(),
        objects::tests(),
        operator::tests(),
        policies::tests(),
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

fn main() {
    let arguments = Arguments::from_args();
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
    let conclusion = libtest_mimic::run(arguments, all().into_iter().map(trial).collect());
    if let (true, Some(Ok(cluster))) = (conclusion.has_failed(), shared.cluster.get()) {
        cluster.rig.keep();
    }
    conclusion
}
