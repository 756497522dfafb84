//! `demo` plays pilotguard's story on a real control plane for people to watch; `bench` measures how fast it reacts.
//!
//! Both end with code 0 only if what they tell really happened, as the API server sees it.

mod bench;
mod chronicle;
mod figures;
mod fleet;
mod narrator;
mod play;
mod probe;
mod stage;
mod story;
mod visit;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// pilotguard on a real control plane, to watch and to measure.
#[derive(Parser)]
#[command(name = "pilotguard-demo")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play the story: refused, admitted, errors, rolled back, refused again, fixed
    Demo {
        /// Leave everything running afterwards, until interrupted
        #[arg(long)]
        keep: bool,
        /// Play on the cluster of this kubeconfig's current context instead of one of its own, and remove everything
        /// from it in the end
        #[arg(long, value_name = "PATH", env = "DEMO_KUBECONFIG")]
        kubeconfig: Option<PathBuf>,
    },
    /// Measure reaction, admission and the cost of a fleet, each against a baseline of the same run
    Bench {
        /// How often the reaction is measured
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// How many requests of each kind admission is measured with
        #[arg(long, default_value_t = 300)]
        requests: u32,
        /// How many pilots the cost of a fleet is measured with; 0 measures none
        #[arg(long, default_value_t = 1000)]
        pilots: usize,
        /// For how many seconds that cost is counted
        #[arg(long, default_value_t = 120)]
        seconds: u64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo { keep, kubeconfig } => Box::pin(play::play(keep, kubeconfig.as_deref())).await,
        Command::Bench { runs, requests, pilots, seconds } => {
            stage::unless_interrupted(Box::pin(bench::measure(runs, requests, (pilots, seconds)))).await
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error:#}");
            ExitCode::FAILURE
        }
    }
}
