//! Level 6: the command line. One file per command: its arguments and what it does. Talks to the API over HTTP like any client.
//!
//! To add a command: 1. its file here; 2. its `mod` line; 3. its line in [`Command`]; 4. its arm in [`run`]; 5. a test of what it prints.

mod apply;
mod cluster;
mod completion;
mod convert;
mod demo;
mod doctor;
mod down;
mod kubeconfig;
mod open;
mod output;
mod process;
mod rollout;
mod snapshot;
mod status;
mod tag;
mod timeline;
mod up;
mod version;

use crate::roles;
use clap::{Parser, Subcommand};
use std::{path::Path, process::ExitCode};

/// A local Kubernetes on the Docker engine you already have.
#[derive(Debug, Parser)]
#[command(name = "skiff", version, about, disable_help_subcommand = true)]
struct Cli {
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
    /// Open the dashboard in the browser
    Open(open::Args),
    /// Check this machine, and with --fix install and start what is missing
    Doctor(doctor::Args),
    /// Print the cluster's kubeconfig, or merge it into yours
    Kubeconfig(kubeconfig_command::Args),
    /// Keep the cluster's state in a file, and begin again from one
    Snapshot(snapshot::Args),
    /// Start, end, repeat and undo rollouts of DeploymentConfigs
    Rollout(rollout::Args),
    /// Tell how the containers of a pod ended and came back, to the millisecond
    Timeline(timeline::Args),
    /// Give an image a tag of an image stream
    Tag(tag::Args),
    /// Make the objects of an OpenShift Template
    Process(process::Args),
    /// Make Deployments of DeploymentConfigs, and say what a Deployment does not do
    Convert(convert::Args),
    /// Work with the demo images
    Demo(demo::Args),
    /// Print what a shell needs to complete commands
    Completion(completion::Args),
    /// Print the version
    Version,
    /// The data plane (run by skiff, in a container)
    #[command(hide = true)]
    Proxy,
    /// The sandbox's program (run by skiff, in a container)
    #[command(hide = true)]
    Pause(roles::pause::Args),
    /// Binds parts of volumes for the engine (run by skiff, in a container)
    #[command(hide = true)]
    BindPaths,
    /// Looks at paths of the engine's host (run by skiff, in a container)
    #[command(hide = true)]
    HostPaths,
    /// Does one rollout of a DeploymentConfig (run by skiff, in a container)
    #[command(hide = true)]
    Deployer(roles::deployer::Args),
    /// Makes connections to the ports of a pod's localhost (run by skiff, in a container)
    #[command(hide = true)]
    Forward,
    /// Ends commands of probes and hooks that hang (run by skiff, in a container)
    #[command(hide = true)]
    EndProcesses,
    /// A small web server for demos and tests
    DemoServer(roles::demo_server::Args),
}

#[path = "kubeconfig_command.rs"]
mod kubeconfig_command;

/// Parses the arguments and does what they say.
pub fn main() -> ExitCode {
    if called_as(roles::shell::PROGRAM) {
        return roles::shell::run(std::env::args().skip(1));
    }
    match run(command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            output::error(&err);
            ExitCode::FAILURE
        }
    }
}

/// What the arguments say; or the name, in skiff's image.
fn command() -> Command {
    if called_as(roles::deployer::PROGRAM) {
        return Command::Deployer(roles::deployer::Args::parse());
    }
    Cli::parse().command
}

/// Whether the program was called by one of the names that it has in skiff's image.
fn called_as(program: &str) -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name().is_some_and(|name| name == program)
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => up::run(args),
        Command::Down(args) => down::run(args),
        Command::Status(args) => status::run(&args),
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
        Command::Proxy => roles::proxy::run(),
        Command::Pause(args) => roles::pause::run(&args),
        Command::BindPaths => roles::bind_paths::run(),
        Command::HostPaths => roles::host_paths::run(),
        Command::Deployer(args) => roles::deployer::run(args),
        Command::Forward => roles::forward::run(),
        Command::EndProcesses => roles::end_processes::run(),
        Command::DemoServer(args) => roles::demo_server::run(args),
    }
}
