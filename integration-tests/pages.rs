//! Pages for users, run as they would: each command of a page in its order, in a shell, with the project's folder as the directory.
//!
//! What is behind a command in the page is part of the promise: `# → text` means that its output holds the text (an asking
//! command, `kubectl get`, soon; any other at once), `# error: text` that it fails and says so. Any other comment is for people.

use crate::harness::{
    cluster::{Cluster, root},
    tools::{KUBECTL, SKIFF, output, run, text},
    wait::eventually,
};
use std::{env, fs, path::Path, process::Command, time::Duration};

const SOON: Duration = Duration::from_secs(60);

/// A command of a page, and what the page says of it.
struct Step<'a> {
    command: &'a str,
    says: Promise<'a>,
}

enum Promise<'a> {
    Works,
    Prints(&'a str),
    Fails(&'a str),
}

/// The lines of all blocks that have no language, as it is with commands.
fn steps(page: &str) -> Vec<Step<'_>> {
    let blocks = page.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix('\n'));
    let lines = blocks.flat_map(str::lines).filter(|line| !line.is_empty());
    lines.map(step).collect()
}

fn step(line: &str) -> Step<'_> {
    let (command, comment) = line.split_once(" # ").unwrap_or((line, ""));
    let says = match (comment.strip_prefix("→ "), comment.strip_prefix("error: ")) {
        (Some(part), _) => Promise::Prints(part.trim()),
        (_, Some(part)) => Promise::Fails(part.trim()),
        _ => Promise::Works,
    };
    Step { command: command.trim(), says }
}

/// A command as the page has it, in a shell that finds `skiff` and `kubectl`.
fn shell(cluster: &Cluster, command: &str) -> Command {
    let folder = |program: &Path| program.parent().unwrap().display().to_string();
    let path = [folder(Path::new(SKIFF)), folder(&KUBECTL), env::var("PATH").unwrap_or_default()].join(":");
    let skiff = cluster.skiff(&[]);
    let known = skiff.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let mut shell = Command::new("bash");
    shell.envs(known).env("PATH", path).args(["-euo", "pipefail", "-c", command]).current_dir(root());
    shell
}

fn try_step(cluster: &Cluster, step: &Step<'_>) {
    let Step { command, says } = step;
    let once = || {
        let out = output(&mut shell(cluster, command));
        let said = text(&out.stdout) + &text(&out.stderr);
        let holds = match says {
            Promise::Works => out.status.success(),
            Promise::Prints(part) => out.status.success() && said.contains(part),
            Promise::Fails(part) => !out.status.success() && said.contains(part),
        };
        if holds { Ok(()) } else { Err(format!("{}: {said}", out.status)) }
    };
    if command.starts_with("kubectl get") {
        eventually(command, SOON, once);
    } else if let Err(said) = once() {
        panic!("$ {command}\n{said}");
    }
}

#[test]
fn the_page_that_compares_deployments_and_deployment_configs_is_true() {
    let page = fs::read_to_string(root().join("manifests/openshift/README.md")).unwrap();
    // It tags the image that other tests follow.
    let cluster = Cluster::start_alone("page", &[]);
    run(&mut cluster.skiff(&["demo", "load"]));
    let steps = steps(&page);
    assert!(steps.len() > 20, "the page has commands");
    for step in &steps {
        try_step(&cluster, step);
    }
}
