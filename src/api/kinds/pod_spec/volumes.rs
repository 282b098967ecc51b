//! The volumes of a pod. Only `emptyDir` is supported so far.

use super::not_yet;
use crate::api::{
    field::FieldError,
    kinds::check::{self, Errors},
    quantity::Quantity,
};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Volume};
use std::collections::BTreeSet;

/// The names that mounts may refer to.
pub(super) type Names<'a> = BTreeSet<&'a str>;

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
            if !names.insert(&volume.name) {
                errs.push(FieldError::duplicate(name_path, &volume.name));
            }
        }
    }
    names
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
    match &volume.empty_dir {
        Some(empty_dir) if first == "emptyDir" => check_empty_dir(errs, empty_dir, &format!("{path}.emptyDir")),
        _ => errs.push(FieldError::forbidden(format!("{path}.{first}"), not_yet("this volume source"))),
    }
}

fn check_empty_dir(errs: &mut Errors, empty_dir: &EmptyDirVolumeSource, path: &str) {
    if let Some(medium) = empty_dir.medium.as_deref().filter(|m| !m.is_empty() && *m != "Memory") {
        errs.push(FieldError::not_supported(format!("{path}.medium"), medium, &["", "Memory"]));
    }
    if empty_dir.mode.is_some() {
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
