//! The settings file: what flags are when neither the command line nor the environment says otherwise.
//!
//! ```yaml
//! name: dev                       # of every command that has the flag
//! up:                             # of one command
//!   api-address: 127.0.0.1:7443
//!   http-ports: [8080, 8081]
//! ```
//!
//! **Invariants**: the keys are the flags' own names, and the values go through the flags' own parsers; what no command has is refused,
//! with a suggestion; a file that was named must be there.

use super::exit::{Class, of_class};
use crate::base::ordered::{Map, Set};
use anyhow::{Context as _, anyhow, bail};
use clap::{Arg, ArgAction, Command, builder::Resettable, error::ErrorKind};
use serde_yaml::{Mapping, Value};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The flag that names the file, and its variable.
pub(super) const FLAG: &str = "config";
pub(super) const VARIABLE: &str = "SKIFF_CONFIG";
/// Flags that a file cannot set.
const NOT_SET: [&str; 3] = [FLAG, "help", "version"];
/// Commands that are about no cluster: their flags may have the same names, and mean something else.
const OTHERS: [&str; 1] = ["demo-server"];
/// How far a word may be from the one that was meant.
const DISTANCE_MAX: usize = 3;

/// What a file sets: flags of a command with their values; those of every command are at the empty name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// The file, there or not.
    pub(super) path: PathBuf,
    of: Map<String, Map<String, Vec<String>>>,
}

impl Settings {
    /// Reads the file that the arguments or the environment name, or the usual one if it is there.
    ///
    /// # Errors
    /// Of the class of wrong command lines: it names what no command has, or a value that cannot be.
    pub(super) fn read(command: &Command, args: impl Iterator<Item = OsString>) -> anyhow::Result<Self> {
        let named =
            named(args).or_else(|| std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(Into::into));
        let (path, must_exist) = match (named, usual_path()) {
            (Some(path), _) => (path, true),
            (None, Some(path)) => (path, false),
            // Nobody has a home here.
            (None, None) => return Ok(Self::default()),
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(err) if !must_exist && err.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { path, ..Self::default() });
            }
            Err(err) => {
                let err = anyhow!(err).context(format!("cannot read the settings {}", path.display()));
                return Err(of_class(Class::Usage, err));
            }
        };
        let read = parse(&text, command).with_context(|| path.display().to_string());
        Ok(Self { of: read.map_err(|err| of_class(Class::Usage, err))?, path })
    }

    /// The values of a flag of a command, if the file has them.
    pub(super) fn values(&self, command: &str, flag: &str) -> Option<&[String]> {
        let own = self.of.get(command).and_then(|flags| flags.get(flag));
        own.or_else(|| self.of.get("")?.get(flag)).map(Vec::as_slice)
    }

    /// The flags of a command that the file sets.
    pub(super) fn set(&self, command: &str) -> Set<String> {
        ["", command].iter().filter_map(|name| self.of.get(*name)).flat_map(Map::keys).cloned().collect()
    }

    /// The command line with these values in the place of its defaults.
    pub(super) fn applied(&self, command: Command) -> Command {
        let names: Vec<String> = visible(&command).map(|below| below.get_name().to_owned()).collect();
        names.iter().fold(command, |command, name| command.mut_subcommand(name, |below| self.applied_to(below, name)))
    }

    /// Those of a command, and of the commands below it.
    fn applied_to(&self, command: Command, name: &str) -> Command {
        let below: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
        let command =
            below.iter().fold(command, |command, inner| command.mut_subcommand(inner, |c| self.applied_to(c, name)));
        command.mut_args(|arg| {
            let values = arg.get_long().filter(|long| !NOT_SET.contains(long)).and_then(|long| self.values(name, long));
            match values {
                // They live as long as the process, which reads its settings once.
                Some(values) => {
                    arg.default_values(values.iter().map(|value| &*Box::leak(value.clone().into_boxed_str())))
                }
                None => arg,
            }
        })
    }
}

/// The file that the arguments name.
fn named(mut args: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        if text == "--" {
            return None;
        }
        if text == "--config" {
            return args.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    None
}

/// `$XDG_CONFIG_HOME/skiff/config.yaml`, else `~/.config/skiff/config.yaml`.
fn usual_path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    Some(folder?.join("skiff").join("config.yaml"))
}

type Flags = Map<String, Vec<String>>;

fn parse(text: &str, command: &Command) -> anyhow::Result<Map<String, Flags>> {
    let root: Value = serde_yaml::from_str(text).context("it is not YAML")?;
    let root = match root {
        Value::Null => return Ok(Map::new()),
        Value::Mapping(root) => root,
        _ => bail!("settings are `flag: value` lines, and commands with such lines below them"),
    };
    let mut found: Map<String, Flags> = Map::new();
    for (key, value) in &root {
        let key = key.as_str().context("a key is the name of a flag, or of a command")?;
        match value {
            Value::Mapping(flags) => drop(found.insert(key.to_owned(), of_command(key, flags, command)?)),
            value => {
                let having: Vec<&Command> = visible(command).filter(|c| arg(c, key).is_some()).collect();
                if having.is_empty() {
                    if visible(command).any(|command| command.get_name() == key) {
                        bail!("{key} is a command: its flags come below it, each with its value");
                    }
                    bail!("no command has a flag --{key}{}", meant(key, visible(command).flat_map(longs)));
                }
                let values = values(key, value)?;
                having.iter().try_for_each(|c| check(c, key, &values)).with_context(|| key.to_owned())?;
                found.entry(String::new()).or_default().insert(key.to_owned(), values);
            }
        }
    }
    Ok(found)
}

fn of_command(name: &str, flags: &Mapping, root: &Command) -> anyhow::Result<Flags> {
    let Some(command) = visible(root).find(|command| command.get_name() == name) else {
        bail!("there is no command {name}{}", meant(name, visible(root).map(Command::get_name)));
    };
    let mut found = Flags::new();
    for (key, value) in flags {
        let key = key.as_str().with_context(|| format!("{name}: a key is the name of a flag"))?;
        if arg(command, key).is_none() {
            bail!("`skiff {name}` has no flag --{key}{}", meant(key, longs(command)));
        }
        let values = values(key, value).with_context(|| name.to_owned())?;
        check(command, key, &values).with_context(|| format!("{name}.{key}"))?;
        found.insert(key.to_owned(), values);
    }
    Ok(found)
}

/// The commands that settings are for.
pub(super) fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set() && !OTHERS.contains(&below.get_name()))
}

/// The flag of this name, of a command or of one below it.
fn arg<'a>(command: &'a Command, long: &str) -> Option<&'a Arg> {
    let own = command.get_arguments().find(|arg| arg.get_long() == Some(long) && is_settable(arg));
    own.or_else(|| command.get_subcommands().find_map(|below| arg(below, long)))
}

pub(super) fn is_settable(arg: &Arg) -> bool {
    !arg.is_hide_set() && arg.get_long().is_some_and(|long| !NOT_SET.contains(&long))
}

fn longs(command: &Command) -> impl Iterator<Item = &str> {
    command.get_arguments().filter(|arg| is_settable(arg)).filter_map(Arg::get_long)
}

/// The values of a key: one, or a list of them.
fn values(key: &str, value: &Value) -> anyhow::Result<Vec<String>> {
    let one = |value: &Value| match value {
        Value::Bool(is) => Ok(is.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::String(text) => Ok(text.clone()),
        _ => bail!("{key}: a value is text, a number, true or false, or a list of those"),
    };
    match value {
        Value::Sequence(items) => items.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// Whether the flag's own parser takes these.
fn check(command: &Command, long: &str, values: &[String]) -> anyhow::Result<()> {
    let Some(flag) = arg(command, long) else { return Ok(()) };
    if matches!(flag.get_action(), ArgAction::SetTrue) {
        return match values {
            [one] if one == "true" || one == "false" => Ok(()),
            _ => bail!("it is true or false"),
        };
    }
    let parser = Command::new("check").no_binary_name(true).arg(alone(flag));
    match parser.try_get_matches_from(values.iter().map(|value| format!("--{long}={value}"))) {
        Ok(_) => Ok(()),
        Err(err) if err.kind() == ErrorKind::ArgumentConflict => bail!("it has one value"),
        Err(err) => {
            let text = err.to_string();
            let first = text.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
            bail!("{}", first.trim_start_matches("error: "))
        }
    }
}

/// A flag without what ties it to others.
fn alone(flag: &Arg) -> Arg {
    let long = flag.get_long().expect("a setting is a flag with a name").to_owned();
    let long: &'static str = Box::leak(long.into_boxed_str());
    let mut alone =
        Arg::new(long).long(long).action(flag.get_action().clone()).value_parser(flag.get_value_parser().clone());
    if let Some(delimiter) = flag.get_value_delimiter() {
        alone = alone.value_delimiter(delimiter);
    }
    if let Some(names) = flag.get_value_names() {
        alone = alone.value_names(names.to_vec());
    }
    alone.env(Resettable::Reset)
}

/// The words that come close to this one, as an end of a sentence.
fn meant<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let closest = known.map(|other| (distance(word, other), other)).min();
    closest
        .filter(|(distance, _)| *distance <= DISTANCE_MAX)
        .map(|(_, other)| format!(": is {other} meant?"))
        .unwrap_or_default()
}

/// How many letters must be added, removed, changed, or swapped with the next. Source: Damerau and Levenshtein.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Whether a file is there.
pub(super) fn is_there(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parsed(text: &str) -> Result<Settings, String> {
        let of = parse(text, &super::super::Cli::command()).map_err(|err| format!("{err:#}"))?;
        Ok(Settings { path: PathBuf::new(), of })
    }

    /// The command line of who has no variables set.
    fn without_variables(command: Command) -> Command {
        let below: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
        let command = below.iter().fold(command, |command, name| command.mut_subcommand(name, without_variables));
        command.mut_args(|arg| arg.env(Resettable::Reset))
    }

    #[test]
    fn a_file_sets_the_flags_of_all_commands_and_of_one() {
        let settings = parsed("name: dev\nup: {http-ports: [8080, 8081], adopt: true, nodes: 2}\n").unwrap();
        let command = without_variables(settings.applied(super::super::Cli::command()));
        let matches = command.get_matches_from(["skiff", "up", "--nodes", "3"]);
        let up = matches.subcommand_matches("up").unwrap();
        assert_eq!(up.get_one::<String>("name").unwrap(), "dev");
        assert_eq!(up.get_many::<u16>("http_ports").unwrap().copied().collect::<Vec<_>>(), [8080, 8081]);
        assert!(up.get_flag("adopt"));
        assert_eq!(up.get_one::<u32>("nodes"), Some(&3), "the command line goes before");
        assert_eq!(settings.set("up"), ["adopt", "http-ports", "name", "nodes"].map(str::to_owned).into());
        let command = without_variables(settings.applied(super::super::Cli::command()));
        let matches = command.get_matches_from(["skiff", "rollout", "status", "dc/web"]);
        let status = matches.subcommand_matches("rollout").unwrap().subcommand_matches("status").unwrap();
        assert_eq!(status.get_one::<String>("name").unwrap(), "dev", "of commands below commands too");
        assert_eq!(parsed(""), Ok(Settings::default()));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_was_meant() {
        let said = |text: &str| parsed(text).unwrap_err();
        expect_test::expect![[r#"
            no command has a flag --nmae: is name meant?
            `skiff up` has no flag --api-adress: is api-address meant?
            there is no command upp: is up meant?
            up.api-address: invalid value '6443' for '--api-address <ADDRESS:PORT>': give ADDRESS:PORT, e.g. 127.0.0.1:6443
            up.adopt: it is true or false
            up.nodes: it has one value
            up: nodes: a value is text, a number, true or false, or a list of those
            config is a command: its flags come below it, each with its value
            settings are `flag: value` lines, and commands with such lines below them
        "#]]
        .assert_eq(
            &[
                "nmae: dev",
                "up: {api-adress: 'x'}",
                "upp: {nodes: 1}",
                "up: {api-address: 6443}",
                "up: {adopt: maybe}",
                "up: {nodes: [1, 2]}",
                "up: {nodes: null}",
                "config: x",
                "- a",
            ]
            .map(|text| said(text) + "\n")
            .concat(),
        );
    }

    #[test]
    fn the_file_is_the_one_that_is_named() {
        let named = |args: &[&str]| named(args.iter().map(OsString::from));
        assert_eq!(named(&["skiff", "up", "--config", "a.yaml"]), Some("a.yaml".into()));
        assert_eq!(named(&["skiff", "--config=b.yaml", "up"]), Some("b.yaml".into()));
        assert_eq!(named(&["skiff", "x", "--", "--config", "a"]), None);
    }
}
