//! The binary: sets up the log and hands over to the command line.

use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // `SKIFF_LOG=debug` shows decisions; by default only what a person should look at is logged.
    let filter = EnvFilter::try_from_env("SKIFF_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    skiff::cli::main()
}
