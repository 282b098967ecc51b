//! The volumes of claims: what they are to the engine, and the end of those that are Docker volumes.
//!
//! Started by `agent`; one task. Whoever deletes a volume's object waits until its Docker volume is gone: the object has a finalizer that
//! is taken off then, and not before.
//!
//! **Invariants**: a Docker volume goes only when its object is being deleted, no claim has it any more, and no container uses it.

use super::{context::Context, identity::claim_volume_name, volumes::Claimed};
use crate::{
    api::{
        agreements::{DOCKER_VOLUME_FINALIZER, DOCKER_VOLUMES},
        kind::KindRef,
        kinds::{
            persistent_volume, persistent_volume::PERSISTENT_VOLUMES, persistent_volume_claim::PERSISTENT_VOLUME_CLAIMS,
        },
        meta::ObjectKey,
    },
    base::{chain::chain, task::Drain},
    engine::EngineError,
    registry::{
        Registry,
        pipeline::{Part, Selection, WriteOptions},
    },
    store::Entry,
};
use k8s_openapi::api::core::v1::HostPathVolumeSource;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tracing::warn;

const VOLUME: KindRef = KindRef::BuiltIn(&PERSISTENT_VOLUMES);
/// The label of a claim's Docker volume: `NAMESPACE/NAME` of the claim.
const CLAIM_LABEL: &str = "dev.skiff.claim";
/// How long after a removal that failed the next is tried.
const AGAIN: Duration = Duration::from_secs(1);

fn read(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.value).expect("stored objects are JSON")
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What the volume of a claim is to the engine.
///
/// # Errors
/// When there is none, or none that can be mounted; the text says why.
pub(super) fn claimed(registry: &Registry, cluster: &str, key: &ObjectKey) -> Result<Claimed, String> {
    let name = &key.name;
    let claim = registry.entry(&PERSISTENT_VOLUME_CLAIMS, key).map(|entry| read(&entry));
    let claim = claim.ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))?;
    let volume_name = text(&claim, "/spec/volumeName");
    if text(&claim, "/status/phase") != "Bound" {
        return Err(format!("persistentvolumeclaim {name:?} is not bound to a volume yet"));
    }
    let volume = registry.entry(&PERSISTENT_VOLUMES, &ObjectKey::new("", volume_name)).map(|entry| read(&entry));
    let volume = volume.ok_or_else(|| format!("persistentvolume {volume_name:?} not found"))?;
    of_volume(cluster, &volume, key)
}

/// What a volume is to the engine. Pure.
fn of_volume(cluster: &str, volume: &Value, claim: &ObjectKey) -> Result<Claimed, String> {
    let name = text(volume, "/metadata/name");
    if text(volume, "/spec/volumeMode") == "Block" {
        return Err(format!("persistentvolume {name:?} is a block device, which skiff does not have"));
    }
    if let Some(docker) = docker_volume(cluster, volume) {
        let labels = BTreeMap::from([(CLAIM_LABEL.to_owned(), claim.to_string())]);
        return Ok(Claimed::Docker { name: docker?, labels });
    }
    let path = |source: &str| text(volume, &format!("/spec/{source}/path")).to_owned();
    let kind = Some(text(volume, "/spec/hostPath/type").to_owned()).filter(|kind| !kind.is_empty());
    match (path("hostPath"), path("local")) {
        (host, _) if !host.is_empty() => Ok(Claimed::Host(HostPathVolumeSource { path: host, type_: kind })),
        (_, local) if !local.is_empty() => {
            Ok(Claimed::Host(HostPathVolumeSource { path: local, type_: Some("Directory".to_owned()) }))
        }
        _ => Err(format!(
            "persistentvolume {name:?} is of a type that skiff does not mount: it mounts hostPath, local and its own"
        )),
    }
}

/// The Docker volume of a volume that is one; its handle must be a part of a name.
fn docker_volume(cluster: &str, volume: &Value) -> Option<Result<String, String>> {
    if text(volume, "/spec/csi/driver") != DOCKER_VOLUMES {
        return None;
    }
    let handle = text(volume, "/spec/csi/volumeHandle");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    Some(if !handle.is_empty() && handle.chars().all(is_plain) {
        Ok(claim_volume_name(cluster, handle))
    } else {
        Err(format!("volumeHandle {handle:?} is no part of a Docker volume's name"))
    })
}

/// Starts the task that removes Docker volumes.
pub(super) fn start(context: &Arc<Context>, drain: &Drain) {
    let context = Arc::clone(context);
    let supervisor = context.config.supervisor.clone();
    supervisor.keep_until_drained("claimed-volumes", drain, move || {
        let context = Arc::clone(&context);
        async move { run(&context).await }
    });
}

async fn run(context: &Context) {
    loop {
        let snapshot = context.registry.snapshot(&PERSISTENT_VOLUMES, "", &Selection::default());
        let Ok(mut watch) = context.registry.watch_kind(&PERSISTENT_VOLUMES, snapshot.revision) else { continue };
        let mut going: Vec<Value> = snapshot.entries.iter().map(|entry| read(entry)).filter(goes).collect();
        loop {
            let mut left = Vec::new();
            for volume in going {
                if let Err(why) = remove(context, &volume).await {
                    warn!(component = "node", err = %why, "a claim's volume stays for now");
                    left.push(volume);
                }
            }
            going = left;
            tokio::select! {
                biased;
                change = watch.next() => match change {
                    Ok(change) => {
                        let Some(volume) = change.after.as_deref().map(read) else { continue };
                        going.retain(|known| text(known, "/metadata/uid") != text(&volume, "/metadata/uid"));
                        going.extend(Some(volume).filter(goes));
                    }
                    Err(_) => break,
                },
                () = tokio::time::sleep(AGAIN), if !going.is_empty() => {}
            }
        }
    }
}

/// Whether a volume waits for the end of its Docker volume only.
fn goes(volume: &Value) -> bool {
    let finalizers = volume.pointer("/metadata/finalizers").and_then(Value::as_array);
    let has = |name: &str| finalizers.is_some_and(|all| all.iter().any(|finalizer| finalizer == name));
    let is_marked = !text(volume, "/metadata/deletionTimestamp").is_empty();
    is_marked && has(DOCKER_VOLUME_FINALIZER) && !has(persistent_volume::PROTECTION)
}

/// Removes a volume's Docker volume, and then lets the object go.
async fn remove(context: &Context, volume: &Value) -> Result<(), String> {
    // A policy of Retain keeps the data, whoever deletes the object.
    let is_kept = text(volume, "/spec/persistentVolumeReclaimPolicy") != "Delete";
    if let Some(Ok(docker)) = docker_volume(&context.config.cluster, volume).filter(|_| !is_kept) {
        let removed = context.ask(context.engine.remove_volume(&docker)).await;
        removed.map_err(|err: EngineError| format!("remove Docker volume {docker}: {}", chain(&err)))?;
    }
    let key = ObjectKey::new("", text(volume, "/metadata/name"));
    let uid = text(volume, "/metadata/uid").to_owned();
    let mut let_go = |entry: &Entry| {
        let mut object = read(entry);
        if text(&object, "/metadata/uid") == uid
            && let Some(finalizers) = object.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut)
        {
            finalizers.retain(|finalizer| finalizer != DOCKER_VOLUME_FINALIZER);
        }
        Ok(VOLUME.decode(object).expect("a stored volume without a finalizer fits the schema"))
    };
    let options = WriteOptions::of_the_cluster();
    match context.registry.update(&PERSISTENT_VOLUMES, &key, Part::Main, &mut let_go, &options).await {
        Ok(_) | Err(crate::api::status::ApiError::NotFound { .. }) => Ok(()),
        Err(err) => Err(err.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_volume_is_a_docker_volume_or_a_path() {
        let of = |spec: Value| {
            let volume = json!({"metadata": {"name": "v"}, "spec": spec});
            match of_volume("skiff", &volume, &ObjectKey::new("default", "data")) {
                Ok(Claimed::Docker { name, labels }) => format!("{name} {}", labels[CLAIM_LABEL]),
                Ok(Claimed::Host(host)) => format!("{} {:?}", host.path, host.type_),
                Err(why) => why,
            }
        };
        let own = |handle: &str| json!({"csi": {"driver": DOCKER_VOLUMES, "volumeHandle": handle}});
        assert_eq!(of(own("default_data_1")), "skiff_skiff_claim_default_data_1 default/data");
        assert_eq!(of(own("../x")), "volumeHandle \"../x\" is no part of a Docker volume's name");
        assert_eq!(of(json!({"hostPath": {"path": "/srv", "type": ""}})), "/srv None");
        assert_eq!(of(json!({"local": {"path": "/srv"}})), "/srv Some(\"Directory\")");
        assert!(of(json!({"nfs": {"path": "/srv"}})).contains("of a type that skiff does not mount"));
        assert!(of(json!({"volumeMode": "Block", "local": {"path": "/dev/sda"}})).contains("block device"));
    }
}
