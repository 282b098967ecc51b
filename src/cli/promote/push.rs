//! Images that are on this machine alone, on their way to a registry.

use crate::{
    base::ordered::{CollectOrdered as _, Set},
    cli::output,
    engine::{Credentials, Engine, PullError, docker::DockerEngine},
    node::credentials,
};
use anyhow::{Context as _, anyhow};
use std::collections::BTreeMap;

/// How much of an image's ID is a name for one that has none.
const ID_CHARS: usize = 12;

/// Reads `HOST[:PORT][/PATH]`.
pub(super) fn registry(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return Err("a registry is named without http:// or https://".to_owned());
    }
    let text = text.trim_end_matches('/');
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_/:".contains(c);
    if text.is_empty() || !text.chars().all(is_name) {
        return Err("give HOST[:PORT][/PATH], in lower case".to_owned());
    }
    Ok(text.to_owned())
}

/// What images are called in the registry, by what they are called here.
pub(super) fn names(registry: &str, images: &Set<String>) -> BTreeMap<String, String> {
    images.iter().map(|image| (image.clone(), name(registry, image))).collect_ordered()
}

fn name(registry: &str, image: &str) -> String {
    if let Some(id) = image.strip_prefix("sha256:") {
        return format!("{registry}/image:{}", id.get(..ID_CHARS).unwrap_or(id));
    }
    // The first part is a registry when it looks like a host.
    let path = match image.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => image,
    };
    let has_tag = path.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { format!("{registry}/{path}") } else { format!("{registry}/{path}:latest") }
}

/// Pushes each image under its new name, with the credentials that Docker has for it. The name does not stay here.
pub(super) async fn all(cluster: &str, names: &BTreeMap<String, String>) -> anyhow::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let engine = DockerEngine::connect(cluster).await?;
    for (from, to) in names {
        engine.tag_image(from, to).await?;
        let pushed = push(&engine, to).await;
        engine.remove_image(to).await?;
        pushed.with_context(|| format!("cannot push the image {from} as {to}: nothing was applied"))?;
        output::done(format!("the image {to} is pushed"));
    }
    Ok(())
}

/// Those of these images that the registries of their names have. One whose registry does not answer counts as had: it is no image of this
/// machine alone that is known of.
pub(super) async fn known_to_registries(cluster: &str, images: &Set<String>) -> anyhow::Result<Vec<String>> {
    let mut known = Vec::new();
    if images.is_empty() {
        return Ok(known);
    }
    let engine = DockerEngine::connect(cluster).await?;
    for image in images {
        let keys = keys(image).await?;
        match credentials::in_turn(&keys, |key| engine.find_in_registry(image, key)).await {
            Ok(()) => known.push(image.clone()),
            Err(PullError::Refused(_)) => {}
            Err(PullError::Failed(why)) => {
                output::warning(format!("whether the registry of the image {image} has it is not known: {why}"));
                known.push(image.clone());
            }
        }
    }
    Ok(known)
}

async fn push(engine: &dyn Engine, image: &str) -> anyhow::Result<()> {
    let keys = keys(image).await?;
    Ok(credentials::in_turn(&keys, |key| engine.push(image, key)).await?)
}

/// The credentials that Docker has for an image.
async fn keys(image: &str) -> anyhow::Result<Vec<Credentials>> {
    match credentials::docker_folder() {
        Some(folder) => credentials::of_docker(&folder, image).await.map_err(|why| anyhow!(why)),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_keep_their_paths_in_another_registry() {
        let of = |image: &str| name("r.example.com:5000/shop", image);
        assert_eq!(of("web"), "r.example.com:5000/shop/web:latest");
        assert_eq!(of("openshift/hello:2"), "r.example.com:5000/shop/openshift/hello:2");
        assert_eq!(of("localhost:5000/web:1"), "r.example.com:5000/shop/web:1");
        assert_eq!(of("sha256:0123456789abcdef"), "r.example.com:5000/shop/image:0123456789ab");
    }

    #[test]
    fn a_registry_is_a_host_and_a_path() {
        assert_eq!(registry("r.example.com:5000/shop/"), Ok("r.example.com:5000/shop".into()));
        for wrong in ["https://r.example.com", "", "Shop", "a b"] {
            assert!(registry(wrong).is_err(), "{wrong}");
        }
    }
}
