//! `skiff completion`: what a shell must know to complete skiff's commands and flags.

use super::{Cli, output};
use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

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
    output::raw(&script(args.shell).context("the completion is no text")?);
    Ok(())
}

fn script(shell: Shell) -> Result<String, std::string::FromUtf8Error> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "skiff", &mut script);
    String::from_utf8(script)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_shell_gets_the_commands_for_people_and_their_flags() {
        for shell in Shell::value_variants() {
            let script = script(*shell).unwrap();
            for part in ["doctor", "snapshot", "cluster-cidr"] {
                assert!(script.contains(part), "{shell} has no {part}");
            }
        }
    }
}
