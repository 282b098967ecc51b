//! The volumes of a pod: one source each, of those that `support` lists.

use super::{env, not_yet, support};
use crate::{
    api::{
        field::FieldError,
        kinds::check::{self, Errors},
        quantity::Quantity,
    },
    base::ordered::{Map, Set},
};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, ProjectedVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};

/// The volumes that mounts may refer to, by name.
pub(super) type Names<'a> = Map<&'a str, &'a Volume>;

/// The sources that a volume has, by the name of their field.
pub(super) fn sources(v: &Volume) -> impl Iterator<Item = &'static str> {
    let given = [
        ("awsElasticBlockStore", v.aws_elastic_block_store.is_some()),
        ("azureDisk", v.azure_disk.is_some()),
        ("azureFile", v.azure_file.is_some()),
        ("cephfs", v.cephfs.is_some()),
        ("cinder", v.cinder.is_some()),
        ("configMap", v.config_map.is_some()),
        ("csi", v.csi.is_some()),
        ("downwardAPI", v.downward_api.is_some()),
        ("emptyDir", v.empty_dir.is_some()),
        ("ephemeral", v.ephemeral.is_some()),
        ("fc", v.fc.is_some()),
        ("flexVolume", v.flex_volume.is_some()),
        ("flocker", v.flocker.is_some()),
        ("gcePersistentDisk", v.gce_persistent_disk.is_some()),
        ("gitRepo", v.git_repo.is_some()),
        ("glusterfs", v.glusterfs.is_some()),
        ("hostPath", v.host_path.is_some()),
        ("image", v.image.is_some()),
        ("iscsi", v.iscsi.is_some()),
        ("nfs", v.nfs.is_some()),
        ("persistentVolumeClaim", v.persistent_volume_claim.is_some()),
        ("photonPersistentDisk", v.photon_persistent_disk.is_some()),
        ("portworxVolume", v.portworx_volume.is_some()),
        ("projected", v.projected.is_some()),
        ("quobyte", v.quobyte.is_some()),
        ("rbd", v.rbd.is_some()),
        ("scaleIO", v.scale_io.is_some()),
        ("secret", v.secret.is_some()),
        ("storageos", v.storageos.is_some()),
        ("vsphereVolume", v.vsphere_volume.is_some()),
    ];
    given.into_iter().filter_map(|(name, is_given)| is_given.then_some(name))
}

/// Checks the volumes and gives their names.
pub(super) fn validate<'a>(errs: &mut Errors, volumes: &'a [Volume], path: &str) -> Names<'a> {
    let mut names = Names::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = format!("{path}[{i}]");
        source(errs, volume, &path);
        let name_path = format!("{path}.name");
        if volume.name.is_empty() {
            errs.push(FieldError::required(name_path, ""));
        } else {
            check::label(errs, &name_path, &volume.name);
            if names.contains_key(&*volume.name) {
                errs.push(FieldError::duplicate(name_path, &volume.name));
            } else {
                names.insert(&volume.name, volume);
            }
        }
    }
    names
}

/// A Pod's image volumes name their images; a template's need not, because some fill them in later.
pub(super) fn validate_images(errs: &mut Errors, volumes: &[Volume], path: &str) {
    for (i, volume) in volumes.iter().enumerate() {
        let reference = volume.image.as_ref().map(|image| image.reference.as_deref().unwrap_or_default());
        if reference == Some("") {
            errs.push(FieldError::required(format!("{path}[{i}].image.reference"), ""));
        }
    }
}

fn source(errs: &mut Errors, volume: &Volume, path: &str) {
    let mut sources = sources(volume);
    let Some(first) = sources.next() else {
        errs.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    for more in sources {
        errs.push(FieldError::forbidden(format!("{path}.{more}"), "may not specify more than 1 volume type"));
    }
    if support::VOLUMES.contains(&first) {
        fields(errs, volume, path);
    } else {
        errs.push(FieldError::forbidden(format!("{path}.{first}"), not_yet("this volume source")));
    }
}

/// Checks the fields of a volume's source. Source: `validateVolumeSource`.
pub(super) fn fields(errs: &mut Errors, volume: &Volume, path: &str) {
    let require = |errs: &mut Errors, field: &str, text: &str| {
        if text.is_empty() {
            errs.push(FieldError::required(format!("{path}.{field}"), ""));
        }
    };
    if let Some(empty_dir) = &volume.empty_dir {
        check_empty_dir(errs, empty_dir, &format!("{path}.emptyDir"));
    } else if let Some(host_path) = &volume.host_path {
        check_host_path(errs, host_path, &format!("{path}.hostPath"));
    } else if let Some(secret) = &volume.secret {
        require(errs, "secret.secretName", secret.secret_name.as_deref().unwrap_or_default());
        files(errs, secret.default_mode, secret.items.as_deref(), &format!("{path}.secret"));
    } else if let Some(map) = &volume.config_map {
        require(errs, "configMap.name", &map.name);
        files(errs, map.default_mode, map.items.as_deref(), &format!("{path}.configMap"));
    } else if let Some(downward) = &volume.downward_api {
        let path = format!("{path}.downwardAPI");
        mode(errs, downward.default_mode, &format!("{path}.defaultMode"));
        downward.items.iter().flatten().for_each(|file| downward_file(errs, file, &path));
    } else if let Some(projected) = &volume.projected {
        check_projected(errs, projected, &format!("{path}.projected"));
    } else if let Some(claim) = &volume.persistent_volume_claim {
        require(errs, "persistentVolumeClaim.claimName", &claim.claim_name);
    } else if let Some(image) = &volume.image {
        let policies = ["Always", "IfNotPresent", "Never"];
        check::one_of(errs, format!("{path}.image.pullPolicy"), image.pull_policy.as_deref(), &policies);
    } else if let Some(ephemeral) = &volume.ephemeral
        && ephemeral.volume_claim_template.is_none()
    {
        errs.push(FieldError::required(format!("{path}.ephemeral.volumeClaimTemplate"), ""));
    }
}

fn check_empty_dir(errs: &mut Errors, empty_dir: &EmptyDirVolumeSource, path: &str) {
    if let Some(medium) = empty_dir.medium.as_deref().filter(|m| !m.is_empty() && *m != "Memory") {
        errs.push(FieldError::not_supported(format!("{path}.medium"), medium, &["", "Memory"]));
    }
    mode(errs, empty_dir.mode, &format!("{path}.mode"));
    if empty_dir.mode.is_some() && !support::EMPTY_DIR_MODE {
        errs.push(FieldError::forbidden(format!("{path}.mode"), not_yet("modes of emptyDir volumes")));
    }
    let Some(limit) = &empty_dir.size_limit else { return };
    match Quantity::of(limit) {
        Err(why) => errs.push(FieldError::invalid(format!("{path}.sizeLimit"), limit, why.to_string())),
        Ok(limit) if limit.is_negative() => errs.push(FieldError::forbidden(
            format!("{path}.sizeLimit"),
            "SizeLimit field must be a valid resource quantity",
        )),
        Ok(_) => {}
    }
}

const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

fn check_host_path(errs: &mut Errors, host_path: &HostPathVolumeSource, path: &str) {
    if host_path.path.is_empty() {
        errs.push(FieldError::required(format!("{path}.path"), ""));
    }
    no_backsteps(errs, &host_path.path, &format!("{path}.path"));
    let kind = host_path.type_.as_deref().unwrap_or_default();
    if !HOST_PATH_TYPES.contains(&kind) {
        errs.push(FieldError::not_supported(format!("{path}.type"), kind, HOST_PATH_TYPES));
    }
}

fn check_projected(errs: &mut Errors, projected: &ProjectedVolumeSource, path: &str) {
    mode(errs, projected.default_mode, &format!("{path}.defaultMode"));
    let mut taken = Set::new();
    for (i, source) in projected.sources.iter().flatten().enumerate() {
        projection(errs, source, &format!("{path}.sources[{i}]"));
        for file in paths(source).into_iter().filter(|p| !p.is_empty()) {
            if !taken.insert(file.to_owned()) {
                errs.push(FieldError::invalid(path, file, "conflicting duplicate paths"));
            }
        }
    }
}

/// The paths of the files that a projection names itself.
fn paths(source: &VolumeProjection) -> Vec<&str> {
    let keys = source.secret.iter().flat_map(|s| s.items.iter().flatten());
    let keys = keys.chain(source.config_map.iter().flat_map(|m| m.items.iter().flatten()));
    let files = source.downward_api.iter().flat_map(|d| d.items.iter().flatten());
    let tokens = source.service_account_token.iter().map(|t| t.path.as_str());
    keys.map(|k| k.path.as_str()).chain(files.map(|f| f.path.as_str())).chain(tokens).collect()
}

fn projection(errs: &mut Errors, source: &VolumeProjection, path: &str) {
    let given = [
        ("secret", source.secret.is_some()),
        ("configMap", source.config_map.is_some()),
        ("downwardAPI", source.downward_api.is_some()),
        ("serviceAccountToken", source.service_account_token.is_some()),
    ];
    let others = [
        ("clusterTrustBundle", source.cluster_trust_bundle.is_some()),
        ("podCertificate", source.pod_certificate.is_some()),
    ];
    for (field, _) in others.into_iter().filter(|(_, is_given)| *is_given) {
        errs.push(FieldError::forbidden(format!("{path}.{field}"), not_yet("this projection")));
    }
    for (field, _) in given.into_iter().filter(|(_, is_given)| *is_given).skip(1) {
        let why = "may not specify more than 1 volume type per source";
        errs.push(FieldError::forbidden(format!("{path}.{field}"), why));
    }
    let named =
        [source.secret.as_ref().map(|s| (&s.name, &s.items)), source.config_map.as_ref().map(|m| (&m.name, &m.items))];
    for (name, items) in named.into_iter().flatten() {
        if name.is_empty() {
            errs.push(FieldError::required(format!("{path}.name"), ""));
        }
        keys(errs, items.as_deref().unwrap_or_default(), path);
    }
    let downward = source.downward_api.iter().flat_map(|d| d.items.iter().flatten());
    downward.for_each(|file| downward_file(errs, file, &format!("{path}.downwardAPI")));
    if let Some(token) = &source.service_account_token {
        check_token(errs, token, &format!("{path}.serviceAccountToken"));
    }
}

fn check_token(errs: &mut Errors, token: &ServiceAccountTokenProjection, path: &str) {
    let why = match token.expiration_seconds.unwrap_or_default() {
        short if short < 600 => Some("may not specify a duration less than 10 minutes"),
        long if long > 1 << 32 => Some("may not specify a duration larger than 2^32 seconds"),
        _ => None,
    };
    errs.extend(why.map(|w| FieldError::invalid(format!("{path}.expirationSeconds"), token.expiration_seconds, w)));
    file_path(errs, &token.path, &format!("{path}.path"));
}

fn files(errs: &mut Errors, default_mode: Option<i32>, items: Option<&[KeyToPath]>, path: &str) {
    mode(errs, default_mode, &format!("{path}.defaultMode"));
    keys(errs, items.unwrap_or_default(), path);
}

fn keys(errs: &mut Errors, items: &[KeyToPath], path: &str) {
    for (i, item) in items.iter().enumerate() {
        let at = format!("{path}.items[{i}]");
        if item.key.is_empty() {
            errs.push(FieldError::required(format!("{at}.key"), ""));
        }
        file_path(errs, &item.path, &format!("{at}.path"));
        mode(errs, item.mode, &format!("{at}.mode"));
    }
}

fn downward_file(errs: &mut Errors, file: &DownwardAPIVolumeFile, path: &str) {
    file_path(errs, &file.path, &format!("{path}.path"));
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(_), Some(_)) => {
            let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errs.push(FieldError::invalid(path, "resource", why));
        }
        (Some(field), None) => env::field_ref(errs, field, env::VOLUME_FIELDS, &format!("{path}.fieldRef")),
        (None, Some(resource)) => {
            let at = format!("{path}.resourceFieldRef");
            if resource.container_name.as_deref().unwrap_or_default().is_empty() {
                errs.push(FieldError::required(format!("{at}.containerName"), ""));
            }
            env::resource_ref(errs, resource, &at);
        }
        (None, None) => errs.push(FieldError::required(path, "one of fieldRef and resourceFieldRef is required")),
    }
    mode(errs, file.mode, &format!("{path}.mode"));
}

fn mode(errs: &mut Errors, mode: Option<i32>, path: &str) {
    if let Some(mode) = mode.filter(|m| !(0..=0o777).contains(m)) {
        errs.push(FieldError::invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

/// A file's path in a volume. Source: `validateLocalNonReservedPath`.
fn file_path(errs: &mut Errors, file: &str, path: &str) {
    if file.is_empty() {
        errs.push(FieldError::required(path, ""));
        return;
    }
    descending_path(errs, file, path);
    if file.starts_with("..") && !file.starts_with("../") {
        errs.push(FieldError::invalid(path, file, "must not start with '..'"));
    }
}

/// A path that stays below where it begins. Source: `validateLocalDescendingPath`.
pub(super) fn descending_path(errs: &mut Errors, file: &str, path: &str) {
    if file.starts_with('/') {
        errs.push(FieldError::invalid(path, file, "must be a relative path"));
    }
    no_backsteps(errs, file, path);
}

/// A path without steps back, in characters that a path can have. Kubernetes finds the latter out when it mounts.
fn no_backsteps(errs: &mut Errors, file: &str, path: &str) {
    if file.split('/').any(|part| part == "..") {
        errs.push(FieldError::invalid(path, file, "must not contain '..'"));
    }
    no_nul(errs, file, path);
}

/// No path holds a NUL, in a container or outside.
pub(super) fn no_nul(errs: &mut Errors, file: &str, path: &str) {
    if file.contains('\0') {
        errs.push(FieldError::invalid(path, file, "must not contain NUL"));
    }
}
