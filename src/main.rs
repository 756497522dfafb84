//! The `pilotguard` command.
fn main() -> miette::Result<()> {
    pilotguard::cli::crds::run()
}
