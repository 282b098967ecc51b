//! The binary: sets up the log and hands over to the command line.

use skiff::base::log;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // `SKIFF_LOG=debug` shows decisions; by default only what a person should look at is logged.
    let asked = std::env::var("SKIFF_LOG").ok();
    let filter =
        EnvFilter::try_new(log::directives(asked.as_deref())).unwrap_or_else(|_| EnvFilter::new(log::directives(None)));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    skiff::cli::main()
}
