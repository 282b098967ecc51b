//! The binary: sets up the log and hands over to the command line.

use skiff::base::{log, log_file::LogFile};
use std::process::ExitCode;
use tracing_subscriber::{Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

fn main() -> ExitCode {
    let is_control_plane = skiff::cli::is_control_plane();
    skiff::roles::shield(is_control_plane);
    skiff::roles::listen_early();
    // `SKIFF_LOG=debug` shows decisions; by default only what a person should look at is logged.
    let asked = std::env::var("SKIFF_LOG").ok();
    let lines = fmt::layer().with_writer(std::io::stderr).with_filter(filter(asked.as_deref(), None));
    // A control plane keeps its log in a file too, and more of it.
    let kept = is_control_plane.then(|| {
        let file = fmt::layer().with_ansi(false).with_writer(|| LogFile);
        file.with_filter(filter(asked.as_deref(), Some(log::OF_FILE)))
    });
    tracing_subscriber::registry().with(lines).with(kept).init();
    skiff::cli::main()
}

/// What is asked for; what is no filter counts as nothing.
fn filter(asked: Option<&str>, otherwise: Option<&str>) -> Targets {
    let asked = asked.filter(|text| !text.trim().is_empty()).or(otherwise);
    log::directives(asked)
        .parse()
        .unwrap_or_else(|_| log::directives(otherwise).parse().expect("the default is a filter"))
}
