//! Which engine to talk to, and what to tell a user when it does not answer.
//!
//! Order: `DOCKER_HOST`, the current `docker context`, then the usual sockets: Docker's, rootless Docker's, Docker Desktop's, Podman's.

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error, models};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{
    error::Error as _,
    fmt::{self, Write as _},
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::timeout;

/// The oldest API that skiff speaks: Docker Engine 20.10.
const OLDEST_API: (u32, u32) = (1, 41);

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A unix socket.
    Unix(String),
    /// An address, without TLS.
    Tcp(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Endpoint {
    fn parse(host: &str) -> Result<Self, String> {
        if let Some(path) = host.strip_prefix("unix://") {
            return Ok(Self::Unix(path.into()));
        }
        if let Some(address) = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://")) {
            return Ok(Self::Tcp(address.trim_end_matches('/').into()));
        }
        Err(unusable(host))
    }

    fn client(&self) -> Result<Docker, Error> {
        match self {
            Self::Unix(path) => Docker::connect_with_unix(path, super::CLIENT_BOUND_SECS, API_DEFAULT_VERSION),
            Self::Tcp(address) => Docker::connect_with_http(address, super::CLIENT_BOUND_SECS, API_DEFAULT_VERSION),
        }
    }
}

fn unusable(host: &str) -> String {
    format!(
        "skiff cannot use the Docker host {host}: it speaks to unix:// sockets and to tcp:// without TLS. \
         For another machine, forward its socket: `ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST &`, \
         then set DOCKER_HOST=unix:///tmp/docker.sock"
    )
}

/// What the search looks at, as values, so that it can be tested.
struct Surroundings<'a> {
    var: &'a dyn Fn(&str) -> Option<String>,
    read: &'a dyn Fn(&Path) -> Option<String>,
}

/// The endpoints to try, in order. One that the user named stands alone.
fn candidates(around: &Surroundings<'_>) -> Result<Vec<Endpoint>, String> {
    let var = |name: &str| (around.var)(name).filter(|value| !value.is_empty());
    if let Some(host) = var("DOCKER_HOST") {
        if var("DOCKER_TLS_VERIFY").is_some() && !host.starts_with("unix://") {
            return Err(unusable(&format!("{host} with TLS (DOCKER_TLS_VERIFY)")));
        }
        return Ok(vec![Endpoint::parse(&host)?]);
    }
    if let Some(host) = context_host(around, &var) {
        return Ok(vec![Endpoint::parse(&host)?]);
    }
    let mut paths = vec!["/var/run/docker.sock".to_owned()];
    let runtime = var("XDG_RUNTIME_DIR");
    paths.extend(runtime.iter().map(|dir| format!("{dir}/docker.sock")));
    for place in [".docker/run/docker.sock", ".docker/desktop/docker.sock"] {
        paths.extend(var("HOME").map(|home| format!("{home}/{place}")));
    }
    paths.extend(runtime.iter().map(|dir| format!("{dir}/podman/podman.sock")));
    paths.push("/run/podman/podman.sock".into());
    Ok(paths.into_iter().map(Endpoint::Unix).collect())
}

/// The host of the current `docker context`; `None` for the default one.
/// Source: docker/cli, `cli/context/store`: the metadata's directory is the SHA-256 of the context's name.
fn context_host(around: &Surroundings<'_>, var: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let config = match var("DOCKER_CONFIG") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(&var("HOME")?).join(".docker"),
    };
    let json = |path: &Path| serde_json::from_slice::<Value>((around.read)(path)?.as_bytes()).ok();
    let current = || Some(json(&config.join("config.json"))?.get("currentContext")?.as_str()?.to_owned());
    let name = var("DOCKER_CONTEXT").or_else(current).filter(|name| !name.is_empty() && name != "default")?;
    let mut directory = String::new();
    for byte in Sha256::digest(name.as_bytes()) {
        write!(directory, "{byte:02x}").expect("writing to a string works");
    }
    let meta = json(&config.join("contexts/meta").join(directory).join("meta.json"))?;
    Some(meta.pointer("/Endpoints/docker/Host")?.as_str()?.to_owned())
}

/// The first engine that answers. When none does, the most telling reason.
pub(super) async fn find() -> Result<(Docker, Endpoint), String> {
    let around =
        Surroundings { var: &|name| std::env::var(name).ok(), read: &|path| std::fs::read_to_string(path).ok() };
    let endpoints = candidates(&around)?;
    let mut reasons: Vec<(u8, String)> = Vec::new();
    for endpoint in &endpoints {
        match try_endpoint(endpoint).await {
            Ok(docker) => return Ok((docker, endpoint.clone())),
            Err((kind, reason)) => reasons.push((weight(kind), reason)),
        }
    }
    if endpoints.len() > 1 && reasons.iter().all(|(weight, _)| *weight == 0) && !has_docker_command() {
        return Err(NOT_INSTALLED.into());
    }
    // The first of the heaviest: sockets are tried in the order of what is usual.
    let heaviest = reasons.into_iter().rev().max_by_key(|(weight, _)| *weight);
    Err(heaviest.map_or_else(|| NOT_INSTALLED.into(), |(_, reason)| reason))
}

const NOT_INSTALLED: &str = "Docker is not installed: there is no /var/run/docker.sock and no `docker` command. \
     Install Docker Engine (https://docs.docker.com/engine/install/), or set DOCKER_HOST to the engine to use";

/// How much a reason tells: a socket that is there but closed tells more than one that is missing.
fn weight(kind: io::ErrorKind) -> u8 {
    match kind {
        io::ErrorKind::NotFound => 0,
        io::ErrorKind::PermissionDenied => 2,
        _ => 1,
    }
}

fn has_docker_command() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("docker").is_file())
}

async fn try_endpoint(endpoint: &Endpoint) -> Result<Docker, (io::ErrorKind, String)> {
    let failed = |kind| (kind, diagnose(endpoint, kind));
    let docker = endpoint.client().map_err(|err| failed(connect_failure(&err).unwrap_or(io::ErrorKind::Other)))?;
    match timeout(super::PING_BOUND, docker.ping()).await {
        Ok(Ok(_)) => Ok(docker),
        Ok(Err(err)) => match connect_failure(&err) {
            Some(kind) => Err(failed(kind)),
            None => {
                Err((io::ErrorKind::Other, format!("The engine at {endpoint} does not answer as Docker does: {err}")))
            }
        },
        Err(_) => Err(failed(io::ErrorKind::TimedOut)),
    }
}

/// Why a connection could not be made; `None` when there was one.
pub(super) fn connect_failure(err: &Error) -> Option<io::ErrorKind> {
    if let Error::SocketNotFoundError(_) = err {
        return Some(io::ErrorKind::NotFound);
    }
    let Error::HyperLegacyError { err } = err else { return None };
    if !err.is_connect() {
        return None;
    }
    let mut source = err.source();
    while let Some(err) = source {
        if let Some(err) = err.downcast_ref::<io::Error>() {
            return Some(err.kind());
        }
        source = err.source();
    }
    Some(io::ErrorKind::Other)
}

/// What is wrong with the engine and what to do about it.
pub(super) fn diagnose(endpoint: &Endpoint, kind: io::ErrorKind) -> String {
    let start = "Start it (`sudo systemctl start docker`, or open Docker Desktop) and try again";
    match (kind, endpoint) {
        (io::ErrorKind::PermissionDenied, Endpoint::Unix(path)) => format!(
            "No permission to use Docker's socket {path}. Add yourself to its group with `sudo usermod -aG docker $USER`, \
             then log in again or run `newgrp docker`; or run skiff with sudo"
        ),
        (io::ErrorKind::NotFound, Endpoint::Unix(path)) => {
            format!("Docker is not running: there is no socket at {path}. {start}")
        }
        (io::ErrorKind::ConnectionRefused, _) => {
            format!("Docker is not running: nobody listens at {endpoint}. {start}")
        }
        (io::ErrorKind::TimedOut, _) => {
            format!("Docker does not answer at {endpoint}. Restart it (`sudo systemctl restart docker`) and try again")
        }
        _ => format!("Docker cannot be reached at {endpoint} ({kind})"),
    }
}

/// The engine's version and facts, asked at once.
pub(super) async fn ask(
    docker: &Docker,
    endpoint: &Endpoint,
    bound: Duration,
) -> Result<(models::SystemVersion, models::SystemInfo), String> {
    let both = async { tokio::try_join!(docker.version(), docker.info()) };
    match timeout(bound, both).await {
        Ok(Ok(facts)) => Ok(facts),
        Ok(Err(err)) => Err(match connect_failure(&err) {
            Some(kind) => diagnose(endpoint, kind),
            None => format!("The engine at {endpoint} does not tell its version: {err}"),
        }),
        Err(_) => Err(diagnose(endpoint, io::ErrorKind::TimedOut)),
    }
}

/// Refuses an engine that is too old.
pub(super) fn check_version(version: &models::SystemVersion) -> Result<(), String> {
    let api = version.api_version.as_deref().unwrap_or_default();
    let parsed = api.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    if parsed.is_some_and(|found: (u32, u32)| found >= OLDEST_API) {
        return Ok(());
    }
    Err(format!(
        "Docker {} (API {}) is too old: skiff needs Docker 20.10 (API {}.{}) or newer",
        version.version.as_deref().unwrap_or("of an unknown version"),
        if api.is_empty() { "unknown" } else { api },
        OLDEST_API.0,
        OLDEST_API.1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn check(vars: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let vars: BTreeMap<String, String> = vars.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let files: BTreeMap<PathBuf, String> = files.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let around = Surroundings { var: &|name| vars.get(name).cloned(), read: &|path| files.get(path).cloned() };
        candidates(&around).map(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_usual_sockets_are_tried_in_order() {
        let found = check(&[("HOME", "/home/a"), ("XDG_RUNTIME_DIR", "/run/user/1")], &[]).unwrap();
        assert_eq!(
            found,
            [
                "unix:///var/run/docker.sock",
                "unix:///run/user/1/docker.sock",
                "unix:///home/a/.docker/run/docker.sock",
                "unix:///home/a/.docker/desktop/docker.sock",
                "unix:///run/user/1/podman/podman.sock",
                "unix:///run/podman/podman.sock",
            ]
        );
    }

    #[test]
    fn docker_host_stands_alone() {
        assert_eq!(check(&[("DOCKER_HOST", "unix:///x.sock")], &[]).unwrap(), ["unix:///x.sock"]);
        assert_eq!(check(&[("DOCKER_HOST", "tcp://h:2375/")], &[]).unwrap(), ["tcp://h:2375"]);
        let err = check(&[("DOCKER_HOST", "ssh://me@h")], &[]).unwrap_err();
        assert!(err.contains("ssh://me@h") && err.contains("ssh -nNT -L"), "{err}");
        assert!(check(&[("DOCKER_HOST", "tcp://h:2376"), ("DOCKER_TLS_VERIFY", "1")], &[]).is_err());
    }

    #[test]
    fn the_current_context_is_honoured() {
        // The directory is `printf desktop-linux | sha256sum`.
        let meta =
            "/h/.docker/contexts/meta/fe9c6bd7a66301f49ca9b6a70b217107cd1284598bfc254700c989b916da791e/meta.json";
        let content = r#"{"Name":"desktop-linux","Endpoints":{"docker":{"Host":"unix:///h/d.sock"}}}"#;
        let config = ("/h/.docker/config.json", r#"{"currentContext":"desktop-linux"}"#);
        assert_eq!(check(&[("HOME", "/h")], &[config, (meta, content)]).unwrap(), ["unix:///h/d.sock"]);
        assert_eq!(
            check(&[("HOME", "/h"), ("DOCKER_CONTEXT", "desktop-linux")], &[(meta, content)]).unwrap(),
            ["unix:///h/d.sock"]
        );
        let usual = check(&[("HOME", "/h"), ("DOCKER_CONTEXT", "default")], &[config, (meta, content)]).unwrap();
        assert_eq!(usual[0], "unix:///var/run/docker.sock");
    }

    #[test]
    fn a_diagnosis_names_the_case_and_the_remedy() {
        let socket = Endpoint::Unix("/var/run/docker.sock".into());
        for (kind, words) in [
            (io::ErrorKind::PermissionDenied, ["No permission", "usermod -aG docker"]),
            (io::ErrorKind::NotFound, ["no socket at /var/run/docker.sock", "systemctl start docker"]),
            (io::ErrorKind::ConnectionRefused, ["nobody listens", "systemctl start docker"]),
            (io::ErrorKind::TimedOut, ["does not answer", "systemctl restart docker"]),
        ] {
            let text = diagnose(&socket, kind);
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }

    #[test]
    fn engines_before_20_10_are_refused() {
        let version = |version: &str, api: &str| models::SystemVersion {
            version: Some(version.into()),
            api_version: Some(api.into()),
            ..Default::default()
        };
        assert!(check_version(&version("20.10.24", "1.41")).is_ok());
        assert!(check_version(&version("29.0.0", "1.52")).is_ok());
        let err = check_version(&version("19.03.15", "1.40")).unwrap_err();
        assert_eq!(err, "Docker 19.03.15 (API 1.40) is too old: skiff needs Docker 20.10 (API 1.41) or newer");
        assert!(check_version(&models::SystemVersion::default()).is_err());
    }
}
