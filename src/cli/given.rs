//! The flags that a command was given, by whatever said so: the command line, the environment, the settings file.

use crate::base::ordered::Set;
use clap::{ArgAction, ArgMatches, Command, parser::ValueSource};

/// Flags with their values, as words of a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given(Vec<(String, String)>);

impl Given {
    /// What a command was given. `set` are the flags that the settings file sets, which are defaults to the parser.
    pub(super) fn of(command: &Command, matches: &ArgMatches, set: &Set<String>) -> Self {
        let mut given = Vec::new();
        for arg in command.get_arguments() {
            let (id, Some(long)) = (arg.get_id().as_str(), arg.get_long()) else { continue };
            let is_given =
                matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
            if !is_given && !set.contains(long) {
                continue;
            }
            if matches!(arg.get_action(), ArgAction::SetTrue) {
                given.extend(matches.get_flag(id).then(|| (id.to_owned(), format!("--{long}"))));
                continue;
            }
            let values = matches.get_raw(id).into_iter().flatten();
            given.extend(values.map(|value| (id.to_owned(), format!("--{long}={}", value.to_string_lossy()))));
        }
        Self(given)
    }

    /// Their words, without those of these.
    pub(super) fn without(&self, ids: &[&str]) -> Vec<String> {
        self.0.iter().filter(|(id, _)| !ids.contains(&&**id)).map(|(_, word)| word.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn what_was_given_reads_as_it_was() {
        let command = Command::new("up")
            .arg(Arg::new("data_dir").long("data-dir"))
            .arg(Arg::new("ports").long("ports").value_delimiter(',').action(ArgAction::Append))
            .arg(Arg::new("adopt").long("adopt").action(ArgAction::SetTrue))
            .arg(Arg::new("quiet").long("quiet").action(ArgAction::SetTrue))
            .arg(Arg::new("nodes").long("nodes").default_value("1"));
        let matches = command.clone().get_matches_from(["up", "--data-dir", "/d", "--ports", "1,2", "--adopt"]);
        let given = Given::of(&command, &matches, &Set::new());
        assert_eq!(given.without(&["data_dir"]), ["--ports=1", "--ports=2", "--adopt"]);
        let given = Given::of(&command, &matches, &["nodes".to_owned()].into());
        assert_eq!(given.without(&["data_dir", "ports"]), ["--adopt", "--nodes=1"]);
    }
}
