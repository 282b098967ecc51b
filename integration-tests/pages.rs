//! Pages for users, run as they would: each command of a page in its order, in a shell, with the project's folder as the directory.
//!
//! What is behind a command in the page is part of the promise: `# → text` means that its output holds the text (an asking
//! command, `kubectl get`, soon; any other at once), `# error: text` that it fails and says so. Any other comment is for people.

use crate::harness::{
    cluster::{Cluster, root},
    tools::{KUBECTL, SKIFF, output, run, text},
    wait::{SOON, eventually},
};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

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

/// The project's pages, with their paths.
fn pages() -> Vec<(PathBuf, String)> {
    let folders = ["", "docs", "manifests/openshift"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    pages.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The commands of skiff that a page names, in blocks and in its sentences, as words.
fn commands_of_skiff(page: &str) -> Vec<Vec<&str>> {
    let code = page.split("```").enumerate().flat_map(|(n, part)| {
        let is_block = n % 2 == 1;
        if is_block { part.lines().collect::<Vec<_>>() } else { part.split('`').skip(1).step_by(2).collect() }
    });
    let whole = code.flat_map(|code| code.split(['|', ';', '#', '&', '(', ')']));
    whole.filter_map(|code| code.trim().strip_prefix("skiff ")).map(|rest| rest.split_whitespace().collect()).collect()
}

#[test]
fn every_page_names_files_and_flags_that_there_are() {
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut help = |words: &[&str]| {
        let known = || text(&output(Command::new(SKIFF).args(words).arg("--help")).stdout);
        helps.entry(words.join(" ")).or_insert_with(known).clone()
    };
    let mut wrong = Vec::new();
    let mut n = 0;
    for (path, page) in pages() {
        let links = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let files =
            links.map(|link| link.split('#').next().unwrap()).filter(|link| !link.is_empty() && !link.contains(':'));
        let missing = files.filter(|link| !path.parent().unwrap().join(link).exists());
        wrong.extend(missing.map(|link| format!("{}: no {link}", path.display())));
        for words in commands_of_skiff(&page) {
            let is_name = |word: &&&str| {
                !word.starts_with('-') && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            };
            let names: Vec<&str> = words.iter().take(2).take_while(is_name).copied().collect();
            let known = (1..=names.len()).map(|n| help(&names[..n])).collect::<String>();
            if known.is_empty() {
                wrong.push(format!("{}: no skiff {}", path.display(), words.join(" ")));
            }
            let flags = words.iter().filter(|word| word.starts_with("--"));
            let names = flags.map(|flag| flag.split('=').next().unwrap().trim_end_matches(']'));
            let unknown: Vec<&str> = names.inspect(|_| n += 1).filter(|flag| !known.contains(flag)).collect();
            wrong.extend(
                unknown.iter().map(|flag| format!("{}: no {flag} of skiff {}", path.display(), words.join(" "))),
            );
        }
    }
    assert!(n > 20, "the reader of pages sees only {n} flags");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
