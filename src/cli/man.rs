//! `skiff man`: the manual as man pages; and the reference of all commands and flags, which is made from the same.

use super::{
    Cli,
    exit::{Class, of_class},
    output,
};
use anyhow::{Context as _, anyhow};
use clap::CommandFactory as _;
use std::path::PathBuf;

/// Arguments of `skiff man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skiff man | man -l -\n  skiff man /usr/local/share/man/man1")]
pub(super) struct Args {
    /// Write the pages of all commands into this folder, instead of printing the first
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).context("cannot write the manual")?;
        output::raw(&String::from_utf8_lossy(&page));
        return Ok(());
    };
    if !folder.is_dir() {
        return Err(of_class(Class::Input, anyhow!("{} is not a folder: make it first", folder.display())));
    }
    let written = clap_mangen::generate_to(Cli::command(), folder);
    written.with_context(|| format!("cannot write into {}", folder.display()))?;
    output::done(format!("the man pages are in {}", folder.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, Command};

    /// The reference as Markdown: what `--help` says, a part for each command.
    fn reference() -> String {
        let mut out = String::from(
            "# Commands and flags\n\nMade from the code: `UPDATE_EXPECT=1 cargo test --lib man` writes it anew. Each flag that names a \
             variable can be set by it, and by the settings file (`skiff config view`) under its own name.\n",
        );
        part(&Cli::command(), "skiff", &mut out);
        out + "\n" + &super::super::exit::help() + "\n"
    }

    fn part(command: &Command, name: &str, out: &mut String) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        *out += &format!("\n## {name}\n\n{about}\n");
        let args: Vec<String> = command.get_arguments().filter(|arg| !arg.is_hide_set()).map(line).collect();
        if !args.is_empty() {
            *out += &format!("\n{}\n", args.join("\n"));
        }
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            part(below, &format!("{name} {}", below.get_name()), out);
        }
    }

    fn line(arg: &Arg) -> String {
        let is_flag = !arg.get_action().takes_values();
        let names = arg.get_value_names().into_iter().flatten().map(|name| format!(" {name}")).collect::<String>();
        let value = if is_flag { String::new() } else { names };
        let called = match (arg.get_short(), arg.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}{value}"),
            (None, Some(long)) => format!("--{long}{value}"),
            _ => value.trim_start().to_owned(),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let mut facts = Vec::new();
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() && !is_flag {
            facts.push(format!("default `{}`", defaults.join(",")));
        }
        if let Some(variable) = arg.get_env() {
            facts.push(format!("variable `{}`", variable.to_string_lossy()));
        }
        let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
        format!("- `{called}`: {help}{facts}")
    }

    #[test]
    fn the_reference_is_what_the_code_says() {
        expect_test::expect_file!["reference.md"].assert_eq(&reference());
    }

    #[test]
    fn every_command_has_its_line_in_the_readme() {
        let readme = include_str!("../../README.md");
        let lacks: Vec<String> = Cli::command()
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(|command| format!("skiff {}", command.get_name()))
            .filter(|command| !readme.contains(&format!("| `{command}")))
            .collect();
        assert!(lacks.is_empty(), "not in the README's table: {lacks:?}");
    }

    #[test]
    fn a_page_is_made_for_every_command() {
        let dir = tempfile::tempdir().unwrap();
        run(&Args { folder: Some(dir.path().to_owned()) }).unwrap();
        for page in ["skiff.1", "skiff-up.1", "skiff-rollout-undo.1"] {
            assert!(dir.path().join(page).exists(), "{page}");
        }
        assert!(run(&Args { folder: Some(dir.path().join("none")) }).is_err());
    }
}
