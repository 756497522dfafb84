//! The `pilotguard` command.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pilotguard::cli::{crds, run, windows};

/// Makes pilots safe by declaration: who owns a pilot, when it may change, how much it may break and what moves
/// it back to safety.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the controller and the admission webhook
    Run(Box<run::RunArgs>),
    /// Print the CustomResourceDefinitions
    Crds,
    /// Print when a Pilot's windows are open and closed
    Windows(windows::WindowsArgs),
}

fn main() -> ExitCode {
    // Two TLS providers in one process make its clients panic, so the one there is is named first of all.
    let provider = rustls::crypto::ring::default_provider();
    if provider.install_default().is_err() {
        let _ = writeln!(std::io::stderr(), "Error: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(*args).map_err(|error| miette::miette!("{error:#}")),
        Command::Crds => crds::run(),
        Command::Windows(args) => windows::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            // Nobody may be reading it any more.
            let _ = writeln!(std::io::stderr(), "{report:?}");
            ExitCode::FAILURE
        }
    }
}
