//! `skiff end-processes`: ends commands in containers that hang, and what they started.
//!
//! The node agent runs it in a container that shares the processes of the engine's host (see `node::overdue`). It prints `ready` and waits
//! to be removed.
//!
//! **Invariants**: it ends only processes whose control group names the container it was told, so a process ID that the kernel has given
//! to another since harms nobody.

use super::bind_paths::say;
use crate::{
    base::{json, ordered::Set},
    node::overdue::{Overdue, REQUEST},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, path::Path};

/// What can go wrong before the first is ended.
#[derive(Debug, thiserror::Error)]
enum EndError {
    #[error("{REQUEST} does not say what to end")]
    Request(#[source] serde_json::Error),
}

/// A process forks between two looks at most so often, or it is out to win.
const LOOKS: usize = 16;

/// Ends what the environment asks for, and waits to be removed.
pub fn run() -> anyhow::Result<()> {
    let text = std::env::var(REQUEST).unwrap_or_default();
    let all: Vec<Overdue> = json::read(text.as_bytes()).map_err(EndError::Request)?;
    let proc = Path::new("/proc");
    for Overdue { container, pid } in &all {
        let mut family = Set::from([*pid]);
        for _ in 0..LOOKS {
            let left = members(proc, container, &mut family);
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(end);
        }
    }
    say(Ok::<(), (usize, String)>(()))
}

fn end(pid: i64) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile.
        kill_process(pid, Signal::KILL).ok();
    }
}

/// A process, as `/proc` tells.
struct Process {
    pid: i64,
    parent: i64,
    session: i64,
    is_dead: bool,
}

/// The live processes of the container that are of the family: its first, their children, and whoever is in their sessions. The family
/// grows by them, because a child whose parent is ended has another.
fn members(proc: &Path, container: &str, family: &mut Set<i64>) -> Vec<i64> {
    let all: Vec<Process> = processes(proc);
    let is_of = |family: &Set<i64>, p: &Process| {
        [p.pid, p.parent, p.session].iter().any(|id| family.contains(id)) && is_in(proc, p.pid, container)
    };
    loop {
        let found: Vec<i64> = all.iter().filter(|p| is_of(family, p)).map(|p| p.pid).collect();
        let before = family.len();
        family.extend(found.iter().copied());
        if family.len() == before {
            let is_alive = |pid: &i64| all.iter().any(|p| p.pid == *pid && !p.is_dead);
            return found.into_iter().filter(is_alive).collect();
        }
    }
}

fn processes(proc: &Path) -> Vec<Process> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| process(&fs::read_to_string(entry.path().join("stat")).ok()?)).collect()
}

/// Source: proc(5), `/proc/PID/stat`: ID, (name), state, parent, process group, session.
fn process(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let mut fields = rest.rsplit_once(") ")?.1.split(' ');
    let is_dead = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid: pid.parse().ok()?, parent, session, is_dead })
}

fn is_in(proc: &Path, pid: i64, container: &str) -> bool {
    let groups = fs::read_to_string(proc.join(pid.to_string()).join("cgroup")).unwrap_or_default();
    !container.is_empty() && groups.contains(container)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: &str = "7207c2440a22e6c3";
    const OTHER: &str = "aff47725f6052f99";

    /// A `/proc` with these processes: ID, parent, session, container.
    fn proc(all: &[(i64, i64, i64, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (pid, parent, session, container) in all {
            let place = dir.path().join(pid.to_string());
            fs::create_dir(&place).unwrap();
            fs::write(place.join("stat"), format!("{pid} (a) (b) S {parent} 1 {session} 0 -1")).unwrap();
            fs::write(place.join("cgroup"), format!("0::/system.slice/docker-{container}.scope\n")).unwrap();
        }
        dir
    }

    #[test]
    fn a_command_is_ended_with_its_children_and_nobody_else_is() {
        let dir = proc(&[
            (1, 0, 1, MINE),
            (10, 5, 10, MINE),
            (11, 10, 10, MINE),
            (12, 11, 12, MINE),
            (13, 1, 10, MINE),
            (20, 10, 10, OTHER),
            (30, 1, 30, MINE),
        ]);
        let mut family = Set::from([10]);
        assert_eq!(members(dir.path(), MINE, &mut family).into_iter().collect::<Set<_>>(), [10, 11, 12, 13].into());
        assert!(members(dir.path(), OTHER, &mut Set::from([30])).is_empty(), "the ID is another's by now");
    }

    #[test]
    fn who_lost_its_parent_is_still_of_the_family() {
        let mut family = Set::from([10]);
        members(proc(&[(10, 5, 10, MINE), (12, 10, 12, MINE)]).path(), MINE, &mut family);
        let left = members(proc(&[(12, 1, 12, MINE), (14, 12, 14, MINE)]).path(), MINE, &mut family);
        assert_eq!(Set::from_iter(left), [12, 14].into());
    }
}
