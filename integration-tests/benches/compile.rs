//! How long a change waits for the compiler, and a newcomer: `cargo bench --bench compile [edit|tests|release]`.
//!
//! All in a copy of what git has here, so that nothing that was compiled before helps. The floor of an edit is a build where nothing
//! changed, in the same run.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

#[path = "../harness/stats.rs"]
#[allow(dead_code, reason = "other benchmarks need more of it")]
mod stats;

use anyhow::Context as _;
use stats::{median, row};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// From one line in a room to a program that has it.
const EDIT_SECS_MAX: f64 = 8.0;
/// All tests, from nothing.
const TESTS_SECS_MAX: f64 = 480.0;
/// The program of the README's first command, from nothing.
const RELEASE_SECS_MAX: f64 = 240.0;
/// Edits of each room.
const EDITS: usize = 3;

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    let dir = tempfile::tempdir()?;
    let house = House::copied(dir.path())?;
    if wants("edit") {
        bench_edits(&house)?;
    }
    if wants("tests") {
        let took = house.cargo("tests", &["test", "--no-run"])?;
        row("all tests, compiled from nothing", took, "s", TESTS_SECS_MAX, took <= TESTS_SECS_MAX);
    }
    if wants("release") {
        let took = house.cargo("release", &["build", "--release"])?;
        row("the release, compiled from nothing", took, "s", RELEASE_SECS_MAX, took <= RELEASE_SECS_MAX);
    }
    Ok(())
}

/// A copy of the sources, which compiles in folders of its own.
struct House {
    sources: PathBuf,
    targets: PathBuf,
}

impl House {
    fn copied(dir: &Path) -> anyhow::Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let listed =
            Command::new("git").args(["ls-files", "-z"]).current_dir(here).output().context("git lists the files")?;
        let names = String::from_utf8(listed.stdout)?;
        let sources = dir.join("sources");
        for name in names.split_terminator('\0') {
            let to = sources.join(name);
            fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
            fs::copy(here.join(name), &to).with_context(|| format!("{name} is copied"))?;
        }
        Ok(Self { sources, targets: dir.to_owned() })
    }

    /// Runs cargo, and returns the seconds that it took.
    fn cargo(&self, target: &str, args: &[&str]) -> anyhow::Result<f64> {
        let mut cargo = Command::new("cargo");
        cargo.args(args).arg("--quiet").current_dir(&self.sources).env("CARGO_TARGET_DIR", self.targets.join(target));
        let begun = Instant::now();
        let status = cargo.status()?;
        anyhow::ensure!(status.success(), "cargo {args:?} failed");
        Ok(begun.elapsed().as_secs_f64())
    }

    /// What a person runs after a change.
    fn build(&self) -> anyhow::Result<f64> {
        self.cargo("edit", &["build"])
    }

    /// The rooms that are crates, and one of the program's own.
    fn rooms(&self) -> anyhow::Result<Vec<String>> {
        let mut rooms = vec!["cli".to_owned()];
        for entry in fs::read_dir(self.sources.join("src"))? {
            let entry = entry?;
            if entry.path().join("crate.rs").exists() {
                rooms.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        rooms.sort_unstable();
        Ok(rooms)
    }

    /// Adds a line of code to a room, one that others could call.
    fn edit(&self, room: &str, n: usize) -> anyhow::Result<()> {
        let mut file = fs::OpenOptions::new().append(true).open(self.sources.join("src").join(room).join("mod.rs"))?;
        writeln!(file, "/// Edited.\npub fn edited_{n}() -> usize {{ {n} }}")?;
        Ok(())
    }
}

fn bench_edits(house: &House) -> anyhow::Result<()> {
    let first = house.build()?;
    row("`cargo build` from nothing", first, "s", TESTS_SECS_MAX, first <= TESTS_SECS_MAX);
    let nothing = house.build()?;
    row("`cargo build` after no edit", nothing, "s", EDIT_SECS_MAX, nothing <= EDIT_SECS_MAX);
    for room in house.rooms()? {
        let mut times = Vec::new();
        for n in 0..EDITS {
            house.edit(&room, n)?;
            times.push(house.build()?);
        }
        let took = median(&mut times);
        row(&format!("`cargo build` after an edit in {room}"), took, "s", EDIT_SECS_MAX, took <= EDIT_SECS_MAX);
    }
    Ok(())
}
