//! Images of the fake engine, and the registry that it pulls from.

use super::{
    behaviour::BehaviourFn,
    world::{Out, World},
};
use crate::engine::{Credentials, EngineError, EngineEvent, Image, ImageDetails, PullError};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fmt::Write as _};

pub(super) struct LocalImage {
    pub(super) facts: Image,
    pub(super) behaviour: BehaviourFn,
}

pub(super) struct RemoteImage {
    behaviour: BehaviourFn,
    failures: u32,
    /// Who alone may pull it.
    owner: Option<String>,
}

/// The familiar form of a reference, as Docker lists it: no `docker.io/library/`, and a tag or a digest.
pub(super) fn familiar(reference: &str) -> String {
    let short = ["docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/"]
        .iter()
        .find_map(|prefix| reference.strip_prefix(prefix))
        .unwrap_or(reference);
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains(':') || last.contains('@') { short.to_owned() } else { format!("{short}:latest") }
}

pub(super) fn hex_digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string works");
        text
    })
}

impl World {
    pub(super) fn add_image(&mut self, mut image: Image, behaviour: BehaviourFn) {
        for tag in &mut image.tags {
            *tag = familiar(tag);
            self.untag(tag);
        }
        if image.id.is_empty() {
            self.n_images += 1;
            let id = hex_digest(&[image.tags.concat().as_bytes(), &self.n_images.to_be_bytes()]);
            image.id = format!("sha256:{id}");
        }
        let details = &mut image.details;
        details.created_at.get_or_insert(self.clock.now());
        if details.layers.is_empty() {
            details.layers.push(format!("sha256:{}", hex_digest(&[b"layer", image.id.as_bytes()])));
        }
        self.images.insert(image.id.clone(), LocalImage { facts: image, behaviour });
        self.out.push(Out::Event(EngineEvent::Images));
    }

    /// Takes a name from the image that has it; the image stays, nameless.
    fn untag(&mut self, tag: &str) {
        for image in self.images.values_mut() {
            image.facts.tags.retain(|have| have != tag);
        }
    }

    pub(super) fn add_remote(&mut self, reference: &str, behaviour: BehaviourFn, failures: u32) {
        self.remote.insert(familiar(reference), RemoteImage { behaviour, failures, owner: None });
    }

    pub(super) fn set_private(&mut self, reference: &str, username: &str) {
        if let Some(remote) = self.remote.get_mut(&familiar(reference)) {
            remote.owner = Some(username.to_owned());
        }
    }

    pub(super) fn local(&self, reference: &str) -> Option<&LocalImage> {
        let tag = familiar(reference);
        let is_it = |image: &LocalImage| {
            let id = image.facts.id.trim_start_matches("sha256:");
            let wanted = reference.trim_start_matches("sha256:");
            image.facts.tags.contains(&tag)
                || image.facts.digests.contains(&tag)
                || (wanted.len() >= 12 && id.starts_with(wanted))
        };
        self.images.values().find(|image| is_it(image))
    }

    pub(super) fn image(&self, reference: &str) -> Option<Image> {
        self.local(reference).map(|image| image.facts.clone())
    }

    pub(super) fn images(&self) -> Vec<Image> {
        let listed = |image: &LocalImage| Image { details: ImageDetails::default(), ..image.facts.clone() };
        self.images.values().map(listed).collect()
    }

    /// An image of the registry, for those who may have it.
    pub(super) fn find_remote(
        &mut self,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<&mut RemoteImage, PullError> {
        let tag = familiar(reference);
        let is_theirs = |remote: &&mut RemoteImage| {
            remote.owner.is_none() || remote.owner.as_deref() == credentials.map(|c| c.username.as_str())
        };
        let repository = tag.split(['@', ':']).next().unwrap_or_default();
        let denied = format!(
            "pull access denied for {repository}, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
        );
        self.remote.get_mut(&tag).filter(is_theirs).ok_or(PullError::Refused(denied))
    }

    pub(super) fn pull(&mut self, reference: &str, credentials: Option<&Credentials>) -> Result<(), PullError> {
        let tag = familiar(reference);
        let remote = self.find_remote(reference, credentials)?;
        if remote.failures > 0 {
            remote.failures -= 1;
            return Err(PullError::Failed(
                "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host".into(),
            ));
        }
        let behaviour = remote.behaviour.clone();
        let digest = hex_digest(&[tag.as_bytes()]);
        let repository = tag.rsplit_once(':').map_or(tag.as_str(), |(repository, _)| repository).to_owned();
        let image = Image {
            id: format!("sha256:{}", hex_digest(&[b"image", tag.as_bytes()])),
            tags: vec![tag],
            digests: vec![format!("{repository}@sha256:{digest}")],
            command: vec!["/app".into()],
            ..Image::default()
        };
        self.add_image(image, behaviour);
        Ok(())
    }

    /// Puts an image into the registry, for those alone who own what had its name before.
    pub(super) fn push(&mut self, reference: &str, credentials: Option<&Credentials>) -> Result<(), PullError> {
        let tag = familiar(reference);
        let Some(image) = self.images.values().find(|image| image.facts.tags.contains(&tag)) else {
            return Err(PullError::Refused(format!("An image does not exist locally with the tag: {tag}")));
        };
        let behaviour = image.behaviour.clone();
        let owner = self.remote.get(&tag).and_then(|remote| remote.owner.clone());
        if owner.is_some() && owner.as_deref() != credentials.map(|c| c.username.as_str()) {
            return Err(PullError::Refused("denied: requested access to the resource is denied".into()));
        }
        self.remote.insert(tag, RemoteImage { behaviour, failures: 0, owner });
        Ok(())
    }

    pub(super) fn import(
        &mut self,
        reference: &str,
        tar: &[u8],
        entrypoint: &[String],
        labels: &BTreeMap<String, String>,
    ) -> String {
        self.n_images += 1;
        let id = format!("sha256:{}", hex_digest(&[tar, &self.n_images.to_be_bytes()]));
        let image = Image {
            id: id.clone(),
            tags: vec![reference.into()],
            size_bytes: i64::try_from(tar.len()).unwrap_or(i64::MAX),
            command: entrypoint.to_vec(),
            labels: labels.clone(),
            details: ImageDetails { entrypoint: entrypoint.to_vec(), ..ImageDetails::default() },
            ..Image::default()
        };
        let behaviour = self.imported.clone();
        self.add_image(image, behaviour);
        id
    }

    pub(super) fn derive(
        &mut self,
        base: &str,
        reference: &str,
        entrypoint: &[String],
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        let Some(base_image) = self.local(base) else {
            let what = format!("make image {reference} from {base}");
            return Err(EngineError::NotFound(format!("{what}: No such image: {}", familiar(base))));
        };
        let behaviour = base_image.behaviour.clone();
        let mut all_labels = base_image.facts.labels.clone();
        all_labels.extend(labels.clone());
        let (base_id, size_bytes) = (base_image.facts.id.clone(), base_image.facts.size_bytes);
        self.n_images += 1;
        let id = format!("sha256:{}", hex_digest(&[base_id.as_bytes(), &self.n_images.to_be_bytes()]));
        let image = Image {
            id: id.clone(),
            tags: vec![reference.into()],
            size_bytes,
            command: entrypoint.to_vec(),
            labels: all_labels,
            ..Image::default()
        };
        self.add_image(image, behaviour);
        Ok(id)
    }

    pub(super) fn tag(&mut self, image: &str, reference: &str) -> Result<(), EngineError> {
        let Some(id) = self.local(image).map(|image| image.facts.id.clone()) else {
            return Err(EngineError::NotFound(format!("tag image {image}: No such image: {}", familiar(image))));
        };
        let tag = familiar(reference);
        self.untag(&tag);
        if let Some(image) = self.images.get_mut(&id) {
            image.facts.tags.push(tag);
        }
        self.out.push(Out::Event(EngineEvent::Images));
        Ok(())
    }

    pub(super) fn remove_image(&mut self, reference: &str) -> Result<(), EngineError> {
        let Some(image) = self.local(reference) else {
            return Ok(());
        };
        let (id, tag) = (image.facts.id.clone(), familiar(reference));
        let is_last = image.facts.tags.iter().all(|have| *have == tag);
        if is_last && self.uses_image(&id) {
            return Err(EngineError::Conflict(format!(
                "remove image {reference}: conflict: unable to remove repository reference \"{tag}\" (must force): a container is using its referenced image"
            )));
        }
        if is_last {
            self.images.remove(&id);
        } else {
            self.untag(&tag);
        }
        self.out.push(Out::Event(EngineEvent::Images));
        Ok(())
    }

    pub(super) fn remove_image_by_force(&mut self, reference: &str) {
        let Some(id) = self.local(reference).map(|image| image.facts.id.clone()) else { return };
        if self.uses_image(&id) {
            if let Some(image) = self.images.get_mut(&id) {
                image.facts.tags.clear();
                image.facts.digests.clear();
            }
        } else {
            self.images.remove(&id);
        }
        self.out.push(Out::Event(EngineEvent::Images));
    }
}

#[cfg(test)]
mod tests {
    use super::familiar;

    #[test]
    fn references_read_as_docker_lists_them() {
        for (given, listed) in [
            ("nginx", "nginx:latest"),
            ("docker.io/library/nginx:1", "nginx:1"),
            ("docker.io/skiff/x", "skiff/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("x@sha256:abc", "x@sha256:abc"),
        ] {
            assert_eq!(familiar(given), listed);
        }
    }
}
