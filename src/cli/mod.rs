//! Level 6: the command line. One file per command: its arguments and what it does. Talks to the API over HTTP like any client.
//!
//! To add a command: 1. its file here; 2. its `mod` line; 3. its line in [`Command`]; 4. its arm in [`run`]; 5. an example in its
//! `after_help`; 6. a test of what it prints; its wrong uses in `integration-tests/wrong_uses.rs`.
//!
//! What skiff is in containers of its own image is a [`Role`], called by the path that the program has there (`roles::called`): a role and a
//! command may have one name.

mod apply;
mod cluster;
mod completion;
mod config;
mod convert;
mod demo;
mod detached;
mod doctor;
mod down;
mod exit;
mod given;
mod kubeconfig;
mod kubectl;
mod logs;
mod man;
mod open;
mod output;
mod pause;
mod process;
mod promote;
mod rollout;
mod settings;
mod snapshot;
mod status;
mod stop;
mod tag;
mod timeline;
mod up;
mod upgrade;
mod version;
mod watching;
mod workloads;

use crate::roles;
use clap::{
    CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use given::Given;
use settings::Settings;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// A local Kubernetes on the Docker engine you already have.
#[derive(Debug, Parser)]
#[command(name = "skiff", version, about, disable_help_subcommand = true, after_help = after_help())]
struct Cli {
    /// The settings file: flags and their values, for all commands or below a command's name [default: ~/.config/skiff/config.yaml]
    #[arg(long, env = settings::VARIABLE, value_name = "FILE", global = true)]
    #[allow(dead_code, reason = "it is read before the rest is parsed, because it says what that means")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, and it is moved once")]
enum Command {
    /// Start the cluster, apply manifests, stay in the foreground
    Up(up::Args),
    /// Remove the cluster: containers, network, volumes, state, kubeconfig entry
    Down(down::Args),
    /// Show the cluster on one screen: where it answers, what runs, what has healed, what is wrong
    Status(status::Args),
    /// End the control plane; containers and Services run on
    Stop(stop::Args),
    /// Let this build take over what runs in the background, while pods run
    Upgrade(upgrade::Args),
    /// Stop everything of the cluster, and lose nothing
    Pause(pause::PauseArgs),
    /// Start again what `skiff pause` has stopped
    Resume(pause::ResumeArgs),
    /// Print what the control plane says of itself
    Logs(logs::Args),
    /// Open the dashboard in the browser
    Open(open::Args),
    /// Check this machine, and with --fix install and start what is missing
    Doctor(doctor::Args),
    /// Print the cluster's kubeconfig, or merge it into yours
    Kubeconfig(kubeconfig_command::Args),
    /// Keep the cluster's state in a file, and begin again from one
    Snapshot(snapshot::Args),
    /// Start, hold, end, repeat, undo and list rollouts of DeploymentConfigs
    Rollout(rollout::Args),
    /// Tell how the containers of a pod ended and came back, to the millisecond
    Timeline(timeline::Args),
    /// Give an image a tag of an image stream
    Tag(tag::Args),
    /// Make the objects of an OpenShift Template
    Process(process::Args),
    /// Make Deployments of DeploymentConfigs, and say what a Deployment does not do
    Convert(convert::Args),
    /// The everyday verbs of kubectl, for those who have none at hand
    Kubectl(kubectl::Args),
    /// Apply what runs here to another cluster, after a look at what would change there
    Promote(promote::Args),
    /// Walk through what a cluster does: kill, scale, update, undo, each timed
    Demo(demo::Args),
    /// Show what is set, and from where
    Config(config::Args),
    /// Print the manual, or write all its pages
    Man(man::Args),
    /// Print what a shell needs to complete commands
    Completion(completion::Args),
    /// Print the version
    #[command(after_help = "Example:\n  skiff version")]
    Version,
    /// A small web server for demos and tests
    DemoServer(roles::demo_server::Args),
}

/// What skiff is in containers of its own image, where its program is `/skiff`.
#[derive(Debug, Parser)]
#[command(name = "/skiff")]
struct InImage {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The data plane
    Proxy,
    /// The sandbox's program
    Pause(roles::pause::Args),
    /// Binds parts of volumes for the engine
    BindPaths,
    /// Looks at paths of the engine's host
    HostPaths,
    /// Does one rollout of a DeploymentConfig
    Deployer(roles::deployer::Args),
    /// Makes connections to the ports of a pod's localhost
    Forward,
    /// Ends commands of probes and hooks that hang
    EndProcesses,
}

#[path = "kubeconfig_command.rs"]
mod kubeconfig_command;

/// Parses the arguments and does what they say.
pub fn main() -> ExitCode {
    if called_as(roles::shell::PROGRAM) {
        return roles::shell::run(std::env::args().skip(1));
    }
    completion::answer();
    let done = match role() {
        Some(role) => run_role(role),
        None if called_as(kubectl::PROGRAM) => kubectl::run(kubectl::Alone::parse().args),
        None => run_command(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            output::error(&err);
            ExitCode::from(exit::code(&err))
        }
    }
}

/// Whether the arguments ask for a control plane, which keeps a log. Told before they are parsed.
pub fn is_control_plane() -> bool {
    // Before it there may be the settings file.
    std::env::args_os().skip(1).take(3).any(|word| word == "up") && !called_as(roles::shell::PROGRAM)
}

fn after_help() -> String {
    format!(
        "Examples:\n  skiff up -f manifests     # a cluster, with these manifests applied\n  skiff status              # where it answers, and what runs\n  skiff down                # every trace is gone\n\n{}",
        exit::help()
    )
}

/// The role that the path and the word after it name; or the name, in skiff's image.
fn role() -> Option<Role> {
    if called_as(roles::deployer::PROGRAM) {
        return Some(Role::Deployer(roles::deployer::Args::parse()));
    }
    let word = roles::called()?;
    word.to_str().is_some_and(Role::has_subcommand).then(|| InImage::parse().role)
}

/// Whether the program was called by one of the names that it has in skiff's image.
fn called_as(program: &str) -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name().is_some_and(|name| name == program)
}

/// Reads the settings, parses the arguments, and does what they say.
fn run_command() -> anyhow::Result<()> {
    let settings = Settings::read(&Cli::command(), std::env::args_os())?;
    let command = settings.applied(Cli::command());
    let matches = command.clone().try_get_matches().unwrap_or_else(|err| refuse(&command, &err));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|err| err.exit());
    let given = matches
        .subcommand()
        .and_then(|(name, of)| Some(Given::of(command.find_subcommand(name)?, of, &settings.set(name))));
    run(cli.command, &given.unwrap_or_default(), &settings)
}

/// Says what is wrong with the arguments, and ends. What came from a variable is told so: nobody has typed it.
fn refuse(root: &clap::Command, err: &clap::Error) -> ! {
    if let (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(variable)) = (err.kind(), culprit(root, err)) {
        output::aside(format!("The value comes from the variable {variable}."));
    }
    err.exit()
}

/// The variable whose value cannot be, when the flag was not given.
fn culprit(root: &clap::Command, err: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(shown)) = err.get(ContextKind::InvalidArg) else { return None };
    let long = shown.strip_prefix("--")?.split([' ', '=']).next()?.to_owned();
    let is_typed = |word: String| word.strip_prefix("--").is_some_and(|rest| rest.split('=').next() == Some(&long));
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    if words.into_iter().any(is_typed) {
        return None;
    }
    let mut arguments = root.get_subcommands().flat_map(clap::Command::get_arguments);
    let variable = arguments.find(|arg| arg.get_long() == Some(&long))?.get_env()?.to_string_lossy().into_owned();
    std::env::var_os(&variable).map(|_| variable)
}

fn run(command: Command, given: &Given, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => up::run(args, given),
        Command::Stop(args) => stop::run(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Kubectl(args) => kubectl::run(args),
        Command::Promote(args) => promote::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Config(args) => {
            config::run(&args, settings);
            Ok(())
        }
        Command::Down(args) => down::run(args),
        Command::Status(args) => status::run(&args),
        Command::Pause(args) => pause::pause(&args),
        Command::Resume(args) => pause::resume(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Open(args) => open::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Kubeconfig(args) => kubeconfig_command::run(&args),
        Command::Snapshot(args) => snapshot::run(args),
        Command::Tag(args) => tag::run(args),
        Command::Timeline(args) => timeline::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Process(args) => process::run(&args),
        Command::Rollout(args) => rollout::run(args),
        Command::Completion(args) => completion::run(&args),
        Command::Version => {
            version::run();
            Ok(())
        }
        Command::DemoServer(args) => roles::demo_server::run(args),
    }
}

fn run_role(role: Role) -> anyhow::Result<()> {
    match role {
        Role::Proxy => roles::proxy::run(),
        Role::Pause(args) => roles::pause::run(&args),
        Role::BindPaths => roles::bind_paths::run(),
        Role::HostPaths => roles::host_paths::run(),
        Role::Deployer(args) => roles::deployer::run(args),
        Role::Forward => roles::forward::run(),
        Role::EndProcesses => roles::end_processes::run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command and all below it, by their full names.
    fn all(command: &clap::Command, name: String, found: &mut Vec<(String, clap::Command)>) {
        for below in command.get_subcommands() {
            all(below, format!("{name} {}", below.get_name()), found);
        }
        found.push((name, command.clone()));
    }

    #[test]
    fn every_command_has_an_example_and_says_what_it_does() {
        let mut commands = Vec::new();
        all(&Cli::command(), "skiff".to_owned(), &mut commands);
        let lacks = |what: &str, has: &dyn Fn(&clap::Command) -> bool| {
            let names: Vec<&String> = commands.iter().filter(|(_, c)| !has(c)).map(|(name, _)| name).collect();
            assert!(names.is_empty(), "without {what}: {names:?}");
        };
        lacks("an example", &|c| c.get_after_help().is_some_and(|help| help.to_string().contains("Example")));
        lacks("a word on what it does", &|c| c.get_about().is_some());
        // An example begins with the command that it is of.
        for (name, command) in &commands {
            let help = command.get_after_help().unwrap().to_string();
            assert!(help.lines().any(|line| line.trim_start().contains(name.as_str())), "{name}: {help}");
            help.lines().flat_map(examples).for_each(|words| parses(&words));
        }
    }

    /// The commands of a line of examples, as words.
    fn examples(line: &str) -> Vec<Vec<String>> {
        let shown = line.split(" #").next().unwrap_or_default().split(['|', ';', '&', '<', '>']);
        let words =
            shown.map(|part| part.split_whitespace().map(|word| word.replace(['\'', '"'], "")).collect::<Vec<_>>());
        words.filter(|words| words.first().is_some_and(|word| word == "skiff")).collect()
    }

    /// Parses as a user's words are, down to the values: two arguments of one name and different types are found only then.
    fn parses(words: &[String]) {
        let matches = match Cli::command().try_get_matches_from(words) {
            Ok(matches) => matches,
            // Help and version are answers.
            Err(err) if !err.use_stderr() => return,
            Err(err) => panic!("{words:?}: {err}"),
        };
        if let Err(err) = Cli::from_arg_matches(&matches) {
            panic!("{words:?}: {err}");
        }
    }

    #[test]
    fn a_role_may_have_the_name_of_a_command() {
        assert!(Role::has_subcommand("pause") && Command::has_subcommand("pause"));
        assert!(!Role::has_subcommand("up") && !Role::has_subcommand("demo-server"));
        assert!(matches!(InImage::parse_from(["/skiff", "pause"]).role, Role::Pause(_)));
        assert!(matches!(Cli::parse_from(["skiff", "pause"]).command, Command::Pause(_)));
    }
}
