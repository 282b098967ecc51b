//! The house rules that a compiler does not check: which room may use which, where libraries stay behind their border, and that each
//! file says what it is.
//!
//! The rules are those of `ARCHITECTURE.md`. Between crates Cargo holds who may use whom; a room that needs a new edge within its crate
//! gets it here, in a diff that a reviewer sees.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Which rooms a room may use, beside itself, where its crate could use more: those of its own crate, and those that the crate has for
/// others in it. Every other edge is a line in a room's `Cargo.toml` and one in its `crate.rs`.
const MAY_USE: [(&str, &[&str]); 7] = [
    // An entry is stored with its labels and selectable fields, whose words are the API's.
    ("store", &["api", "base"]),
    ("registry", &["api", "base", "store"]),
    ("identity", &["api", "base", "registry", "store"]),
    // A kubeconfig is YAML.
    ("client", &["api", "base"]),
    ("roles", &["api", "base", "client", "net", "node"]),
    ("app", &["api", "base", "controllers", "engine", "identity", "net", "node", "registry", "server", "store"]),
    ("cli", &["api", "app", "base", "client", "engine", "net", "node", "roles", "server"]),
];

/// The crates of rooms. Only their roots name them: rooms name rooms, and what a crate's root imports is what its rooms may use.
const CRATES: [&str; 8] = [
    "skiff_api",
    "skiff_base",
    "skiff_controllers",
    "skiff_engine",
    "skiff_net",
    "skiff_node",
    "skiff_registry",
    "skiff_server",
];

/// Libraries that stay behind a border: the crate, and where it may be named.
const BORDERS: [(&str, &[&str]); 7] = [
    ("bollard", &["src/engine/docker"]),
    ("redb", &["src/store/disk"]),
    ("rcgen", &["src/server/tls"]),
    ("x509_parser", &["src/server"]),
    ("clap", &["src/cli", "src/roles"]),
    (
        "hyper",
        &[
            "src/client",
            "src/engine/docker/hijack",
            "src/net/router",
            "src/node/forward",
            "src/node/net_probe",
            "src/roles",
            "src/server",
        ],
    ),
    ("granit_parser", &["src/api/schema/yaml"]),
];

struct Source {
    /// From the top of the repository, e.g. `src/net/dns.rs`.
    path: String,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split(['/', '.']).next().unwrap_or_default()
    }

    /// The lines that ship, without comments. Tests may look anywhere.
    fn code(&self) -> impl Iterator<Item = &str> {
        let tests = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        let is_test = self.path.contains("/tests") || self.path.contains("/testing");
        let shipped = if is_test { "" } else { &self.text[..tests] };
        shipped.lines().filter(|line| !line.trim_start().starts_with("//"))
    }

    /// The rooms that it names: `crate::ROOM`, alone or at the first level of a `use crate::{…}`.
    fn rooms_used(&self) -> Vec<&str> {
        let mut used = Vec::new();
        let mut is_in_list = false;
        for line in self.code() {
            is_in_list = (is_in_list && line != "};") || line == "use crate::{";
            let listed = line.strip_prefix("    ").filter(|rest| is_in_list && !rest.starts_with(' '));
            let named = line.split("crate::").skip(1).chain(listed);
            used.extend(named.filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()));
        }
        used
    }

    fn names_crate(&self, name: &str) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let path = format!("{name}::");
        self.code().any(|line| line.match_indices(&path).any(|(at, _)| !line[..at].ends_with(is_word)))
    }
}

fn sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![top.join("src")];
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(top).unwrap().display().to_string(), text });
            }
        }
    }
    found
}

#[test]
fn rooms_use_only_what_lies_below_them() {
    let sources = sources();
    let mut wrong = Vec::new();
    let rooms: BTreeSet<&str> = sources.iter().map(Source::room).collect();
    let mut edges = 0;
    for (room, may_use) in MAY_USE {
        for source in sources.iter().filter(|s| s.room() == room) {
            let others: Vec<&str> = source.rooms_used().into_iter().filter(|used| *used != room).collect();
            edges += others.len();
            let is_room = |used: &&str| rooms.contains(used);
            let forbidden = others.into_iter().filter(is_room).filter(|used| !may_use.contains(used));
            wrong.extend(forbidden.map(|used| format!("{} uses {used}", source.path)));
        }
    }
    assert!(edges > 200, "the reader of sources sees only {edges} edges");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_log_knows_the_crate_of_each_room() {
    let sources = sources();
    for name in CRATES {
        let root = format!("src/{}/crate.rs", name.trim_start_matches("skiff_"));
        let lines = sources.iter().filter(|source| source.path == root).flat_map(|source| source.text.lines());
        for room in lines.filter_map(room_of).filter(|room| *room != "testing") {
            let told = crate::base::log::directives(Some(&format!("skiff::{room}=debug")));
            assert!(told.starts_with(&format!("{name}::{room}=debug,")), "{told}: {room} is compiled in {name}");
        }
    }
}

/// The room that a line of a crate's root begins.
fn room_of(line: &str) -> Option<&str> {
    line.strip_prefix("pub mod ")?.strip_suffix(';')
}

#[test]
fn rooms_name_rooms_and_their_crates_roots_name_crates() {
    let sources = sources();
    let is_root = |s: &&Source| s.path == "src/lib.rs" || s.path.ends_with("/crate.rs");
    let (roots, others): (Vec<&Source>, Vec<&Source>) = sources.iter().partition(is_root);
    for name in CRATES {
        assert!(roots.iter().any(|source| source.names_crate(name)), "no root names {name}: take its line out");
    }
    let names = |s: &Source| CRATES.into_iter().find(|name| s.names_crate(name));
    let wrong: Vec<String> = others.iter().filter_map(|s| Some(format!("{} names {}", s.path, names(s)?))).collect();
    assert!(wrong.is_empty(), "say crate::ROOM: {wrong:?}");
}

#[test]
fn every_crate_is_in_each_list_of_the_workspace() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path: &str| fs::read_to_string(top.join(path)).unwrap();
    let (workspace, config) = (text("Cargo.toml"), text(".cargo/config.toml"));
    let rooms: BTreeSet<String> = sources().iter().map(|source| source.room().to_owned()).collect();
    let with_crate = rooms.iter().filter(|room| top.join("src").join(room).join("Cargo.toml").exists());
    let names: Vec<String> = with_crate.map(|room| format!("skiff_{room}")).collect();
    assert_eq!(names, CRATES);
    for name in CRATES {
        let (package, room) = (name.replace('_', "-"), name.trim_start_matches("skiff_"));
        assert_eq!(workspace.matches(&format!("    \"src/{room}\",\n")).count(), 2, "members, default members: {room}");
        for line in [
            format!("\n{package} = {{ opt-level = 0 }}\n"),
            format!("\n{package} = {{ overflow-checks = true, codegen-units = 1"),
        ] {
            assert!(workspace.contains(&line), "the profiles lack{line}");
        }
        assert!(config.contains(&format!("profile.dev.package.{package}.opt-level=1")), "`cargo sim` lacks {package}");
    }
}

#[test]
fn libraries_stay_behind_their_borders() {
    let sources = sources();
    for (library, homes) in BORDERS {
        let users: Vec<&str> = sources.iter().filter(|s| s.names_crate(library)).map(|s| s.path.as_str()).collect();
        assert!(!users.is_empty(), "nobody uses {library}: take its line out");
        let strays: Vec<&&str> = users.iter().filter(|path| !homes.iter().any(|home| path.starts_with(home))).collect();
        assert!(strays.is_empty(), "{library} is named outside of {homes:?}: {strays:?}");
    }
}

#[test]
fn every_file_says_what_it_is() {
    let is_silent = |s: &&Source| !s.text.starts_with("//!") && s.path != "src/lib.rs";
    let silent: Vec<String> = sources().iter().filter(is_silent).map(|s| s.path.clone()).collect();
    assert!(silent.is_empty(), "no header: {silent:?}");
}

/// Whether a file is of the program, and not the one that has the house's lists, maps and sets.
fn ships(source: &Source) -> bool {
    const TESTS: [&str; 6] =
        ["src/engine/contract", "src/engine/fake", "src/sim", "src/store/contract", "src/store/model", "src/tidy"];
    source.path != "src/base/ordered.rs" && !TESTS.iter().any(|path| source.path.starts_with(path))
}

/// Where ordered maps hold many thousands that come and go one by one.
const WIDE: [&str; 5] =
    ["src/controllers/runtime/queue", "src/net/proxy/udp", "src/net/zone", "src/server/verbs/past", "src/store/state"];

#[test]
fn maps_and_sets_are_sorted_lists() {
    // The maps of Kubernetes' types and of JSON, whose code is there anyway.
    const THERE: [&str; 5] =
        ["String, String>", "String, Text>", "String, ByteString>", "String, Time>", "String, Value>"];
    let is_other = |rest: &str| rest.starts_with('<') && !THERE.iter().any(|pair| rest[1..].starts_with(pair));
    let is_wrong = |line: &&str| line.contains("BTreeSet") || line.split("BTreeMap").skip(1).any(is_other);
    let sources = sources();
    let found: Vec<String> = sources
        .iter()
        .filter(|source| ships(source) && !WIDE.iter().any(|path| source.path.starts_with(path)))
        .flat_map(|source| source.code().filter(is_wrong).map(|line| format!("{}: {}", source.path, line.trim())))
        .collect();
    let what_to_do = "use base::ordered::Map and Set, or add a file to WIDE whose map holds thousands";
    assert!(found.is_empty(), "{what_to_do}:\n{}", found.join("\n"));
    for path in WIDE {
        let is_used = |s: &&Source| s.path.starts_with(path) && s.code().any(|line| line.contains("BTree"));
        assert!(sources.iter().any(|source| is_used(&source)), "{path} has no such map: take its line out");
    }
}

#[test]
fn what_is_compiled_for_each_type_is_little_code() {
    // Of the standard library's: a copy of kilobytes for each type and order. Of a reader of text: one more of every type that is read.
    const COPIED: [(&str, &str); 7] = [
        (".sort()", "base::ordered"),
        (".sort_by(", "base::ordered"),
        (".sort_by_key(", "base::ordered"),
        (".sort_unstable", "base::ordered"),
        ("collect::<BTreeMap", "base::ordered"),
        ("serde_json::from_str", "serde_json::from_slice"),
        ("serde_json::from_value", "base::json"),
    ];
    let sources = sources();
    let instead = |line: &str| COPIED.iter().find(|(call, _)| line.contains(call)).map(|(_, instead)| *instead);
    let told = |path: &str, line: &str| instead(line).map(|instead| format!("{path}: {}: use {instead}", line.trim()));
    let found: Vec<String> = sources
        .iter()
        .filter(|source| ships(source))
        .flat_map(|source| source.code().filter_map(|line| told(&source.path, line)))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
