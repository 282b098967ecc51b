//! What `skiff doctor` looks at beside the engine's answers: the machine's groups of processes, disk, clock and firewall. Each finding is
//! made by a pure function of what was read.

use super::Finding;
use crate::engine::EngineInfo;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

/// Where the engine keeps images and containers when nobody says otherwise.
const ENGINE_FOLDER: &str = "/var/lib/docker";
/// Less room than this on the engine's disk stops what runs, or soon will.
const ROOM_NEEDED: u64 = 1 << 30;
const ROOM_WANTED: u64 = 5 << 30;
/// How far in the future a file may be written before the clock is wrong.
const CLOCK_SLACK: Duration = Duration::from_secs(60);
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Whether the engine has rights that the data plane needs.
pub(super) fn rootless(info: &EngineInfo) -> Option<Finding> {
    info.rootless.then(|| {
        Finding::Note(
            "Docker runs rootless: its host network is not this machine's, so node ports, load balancers and ClusterIPs may not be reached \
             from here. `kubectl port-forward` is; for the rest use Docker with root"
                .into(),
        )
    })
}

/// Which groups of processes the machine has, and who keeps them.
pub(super) fn cgroups(info: &EngineInfo) -> Finding {
    cgroups_of(&info.cgroup_driver, Path::new("/sys/fs/cgroup/cgroup.controllers").exists())
}

fn cgroups_of(driver: &str, is_unified: bool) -> Finding {
    let version = if is_unified { "v2" } else { "v1" };
    match driver {
        "" | "none" => Finding::Note(
            "Docker has no groups of processes (cgroup driver none): limits of CPU and memory are not kept, and `kubectl top` shows nothing"
                .into(),
        ),
        driver => Finding::Fine(format!("cgroups are {version}, kept by {driver}")),
    }
}

/// Whether there is room for images and containers.
pub(super) fn disk() -> Option<Finding> {
    let stat = rustix::fs::statvfs(ENGINE_FOLDER).ok()?;
    Some(disk_of(stat.f_bavail * stat.f_frsize))
}

fn disk_of(free: u64) -> Finding {
    let shown = format!("{:.1} GiB are free in {ENGINE_FOLDER}", bytes_as_gib(free));
    let remedy = "`docker system df` shows what takes it, `docker image prune` removes images that nothing uses";
    match free {
        free if free < ROOM_NEEDED => Finding::Wrong(format!("only {shown}: {remedy}")),
        free if free < ROOM_WANTED => Finding::Note(format!("only {shown}: {remedy}")),
        _ => Finding::Fine(shown),
    }
}

#[allow(clippy::cast_precision_loss, reason = "one digit is shown")]
fn bytes_as_gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Whether the clock is behind what was written by it: then certificates are of the future, and nobody trusts them.
pub(super) fn clock(files: &[&Path], now: SystemTime) -> Finding {
    let written = |path: &&Path| Some((fs::metadata(path).ok()?.modified().ok()?, path.display().to_string()));
    let newest = files.iter().filter_map(written).max();
    let ahead = newest.and_then(|(at, path)| Some((at.duration_since(now).ok()?, path)));
    match ahead.filter(|(ahead, _)| *ahead > CLOCK_SLACK) {
        Some((ahead, path)) => Finding::Wrong(format!(
            "the clock is behind: {path} was written {} s from now. Set it (`timedatectl set-ntp true`), or certificates are not valid yet",
            ahead.as_secs()
        )),
        None => Finding::Fine("the clock is not behind what it has stamped".into()),
    }
}

/// Whether the kernel passes on what pods send to the outside.
pub(super) fn forwarding() -> Option<Finding> {
    let text = fs::read_to_string(FORWARDING).ok()?;
    (text.trim() == "0").then(|| {
        Finding::Wrong(
            "the kernel forwards nothing (net.ipv4.ip_forward is 0): pods reach nothing outside. `sysctl -w net.ipv4.ip_forward=1` as root, \
             or `skiff doctor --fix`"
                .into(),
        )
    })
}

/// Lets the kernel forward, when it does not: Docker does the same at its start. Says whether it had to.
pub(super) fn fix_forwarding() -> std::io::Result<bool> {
    if fs::read_to_string(FORWARDING)?.trim() != "0" {
        return Ok(false);
    }
    fs::write(FORWARDING, "1").map(|()| true)
}

/// What firewalls do to what pods send, as far as this user may see it.
pub(super) fn firewalls() -> Vec<Finding> {
    let is_active = |name: &str| run("systemctl", &["is-active", name]).is_some_and(|text| text.trim() == "active");
    let mut found = Vec::new();
    if is_active("ufw") {
        found.push(of_service("ufw", "ufw allow in on skiff"));
    }
    if is_active("firewalld") {
        found.push(of_service("firewalld", "firewall-cmd --zone=trusted --add-interface=skiff"));
    }
    if let Some(rules) = run("iptables", &["-S"]) {
        found.extend(iptables(&rules));
    }
    if let Some(rules) = run("nft", &["list", "chains"]) {
        found.extend(nftables(&rules));
    }
    if found.is_empty() {
        found.push(Finding::Fine("no host firewall is in the way".into()));
    }
    found
}

fn of_service(name: &str, remedy: &str) -> Finding {
    Finding::Note(format!(
        "{name} is active and may drop what pods send to the host's own address, as to node ports: `{remedy}`"
    ))
}

/// What a program prints; `None`: it is not there, or may not.
fn run(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    (out.status.success() || program == "systemctl").then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// What iptables' rules do to bridges. Docker makes FORWARD drop, and jumps from there to chains of its own, which accept.
fn iptables(rules: &str) -> Vec<Finding> {
    let has = |line: &str| rules.lines().any(|rule| rule == line);
    let any = |begin: &str, parts: &[&str]| {
        rules.lines().any(|rule| rule.starts_with(begin) && parts.iter().all(|part| rule.contains(part)))
    };
    let mut found = Vec::new();
    if has("-P FORWARD DROP") && !any("-A FORWARD", &["-j DOCKER"]) && !any("-A FORWARD", &["-i skiff", "-j ACCEPT"]) {
        found.push(Finding::Wrong(
            "iptables drops what is forwarded, and Docker's own rules are gone: pods reach neither each other nor the outside. Restart Docker, \
             which makes them again"
                .into(),
        ));
    }
    if has("-P INPUT DROP") && !any("-A INPUT", &["-i skiff", "-j ACCEPT"]) {
        found.push(Finding::Note(
            "iptables drops what pods send to the host's own address, as to node ports: `iptables -I INPUT -i skiff -j ACCEPT`".into(),
        ));
    }
    if rules.lines().any(|rule| matches!(rule, "-A DOCKER-USER -j DROP" | "-A DOCKER-USER -j REJECT")) {
        found.push(Finding::Note(
            "a rule in DOCKER-USER drops whatever containers send: `iptables -I DOCKER-USER -i skiff -j RETURN` excepts pods".into(),
        ));
    }
    found
}

/// Chains of nftables, but for those that iptables writes, that drop what no rule of theirs accepts.
fn nftables(chains: &str) -> Vec<Finding> {
    let mut table = String::new();
    let mut found = Vec::new();
    for line in chains.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            name.trim_end_matches(" {").clone_into(&mut table);
        }
        let hook = ["input", "forward"].into_iter().find(|hook| line.contains(&format!("hook {hook} ")));
        let is_iptables = matches!(&*table, "ip filter" | "ip6 filter");
        if let Some(hook) = hook.filter(|_| line.contains("policy drop") && !is_iptables) {
            found.push(Finding::Note(format!(
                "the nftables table {table:?} drops what its {hook} rules do not accept, which may be what pods send: accept `iifname \"skiff\"` there"
            )));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(finding: &Finding) -> &str {
        match finding {
            Finding::Fine(_) => "fine",
            Finding::Note(_) => "note",
            Finding::Wrong(_) => "wrong",
        }
    }

    #[test]
    fn room_and_groups_of_processes() {
        assert_eq!(
            [0, ROOM_NEEDED, ROOM_WANTED].map(|free| told(&disk_of(free)).to_owned()),
            ["wrong", "note", "fine"]
        );
        assert_eq!([told(&cgroups_of("systemd", true)), told(&cgroups_of("none", true))], ["fine", "note"]);
        assert!(
            matches!(cgroups_of("cgroupfs", false), Finding::Fine(text) if text == "cgroups are v1, kept by cgroupfs")
        );
        assert!(rootless(&EngineInfo::default()).is_none());
        assert!(rootless(&EngineInfo { rootless: true, ..EngineInfo::default() }).is_some());
    }

    #[test]
    fn a_clock_that_is_behind_its_own_stamps_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        fs::write(&path, "").unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(told(&clock(&[&path], written)), "fine");
        assert_eq!(told(&clock(&[&path], written - Duration::from_secs(3600))), "wrong");
        assert_eq!(told(&clock(&[Path::new("/nothing")], written)), "fine");
    }

    const DOCKERS: &str = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N DOCKER\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\n";

    #[test]
    fn rules_that_drop_what_bridges_carry_are_told() {
        let said = |rules: &str| iptables(rules).iter().map(told).collect::<Vec<_>>().join(" ");
        assert_eq!(said(DOCKERS), "");
        assert_eq!(said("-P INPUT ACCEPT\n-P FORWARD DROP\n"), "wrong");
        assert_eq!(said(&DOCKERS.replace("INPUT ACCEPT", "INPUT DROP")), "note");
        assert_eq!(said(&(DOCKERS.replace("INPUT ACCEPT", "INPUT DROP") + "-A INPUT -i skiff -j ACCEPT\n")), "");
        assert_eq!(said(&(DOCKERS.to_owned() + "-A DOCKER-USER -j DROP\n")), "note");
        assert_eq!(
            said(&(DOCKERS.to_owned() + "-A DOCKER-USER -s 10.0.0.0/8 -j DROP\n")),
            "",
            "not whatever they send"
        );
    }

    #[test]
    fn tables_that_others_write_are_told() {
        let chain = "chain x {\n type filter hook forward priority filter; policy drop;\n }\n}\n";
        let said = |table: &str| nftables(&format!("table {table} {{\n{chain}")).len();
        assert_eq!((said("inet mine"), said("ip filter")), (1, 0));
        assert_eq!(
            nftables("table inet mine {\nchain x {\ntype filter hook input priority 0; policy accept;\n}\n}\n").len(),
            0
        );
    }
}
