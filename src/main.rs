//! The binary: sets up the log and hands over to the command line.

use skiff::base::log;
use std::process::ExitCode;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

fn main() -> ExitCode {
    skiff::roles::shield();
    skiff::roles::listen_early();
    // `SKIFF_LOG=debug` shows decisions; by default only what a person should look at is logged.
    let asked = std::env::var("SKIFF_LOG").ok();
    let filter: Targets = log::directives(asked.as_deref())
        .parse()
        .unwrap_or_else(|_| log::directives(None).parse().expect("the default is a filter"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(filter).init();
    skiff::cli::main()
}
