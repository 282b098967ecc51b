//! Credentials for registries: those of a pod's pull secrets, and those that Docker itself has for the user who runs skiff.
//!
//! Called by `execute` before a pull. [`Keyring`] is pure; Docker's own file and its helpers are read by [`of_docker`].
//!
//! **Invariants**: what a secret says is printed nowhere; what cannot be read is no credential and fails no pull, but is told of.
//! **Source**: `pkg/credentialprovider/{config,keyring}.go` and `secrets/secrets.go`, v1.37; for Docker's own,
//! github.com/docker/cli `cli/config/configfile/file.go` and github.com/docker/docker-credential-helpers, `client/command.go`.

use crate::{
    base::{
        json,
        ordered::{Map, SortList as _},
        secret::Secret as Hidden,
    },
    engine::{Credentials, PullError},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

/// Docker's public registry, as images name it.
const HUB: &str = "docker.io";
/// And as credentials do.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// How long a credential helper may take.
const HELPER_BOUND: Duration = Duration::from_secs(10);
/// How big Docker's own file may be.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// An entry of `auths`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Login {
    username: Option<String>,
    password: Option<Text>,
    auth: Option<Text>,
    identitytoken: Option<Text>,
}

/// A text that is not printed.
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Text(String);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

type Auths = Map<String, Login>;

impl Login {
    /// Its credentials, if it has any that can be read.
    fn credentials(self, server: &str) -> Option<Credentials> {
        let (username, password) = match self.auth.as_ref().filter(|auth| !auth.0.is_empty()) {
            Some(auth) => {
                let bytes = BASE64_STANDARD.decode(auth.0.trim()).ok()?;
                let text = String::from_utf8(bytes).ok()?;
                let (username, password) = text.split_once(':')?;
                (username.to_owned(), password.trim_end_matches('\0').to_owned())
            }
            None => (self.username.unwrap_or_default(), self.password.map(|p| p.0).unwrap_or_default()),
        };
        let token = self.identitytoken.map(|token| token.0).unwrap_or_default();
        let is_empty = username.is_empty() && token.is_empty();
        (!is_empty).then(|| Credentials {
            username,
            password: Hidden::new(password),
            identity_token: Hidden::new(token),
            server: server.to_owned(),
        })
    }
}

/// Credentials by the registries, and parts of registries, that they are for.
#[derive(Debug, Default)]
pub(super) struct Keyring(Vec<(Place, Credentials)>);

impl Keyring {
    /// Adds what a pull secret holds.
    ///
    /// # Errors
    /// It is none, or cannot be read; the text says why.
    pub(super) fn add_secret(&mut self, secret: &Secret) -> Result<(), String> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: Auths,
        }
        let data = |key: &str| {
            let found = secret.data.as_ref().and_then(|data| data.get(key));
            found.map(|bytes| bytes.0.as_slice()).ok_or_else(|| format!("it has no key {key}"))
        };
        // What is wrong with it is told by its place, and never by its text.
        let unreadable = |err: serde_json::Error| {
            format!("it is not what it should be, at line {} column {}", err.line(), err.column())
        };
        let auths = match secret.type_.as_deref().unwrap_or_default() {
            "kubernetes.io/dockerconfigjson" => {
                json::read::<File>(data(".dockerconfigjson")?).map_err(unreadable)?.auths
            }
            "kubernetes.io/dockercfg" => json::read::<Auths>(data(".dockercfg")?).map_err(unreadable)?,
            other => return Err(format!("a secret of type {other:?} has no credentials of registries")),
        };
        self.add_all(auths);
        Ok(())
    }

    fn add_all(&mut self, auths: Auths) {
        for (key, auth) in auths {
            self.0.extend(auth.credentials(&key).map(|credentials| (Place::of_key(&key), credentials)));
        }
        // The longest first: what is said of a part of a registry goes before what is said of all of it.
        self.0.sort_list_by_key(|(place, _)| std::cmp::Reverse(place.path.len()));
    }

    /// The credentials for an image, the most special first.
    pub(super) fn of(&self, image: &str) -> Vec<Credentials> {
        let image = Place::of_image(image);
        self.0.iter().filter(|(place, _)| place.holds(&image)).map(|(_, credentials)| credentials.clone()).collect()
    }
}

/// Pulls or pushes as the first of these that the registry lets do it; as nobody when there are none.
/// Source: `pullImage`, `pkg/kubelet/kuberuntime/kuberuntime_image.go`.
pub async fn in_turn<'k, F>(
    keys: &'k [Credentials],
    mut act: impl FnMut(Option<&'k Credentials>) -> F,
) -> Result<(), PullError>
where
    F: Future<Output = Result<(), PullError>>,
{
    let Some((last, others)) = keys.split_last() else { return act(None).await };
    for key in others {
        match act(Some(key)).await {
            Err(PullError::Refused(_)) => {}
            done => return done,
        }
    }
    act(Some(last)).await
}

/// A registry, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: String,
    path: String,
}

impl Place {
    /// What a key of `auths` means.
    fn of_key(key: &str) -> Self {
        let bare = key.trim_start_matches("https://").trim_start_matches("http://");
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        let path = path.strip_prefix("v1/").or_else(|| path.strip_prefix("v2/")).unwrap_or(path);
        Self::new(host, path)
    }

    /// Where an image is.
    fn of_image(image: &str) -> Self {
        match image.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => Self::new(host, path),
            _ => Self::new(HUB, image),
        }
    }

    fn new(host: &str, path: &str) -> Self {
        let (host, port) = host.split_once(':').unwrap_or((host, ""));
        let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { HUB } else { host };
        Self { host: host.to_owned(), port: port.to_owned(), path: path.trim_end_matches('/').to_owned() }
    }

    /// Whether it holds another; parts of its host may be `*`. Source: `URLsMatch`.
    fn holds(&self, other: &Self) -> bool {
        let (own, others): (Vec<&str>, Vec<&str>) = (self.host.split('.').collect(), other.host.split('.').collect());
        let fits = |(own, other): (&&str, &&str)| globs(own, other);
        own.len() == others.len()
            && own.iter().zip(&others).all(fits)
            && self.port == other.port
            && other.path.starts_with(&self.path)
    }
}

/// Whether a pattern, in which `*` stands for any text, fits a text.
fn globs(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            let starts = tail.char_indices().map(|(i, _)| i).chain([tail.len()]);
            starts.into_iter().any(|i| globs(rest, &tail[i..]))
        }),
    }
}

/// Docker's own file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerConfig {
    auths: Auths,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

/// Where Docker's command line keeps its settings for whoever runs skiff.
pub fn docker_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")))
}

/// What Docker has for an image, by its file in this folder: by a helper for that registry, by the helper for all, or in the file.
///
/// # Errors
/// The file or a helper cannot be read; the text says why.
pub async fn of_docker(folder: &Path, image: &str) -> Result<Vec<Credentials>, String> {
    let path = folder.join("config.json");
    let about = |why: String| format!("credentials of {}: {why}", path.display());
    match tokio::fs::metadata(&path).await {
        Ok(file) if file.len() > FILE_BYTES_MAX => return Err(about("it is too big".to_owned())),
        Ok(_) => {}
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(about(err.to_string())),
    }
    let text = tokio::fs::read(&path).await.map_err(|err| about(err.to_string()))?;
    let config: DockerConfig = json::read(&text)
        .map_err(|err| about(format!("it is not what it should be, at line {} column {}", err.line(), err.column())))?;
    let place = Place::of_image(image);
    let server = if place.host == HUB { HUB_KEY.to_owned() } else { host_of(&place) };
    let special = config.cred_helpers.iter().find(|(host, _)| Place::of_key(host).holds(&place));
    let helper = special.map(|(_, helper)| helper).or(config.creds_store.as_ref().filter(|helper| !helper.is_empty()));
    if let Some(helper) = helper {
        let found = ask_helper(helper, &server).await.map_err(about)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let mut keyring = Keyring::default();
    keyring.add_all(config.auths);
    Ok(keyring.of(image))
}

fn host_of(place: &Place) -> String {
    if place.port.is_empty() { place.host.clone() } else { format!("{}:{}", place.host, place.port) }
}

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: Text,
}

/// What `docker-credential-NAME get` says of a server.
async fn ask_helper(name: &str, server: &str) -> Result<Vec<Credentials>, String> {
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err(format!("{name:?} is no credential helper's name"));
    }
    let program = format!("docker-credential-{name}");
    let about = |why: &dyn std::fmt::Display| format!("{program}: {why}");
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let ask = async {
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(server.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = match timeout(HELPER_BOUND, ask).await {
        Ok(output) => output.map_err(|err| about(&err))?,
        Err(_) => return Err(about(&format!("no answer within {HELPER_BOUND:?}"))),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        // It has none: that is no failure.
        return if said.contains("credentials not found") { Ok(Vec::new()) } else { Err(about(&said.trim())) };
    }
    let answer: Answer = json::read(&output.stdout).map_err(|_unreadable| about(&"its answer cannot be read"))?;
    let is_token = answer.username == "<token>";
    let (secret, none) = (Hidden::new(answer.secret.0), Hidden::default());
    let (password, identity_token) = if is_token { (none, secret) } else { (secret, none) };
    let username = if is_token { String::new() } else { answer.username };
    Ok(vec![Credentials { username, password, identity_token, server: server.to_owned() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(type_: &str, key: &str, text: &str) -> Secret {
        let value = serde_json::json!({ "metadata": { "name": "pull" }, "type": type_, "data": { key: BASE64_STANDARD.encode(text) } });
        serde_json::from_value(value).unwrap()
    }

    fn users(keyring: &Keyring, image: &str) -> Vec<String> {
        keyring.of(image).into_iter().map(|c| format!("{}:{}", c.username, c.password.reveal())).collect()
    }

    #[test]
    fn both_sorts_of_secrets_are_read_and_the_most_special_goes_first() {
        let auth = BASE64_STANDARD.encode("joe:pa:ss");
        let json = format!(
            r#"{{"auths": {{"registry.test": {{"auth": "{auth}"}}, "https://registry.test/team/": {{"username": "ann", "password": "x"}},
                "*.wild.test:5000": {{"username": "w", "password": "y"}}, "none.test": {{}}}}}}"#
        );
        let mut keyring = Keyring::default();
        keyring.add_secret(&secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &json)).unwrap();
        let old = r#"{"https://index.docker.io/v1/": {"username": "hub", "password": "h"}}"#;
        keyring.add_secret(&secret("kubernetes.io/dockercfg", ".dockercfg", old)).unwrap();
        assert_eq!(users(&keyring, "registry.test/team/app:1"), ["ann:x", "joe:pa:ss"]);
        assert_eq!(users(&keyring, "registry.test/other"), ["joe:pa:ss"]);
        assert_eq!(users(&keyring, "a.wild.test:5000/x"), ["w:y"]);
        for none in ["a.wild.test/x", "a.b.wild.test:5000/x", "registry.test:5000/x", "none.test/x"] {
            assert!(users(&keyring, none).is_empty(), "{none}");
        }
        for hub in ["nginx", "library/nginx:1", "docker.io/library/nginx"] {
            assert_eq!(users(&keyring, hub), ["hub:h"], "{hub}");
        }
        assert!(!format!("{keyring:?}").contains("pa:ss"));
    }

    #[test]
    fn what_cannot_be_read_is_told_without_its_text() {
        let mut keyring = Keyring::default();
        for (type_, key, text) in [
            ("Opaque", ".dockerconfigjson", "{}"),
            ("kubernetes.io/dockerconfigjson", "other", "{}"),
            ("kubernetes.io/dockerconfigjson", ".dockerconfigjson", "{\"auths\": \"s3cr3t\"}"),
        ] {
            let why = keyring.add_secret(&secret(type_, key, text)).unwrap_err();
            assert!(!why.contains("s3cr3t"), "{why}");
        }
    }

    #[tokio::test]
    async fn docker_itself_has_credentials_too() {
        let folder = tempfile::tempdir().unwrap();
        assert!(of_docker(folder.path(), "nginx").await.unwrap().is_empty(), "there is no file");
        let text = r#"{"auths": {"r.test": {"username": "u", "password": "p"}}, "credHelpers": {"h.test": "no/such"}}"#;
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        let found = of_docker(folder.path(), "r.test/x").await.unwrap();
        assert_eq!((found.len(), found[0].username.as_str()), (1, "u"));
        let why = of_docker(folder.path(), "h.test/x").await.unwrap_err();
        assert!(why.contains("no credential helper's name"), "{why}");
        let text = r#"{"credsStore": "skiff-test-that-is-not-there"}"#;
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        let why = of_docker(folder.path(), "r.test/x").await.unwrap_err();
        assert!(why.contains("docker-credential-skiff-test-that-is-not-there"), "{why}");
    }
}
