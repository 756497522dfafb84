//! The `rig` command: builds the rig's tools, and keeps a cluster in the background for people.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pilotguard_rig::Tools;
use pilotguard_rig::background::{self, Address, Up};

/// A real Kubernetes control plane and Prometheus as plain processes.
#[derive(Parser)]
#[command(name = "rig")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the tools that are missing from the cache, those that only some tests need included
    Build,
    /// Start a cluster in the background and print what to export
    Up(Place),
    /// End the cluster in the background
    Down(Place),
    /// Own a cluster in the foreground until interrupted
    Serve(Place),
}

#[derive(clap::Args)]
struct Place {
    /// Where the cluster keeps its files
    #[arg(long, default_value = ".cluster")]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Build => {
            tokio::task::spawn_blocking(Tools::all).await??;
        }
        Command::Up(place) => up(&place.dir).await?,
        Command::Down(place) => {
            let was_running = background::down(&place.dir).await?;
            println!("{}", if was_running { "the cluster has ended" } else { "no cluster is running" });
        }
        Command::Serve(place) => background::serve(&place.dir).await?,
    }
    Ok(())
}

async fn up(directory: &Path) -> anyhow::Result<()> {
    // Here, where a person can see how far it is, rather than in the owner.
    tokio::task::spawn_blocking(Tools::ready).await??;
    let address = match background::up(directory, &std::env::current_exe()?).await? {
        Up::Already(address) => {
            eprintln!("the cluster is already running");
            address
        }
        Up::Started(address) => {
            eprintln!("the cluster is running");
            address
        }
    };
    print(&address);
    Ok(())
}

fn print(address: &Address) {
    let Address { kubeconfig, prometheus, accounts, .. } = address;
    eprintln!("you are dev, who may edit namespace shop; $ADMIN may do everything, $OWNER is ada@example.com");
    println!("export KUBECONFIG='{}'", accounts.developer.display());
    println!("export ADMIN='{}'", kubeconfig.display());
    println!("export OWNER='{}'", accounts.owner.display());
    println!("export OPERATOR='{}'", accounts.operator.display());
    println!("export PROMETHEUS_URL='{prometheus}'");
    println!("export PATH='{}':\"$PATH\"", accounts.tools.display());
}
