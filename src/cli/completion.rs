//! `skiff completion`: what a shell must know to complete skiff's commands, flags, and the names of objects.
//!
//! The shell asks skiff itself each time ([`answer`]); `offers` knows what there is at the moment.

pub(super) mod offers;

use super::{Cli, output};
use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::{CompleteEnv, Shell, env::Shells};

/// The variable by which a shell asks.
const VARIABLE: &str = "SKIFF_COMPLETE";

/// Arguments of `skiff completion`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  source <(skiff completion bash)\n  skiff completion fish > ~/.config/fish/completions/skiff.fish"
)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    output::raw(&script(args.shell)?);
    Ok(())
}

fn script(shell: Shell) -> anyhow::Result<String> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let completer = shells.completer(&shell.to_string()).context("no such shell")?;
    completer.write_registration(VARIABLE, "skiff", "skiff", "skiff", &mut script)?;
    String::from_utf8(script).context("the completion is no text")
}

/// Answers a shell that asks what may come next, and ends; returns when none asks.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_shell_learns_to_ask() {
        for shell in Shell::value_variants() {
            let script = script(*shell).unwrap();
            assert!(script.contains(VARIABLE) && script.contains("skiff"), "{shell}: {script}");
        }
    }
}
