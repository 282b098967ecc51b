//! `skiff config view`: what holds for each flag, and from where.

use super::{
    Cli, output,
    settings::{Settings, VARIABLE, is_settable, is_there, visible},
};
use crate::base::ordered::Map;
use clap::{Arg, Command, CommandFactory as _};

/// More commands than this are counted, not named.
const SHOWN_MAX: usize = 3;

/// Arguments of `skiff config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  skiff config view")]
pub(super) struct Args {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show what the settings file and the environment set; the command line goes before both
    #[command(after_help = "Examples:\n  skiff config view\n  skiff config view --all    # defaults too")]
    View {
        /// Show what has its default, too
        #[arg(long)]
        all: bool,
    },
}

pub(super) fn run(args: &Args, settings: &Settings) {
    let What::View { all } = args.command;
    let is = if is_there(&settings.path) { "" } else { ", which is not there" };
    output::line(format!(
        "The settings file is {}{is} ({VARIABLE} and --config name another).",
        settings.path.display()
    ));
    let rows = rows(&Cli::command(), settings, &|name| std::env::var(name).ok(), all);
    if rows.is_empty() {
        output::line("Everything has its default: `skiff config view --all` shows it.");
        return;
    }
    let head = ["COMMAND", "FLAG", "VALUE", "FROM"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(rows).collect();
    let cells: Vec<[&str; 4]> = rows.iter().map(|row| std::array::from_fn(|n| &*row[n])).collect();
    output::columns(&cells).iter().for_each(output::line);
}

/// Command, flag, value, and from where. Commands that have the same in common share a line.
fn rows(root: &Command, settings: &Settings, var: &dyn Fn(&str) -> Option<String>, all: bool) -> Vec<[String; 4]> {
    let mut found: Map<(String, String, String), Vec<&str>> = Map::new();
    for command in visible(root) {
        let name = command.get_name();
        for arg in flags(command) {
            let long = arg.get_long().unwrap_or_default();
            let (value, from) = holds(arg, settings.values(name, long), var);
            let users = found.entry((long.to_owned(), value, from)).or_default();
            if !users.contains(&name) {
                users.push(name);
            }
        }
    }
    let is_shown = |from: &str| all || from != "default";
    let shown = found.into_iter().filter(|((_, _, from), _)| is_shown(from));
    let of = |users: Vec<&str>| match users.len() {
        n if n > SHOWN_MAX => format!("{n} commands"),
        _ => users.join(", "),
    };
    shown.map(|((flag, value, from), users)| [of(users), format!("--{flag}"), value, from]).collect()
}

/// The flags of a command and of those below it.
fn flags(command: &Command) -> Vec<&Arg> {
    let own = command.get_arguments().filter(|arg| is_settable(arg));
    own.chain(command.get_subcommands().flat_map(flags)).collect()
}

fn holds(arg: &Arg, set: Option<&[String]>, var: &dyn Fn(&str) -> Option<String>) -> (String, String) {
    let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
    if let Some((name, value)) = variable.and_then(|name| Some((name.clone(), var(&name)?))) {
        return (value, name);
    }
    if let Some(values) = set {
        return (values.join(","), "file".to_owned());
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    (defaults.join(","), "default".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_goes_before_the_file_and_that_before_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, "name: dev\nup: {nodes: 2, max-pods: 50}\n").unwrap();
        let args = ["skiff".into(), format!("--config={}", path.display()).into()];
        let settings = Settings::read(&Cli::command(), args.into_iter()).unwrap();
        let var = |name: &str| (name == "SKIFF_NODES").then(|| "3".to_owned());
        let rows = rows(&Cli::command(), &settings, &var, false);
        let of = |flag: &str| rows.iter().find(|row| row[1] == flag).map(|row| [&*row[0], &*row[2], &*row[3]]);
        assert_eq!(of("--nodes"), Some(["up", "3", "SKIFF_NODES"]));
        assert_eq!(of("--max-pods"), Some(["up", "50", "file"]));
        assert!(
            of("--name")
                .is_some_and(|[users, value, from]| users.ends_with("commands") && (value, from) == ("dev", "file"))
        );
        assert_eq!(of("--api-address"), None);
    }
}
