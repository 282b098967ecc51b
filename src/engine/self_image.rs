//! skiff's own image: the running executable as the one program of an image, so that nothing need be pulled.
//!
//! `app` calls it at its start; the node agent uses the reference for sandboxes, the proxy and the deployer.
//!
//! **Invariants**: the name holds the hash of the content, so an image that is there need not be made again and never changes;
//! a tag of the user's own is never replaced.

use super::{Engine, EngineError, Image};
use crate::base::ordered::Set;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};
use tar::{Builder, EntryType, Header};

/// Says which of skiff's images it is: `self` or `demo`.
pub const IMAGE_LABEL: &str = "dev.skiff.image";
/// The first digits of the hash of the executable inside.
const HASH_LABEL: &str = "dev.skiff.hash";
/// The running executable; it can be read even when the file has been replaced since.
const EXECUTABLE: &str = "/proc/self/exe";
/// What the own image's name begins with; its version and the hash follow.
const SELF_NAME: &str = "skiff:";

/// The program in the image, and the other names that it goes by there: custom deployers of OpenShift call the stock one,
/// from scripts.
const PROGRAM: &str = "skiff";
const ALIASES: [&str; 2] = ["usr/bin/openshift-deploy", "bin/sh"];

/// An image that shows how skiff works: its program and the names it goes by.
struct Demo {
    names: &'static [&'static str],
    entrypoint: &'static [&'static str],
}

const DEMOS: [Demo; 3] = [
    Demo {
        names: &["kubernetes-spring:1.0", "kubernetes-spring:latest"],
        entrypoint: &["/skiff", "demo-server", "--name", "kubernetes-spring", "--version", "1.0"],
    },
    Demo {
        names: &["kubernetes-spring:1.1"],
        entrypoint: &["/skiff", "demo-server", "--name", "kubernetes-spring", "--version", "1.1"],
    },
    Demo {
        names: &["openshift/hello-openshift:latest"],
        entrypoint: &[
            "/skiff",
            "demo-server",
            "--name",
            "hello-openshift",
            "--greeting",
            "Hello OpenShift!",
            "--port",
            "8080",
            "--port",
            "8888",
        ],
    },
];

/// Makes sure that the engine has the image of this executable, and returns its reference.
pub async fn ensure_self_image(engine: &dyn Engine) -> Result<String, EngineError> {
    ensure_image(engine, Path::new(EXECUTABLE)).await
}

async fn ensure_image(engine: &dyn Engine, executable: &Path) -> Result<String, EngineError> {
    let hash = hash_of(executable).await?;
    let reference = format!("{SELF_NAME}{}-{hash}", env!("CARGO_PKG_VERSION"));
    if engine.image(&reference).await?.is_none() {
        let tar = tar_of(executable).await?;
        engine.import_image(&reference, tar, &["/skiff".to_owned()], &labels("self", &hash)).await?;
    }
    Ok(reference)
}

/// Makes sure that the engine has the demo images: `kubernetes-spring` and `openshift/hello-openshift`.
///
/// Returns the names that it gave. A tag that the user has given to an image of their own is left alone.
pub async fn ensure_demo_images(engine: &dyn Engine) -> Result<Vec<String>, EngineError> {
    ensure_demos(engine, Path::new(EXECUTABLE)).await
}

/// Whether a reference is the name of a demo image.
pub fn is_demo_image(reference: &str) -> bool {
    let short = ["docker.io/library/", "docker.io/"].iter().find_map(|prefix| reference.strip_prefix(prefix));
    let short = short.unwrap_or(reference);
    let latest = format!("{short}:latest");
    DEMOS.iter().flat_map(|demo| demo.names).any(|name| *name == short || *name == latest)
}

async fn ensure_demos(engine: &dyn Engine, executable: &Path) -> Result<Vec<String>, EngineError> {
    let hash = hash_of(executable).await?;
    let mut base = None;
    let mut made = Vec::new();
    for demo in &DEMOS {
        let wanted = wanted_names(engine, demo, &hash).await?;
        let Some((first, more)) = wanted.split_first() else { continue };
        let base = match &base {
            Some(base) => base,
            None => base.insert(ensure_image(engine, executable).await?),
        };
        let entrypoint: Vec<String> = demo.entrypoint.iter().map(|word| (*word).to_owned()).collect();
        engine.derive_image(base, first.name, &entrypoint, &labels("demo", &hash)).await?;
        for name in more {
            engine.tag_image(first.name, name.name).await?;
        }
        for old in wanted.iter().filter_map(|name| name.replaces.as_ref()) {
            drop_unused(engine, old).await?;
        }
        made.extend(wanted.iter().map(|wanted| wanted.name.to_owned()));
    }
    Ok(made)
}

/// A name that a demo image is to get.
struct Wanted {
    name: &'static str,
    /// The ID of our own older image that has the name.
    replaces: Option<String>,
}

/// The names of a demo that are free, or that an older skiff's demo has.
async fn wanted_names(engine: &dyn Engine, demo: &Demo, hash: &str) -> Result<Vec<Wanted>, EngineError> {
    let mut wanted = Vec::new();
    for name in demo.names {
        match engine.image(name).await? {
            None => wanted.push(Wanted { name, replaces: None }),
            Some(image) if is_ours(&image, "demo") && image.labels.get(HASH_LABEL).is_none_or(|have| have != hash) => {
                wanted.push(Wanted { name, replaces: Some(image.id) });
            }
            Some(_) => {}
        }
    }
    Ok(wanted)
}

/// Removes every image that skiff has made, of any version, unless another cluster may need it or a container uses it. Names that
/// the user gave stay, and the images with them: a user's own image that is built from a demo has its labels too.
///
/// Says which other clusters there are. Docker itself would take a name from an image that is used, if the image has another name.
pub async fn remove_unused(engine: &dyn Engine) -> Result<Set<String>, EngineError> {
    let others = engine.neighbours().await?;
    if !others.clusters.is_empty() {
        return Ok(others.clusters);
    }
    // A demo image is made from the own one, which cannot go before it.
    for which in ["demo", "self"] {
        let is_free = |image: &&Image| is_ours(image, which) && !others.images.contains(&image.id);
        for image in engine.images().await?.iter().filter(is_free) {
            let nameless = image.tags.is_empty().then_some(&image.id);
            for name in image.tags.iter().filter(|name| is_given_name(name)).chain(nameless) {
                drop_unused(engine, name).await?;
            }
        }
    }
    Ok(Set::new())
}

/// Whether it is a name that skiff gives.
fn is_given_name(name: &str) -> bool {
    is_demo_image(name) || name.starts_with(SELF_NAME)
}

async fn drop_unused(engine: &dyn Engine, image: &str) -> Result<(), EngineError> {
    match engine.remove_image(image).await {
        Err(EngineError::Conflict(_)) => Ok(()),
        other => other,
    }
}

fn is_ours(image: &Image, which: &str) -> bool {
    image.labels.get(IMAGE_LABEL).map(String::as_str) == Some(which)
}

fn labels(which: &str, hash: &str) -> BTreeMap<String, String> {
    [(IMAGE_LABEL, which), (HASH_LABEL, hash)].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Reads the executable away from the async threads: tens of megabytes take tens of milliseconds.
async fn reading<T: Send + 'static>(executable: &Path, read: fn(&Path) -> io::Result<T>) -> Result<T, EngineError> {
    let path: PathBuf = executable.into();
    let shown = path.display().to_string();
    let work = tokio::task::spawn_blocking(move || read(&path));
    let result = work.await.map_err(|err| EngineError::Failed(format!("read {shown}: {err}")))?;
    result.map_err(|err| EngineError::Failed(format!("read {shown}: {err}")))
}

async fn hash_of(executable: &Path) -> Result<String, EngineError> {
    reading(executable, |path| {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        let mut text = String::new();
        for byte in &hash.finalize()[..6] {
            write!(text, "{byte:02x}").expect("writing to a string works");
        }
        Ok(text)
    })
    .await
}

/// The image's content: the executable and the directories that every Linux program may expect.
async fn tar_of(executable: &Path) -> Result<Bytes, EngineError> {
    reading(executable, |path| {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut tar = Builder::new(Vec::with_capacity(usize::try_from(size).unwrap_or_default() + (16 << 10)));
        for (directory, mode) in [
            ("bin/", 0o755),
            ("dev/", 0o755),
            ("etc/", 0o755),
            ("proc/", 0o755),
            ("sys/", 0o755),
            ("tmp/", 0o1777),
            ("usr/", 0o755),
            ("usr/bin/", 0o755),
        ] {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Directory);
            header.set_mode(mode);
            header.set_size(0);
            tar.append_data(&mut header, directory, io::empty())?;
        }
        let mut header = Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(size);
        tar.append_data(&mut header, PROGRAM, &mut file)?;
        for alias in ALIASES {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, alias, format!("/{PROGRAM}"))?;
        }
        Ok(tar.into_inner()?.into())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{Behaviour, CallKind, FakeEngine};

    fn executable(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    fn calls(engine: &FakeEngine, kind: CallKind) -> Vec<String> {
        let calls = engine.take_calls().into_iter();
        calls.filter(|call| call.kind == kind).map(|call| call.subject).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_own_image_is_made_once_per_content() {
        let engine = FakeEngine::for_test();
        let file = executable("one");
        let first = ensure_image(&engine, file.path()).await.unwrap();
        // `printf one | sha256sum`
        assert_eq!(first, format!("skiff:{}-7692c3ad3540", env!("CARGO_PKG_VERSION")));
        assert_eq!(ensure_image(&engine, file.path()).await.unwrap(), first);
        assert_eq!(calls(&engine, CallKind::ImportImage), std::slice::from_ref(&first));
        std::fs::write(file.path(), "two").unwrap();
        let second = ensure_image(&engine, file.path()).await.unwrap();
        assert_ne!(second, first);
        let image = engine.image(&second).await.unwrap().unwrap();
        assert_eq!(image.command, ["/skiff"]);
        assert_eq!(image.labels.get(IMAGE_LABEL).map(String::as_str), Some("self"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_archive_holds_the_program_and_its_directories() {
        let tar = tar_of(executable("program").path()).await.unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let entries: Vec<(String, u32, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                (entry.path().unwrap().display().to_string(), header.mode().unwrap(), header.size().unwrap())
            })
            .collect();
        assert!(entries.contains(&("skiff".to_owned(), 0o755, 7)), "{entries:?}");
        assert_eq!(entries[entries.len() - ALIASES.len()..].iter().map(|entry| &*entry.0).collect::<Vec<_>>(), ALIASES);
        assert!(entries.contains(&("tmp/".to_owned(), 0o1777, 0)), "{entries:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn demo_images_never_replace_the_users_own() {
        let engine = FakeEngine::for_test();
        engine.add_image("kubernetes-spring:latest", Behaviour::server());
        let own = engine.image("kubernetes-spring").await.unwrap().unwrap().id;
        let file = executable("one");
        let made = ensure_demos(&engine, file.path()).await.unwrap();
        assert_eq!(made, ["kubernetes-spring:1.0", "kubernetes-spring:1.1", "openshift/hello-openshift:latest"]);
        assert_eq!(engine.image("kubernetes-spring").await.unwrap().unwrap().id, own);
        let old = engine.image("kubernetes-spring:1.1").await.unwrap().unwrap();
        assert!(old.command.ends_with(&["--version".to_owned(), "1.1".to_owned()]), "{:?}", old.command);
        assert_eq!(calls(&engine, CallKind::DeriveImage).len(), 3);
        assert_eq!(ensure_demos(&engine, file.path()).await.unwrap(), Vec::<String>::new());
        assert_eq!(calls(&engine, CallKind::DeriveImage), Vec::<String>::new());
        std::fs::write(file.path(), "two").unwrap();
        ensure_demos(&engine, file.path()).await.unwrap();
        assert_ne!(engine.image("kubernetes-spring:1.1").await.unwrap().unwrap().id, old.id);
        assert_eq!(engine.image(&old.id).await.unwrap(), None, "the old one is gone");
        assert_eq!(engine.image("kubernetes-spring").await.unwrap().unwrap().id, own);
    }

    #[test]
    fn demo_images_are_known_by_every_form_of_their_names() {
        for name in ["kubernetes-spring", "docker.io/openshift/hello-openshift", "kubernetes-spring:1.1"] {
            assert!(is_demo_image(name), "{name}");
        }
        for name in ["kubernetes-spring:2", "nginx", "quay.io/kubernetes-spring:1.0"] {
            assert!(!is_demo_image(name), "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_skiff_made_can_be_removed_unless_it_is_used() {
        let engine = FakeEngine::for_test();
        engine.add_image("mine:1", Behaviour::server());
        let file = executable("one");
        let own = ensure_image(&engine, file.path()).await.unwrap();
        ensure_demos(&engine, file.path()).await.unwrap();
        let spec = crate::engine::ContainerSpec { name: "c1".into(), image: own.clone(), ..Default::default() };
        engine.create(&spec).await.unwrap();
        engine.tag_image("kubernetes-spring:1.1", "mine:2").await.unwrap();
        remove_unused(&engine).await.unwrap();
        let mut left: Vec<String> = engine.images().await.unwrap().into_iter().flat_map(|image| image.tags).collect();
        left.sort();
        assert_eq!(left, ["mine:1".to_owned(), "mine:2".to_owned(), own.clone()]);
    }

    #[tokio::test(start_paused = true)]
    async fn images_stay_while_another_cluster_is_there() {
        let engine = FakeEngine::for_test();
        let file = executable("one");
        ensure_demos(&engine, file.path()).await.unwrap();
        let tags = async || engine.images().await.unwrap().into_iter().flat_map(|image| image.tags).count();
        let before = tags().await;
        engine.add_foreign_container("it-other", "kubernetes-spring:1.0");
        assert_eq!(remove_unused(&engine).await.unwrap(), ["it-other".to_owned()].into());
        assert_eq!(tags().await, before);
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_of_two_names_keeps_both_while_a_users_container_has_it() {
        let engine = FakeEngine::for_test();
        let file = executable("one");
        ensure_demos(&engine, file.path()).await.unwrap();
        engine.add_foreign_container("", "kubernetes-spring:1.0");
        assert_eq!(remove_unused(&engine).await.unwrap(), Set::new());
        for name in ["kubernetes-spring:1.0", "kubernetes-spring:latest"] {
            assert!(engine.image(name).await.unwrap().is_some(), "{name}");
        }
        assert!(engine.image("kubernetes-spring:1.1").await.unwrap().is_none());
    }
}
