//! Termination messages: what the programs of containers write about their end. Pure.
//!
//! ```text
//!  Docker volume skiff_<cluster>_pod_<uid>, mounted into the sandbox
//!  └── .termination-logs/
//!      └── <container>.<slot>       a file that the sandbox makes, bound into the container at its terminationMessagePath
//! ```
//!
//! Called by `execute`, `volumes`, `translate` and the sandbox (`roles/pause`), which share the names.
//!
//! **Invariants**: nobody but the sandbox and the engine writes the directory, and a container sees one file of it, as a mount: it can
//! neither replace the file nor turn it into a link or a pipe, so that the engine resolves and reads only what skiff made. Two attempts
//! that follow each other have different files, and one that takes over the file of an older attempt finds it empty.
//! **Source**: `getTerminationMessage` and `toKubeContainerStatus`, `pkg/kubelet/kuberuntime/kuberuntime_container.go`;
//! `normalizeStatus`, `pkg/kubelet/status/status_manager.go`; the bounds, `pkg/kubelet/container/runtime.go`, v1.37.

use super::volumes::MOUNT_POINT;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// The directory in the pod's volume. No volume's name begins with a dot.
const DIRECTORY: &str = ".termination-logs";
/// The variable by which the sandbox is told for which containers to make files.
pub const LOGS: &str = "SKIFF_TERMINATION_LOGS";
/// How many attempts of a container have files of their own.
const SLOTS: u32 = 4;
/// How many bytes of a message are read: the last ones. Source: `MaxContainerTerminationMessageLength`.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// How many bytes the messages of a pod may have together. Source: `MaxPodTerminationMessageLogLength`.
const POD_BYTES_MAX: usize = 12 * 1024;
/// Source: `MaxContainerTerminationMessageLogLength` and `…LogLines`.
pub const LOG_BYTES_MAX: usize = 2048;
/// Ibid.
pub const LOG_LINES_MAX: u64 = 80;

/// Where the file of an attempt is below the pod's volume.
pub fn file(container: &str, attempt: u32) -> String {
    format!("{DIRECTORY}/{container}.{}", attempt % SLOTS)
}

/// Where the sandbox has the file of an attempt.
pub fn file_in_sandbox(container: &str, attempt: u32) -> String {
    format!("{MOUNT_POINT}/{}", file(container, attempt))
}

/// Whether the file of an attempt was that of an older one.
pub fn is_used_again(attempt: u32) -> bool {
    attempt >= SLOTS
}

/// Where a container has its file.
pub fn path_in(container: &Container) -> Option<String> {
    let path = container.termination_message_path.as_deref().filter(|path| !path.is_empty())?;
    // Source: `MakeAbsolutePath`, `pkg/volume/util/util.go`.
    Some(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

/// The names of a pod's containers that have a file.
fn containers(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.filter(|container| path_in(container).is_some()).map(|container| container.name.as_str())
}

/// What the sandbox is told: the containers for which it makes files, if there are any.
pub fn wanted(pod: &Pod) -> Option<String> {
    let names: Vec<&str> = pod.spec.iter().flat_map(containers).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

/// A container that comes when the pod's sandbox runs already: without a file where the sandbox has no place for one.
pub fn late(container: &Container, pod: &Pod) -> Container {
    let mut container = container.clone();
    if wanted(pod).is_none() {
        container.termination_message_path = None;
    }
    container
}

/// The directory that the sandbox makes, and the files in it, for what it was told.
pub fn files_for(wanted: &str) -> (&'static str, Vec<String>) {
    let of_container = |name: &str| (0..SLOTS).map(|slot| file(name, slot)).collect::<Vec<_>>();
    (DIRECTORY, wanted.split_whitespace().flat_map(of_container).collect())
}

/// An archive that makes the file of an attempt a new one.
///
/// # Errors
/// When an archive cannot hold it.
pub fn empty_file(container: &str, attempt: u32) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(FILE_MODE);
    header.set_size(0);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, file(container, attempt), &[][..])?;
    tar.into_inner()
}

/// The mode of files: whatever user a container has writes it.
pub const FILE_MODE: u32 = 0o666;

/// Whether a container that ended with this code shows the end of its log when it left no message.
pub fn falls_back(container: &Container, exit_code: i32) -> bool {
    exit_code != 0 && container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError")
}

/// The end of what a program wrote as text of at most so many bytes.
pub fn text_of(bytes: &[u8], bytes_max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut from = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}

/// As much of a message as a container of this pod may have.
pub fn bounded(mut message: String, spec: &PodSpec) -> String {
    let others = spec.init_containers.iter().flatten().count() + spec.ephemeral_containers.iter().flatten().count();
    let share = POD_BYTES_MAX / (spec.containers.len() + others).max(1);
    let mut to = share.min(message.len());
    while !message.is_char_boundary(to) {
        to -= 1;
    }
    message.truncate(to);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str) -> Pod {
        crate::testing::from_yaml(&format!("{{metadata: {{name: web}}, spec: {spec}}}")).unwrap()
    }

    #[test]
    fn attempts_that_follow_each_other_have_files_of_their_own() {
        let files: Vec<String> = (0..5).map(|attempt| file("app", attempt)).collect();
        assert_eq!(files[0], ".termination-logs/app.0");
        assert_eq!((files[4].clone(), is_used_again(4)), (files[0].clone(), true));
        let (directory, made) = files_for("app init");
        assert!(directory == ".termination-logs" && made[..4] == files[..4] && made.len() == 8, "{made:?}");
    }

    #[test]
    fn a_relative_path_begins_at_the_root_and_an_empty_one_is_none() {
        let path = |path: &str| {
            path_in(
                &pod(&format!("{{containers: [{{name: a, terminationMessagePath: '{path}'}}]}}"))
                    .spec
                    .unwrap()
                    .containers[0],
            )
        };
        assert_eq!(path("/dev/termination-log").as_deref(), Some("/dev/termination-log"));
        assert_eq!(path("tmp/why").as_deref(), Some("/tmp/why"));
        assert_eq!(path(""), None);
        assert_eq!(wanted(&pod("{containers: [{name: a}]}")), None);
        let both = "{containers: [{name: a, terminationMessagePath: /a}], initContainers: [{name: b, terminationMessagePath: /b}]}";
        assert_eq!(wanted(&pod(both)).as_deref(), Some("a b"));
    }

    #[test]
    fn messages_are_cut_between_characters_and_share_what_a_pod_may_have() {
        assert_eq!(text_of("xyö".as_bytes(), 2), "ö");
        assert_eq!(text_of("xyö".as_bytes(), 1), "");
        assert_eq!(text_of(&[0xff; 4], 6), "\u{fffd}\u{fffd}");
        let of = |n: usize| {
            let names: Vec<String> = (0..n).map(|n| format!("{{name: c{n}}}")).collect();
            pod(&format!("{{containers: [{}]}}", names.join(", "))).spec.unwrap()
        };
        let message = "ö".repeat(MESSAGE_BYTES_MAX / 2);
        let lengths = [1, 3, 4, 5].map(|n| bounded(message.clone(), &of(n)).len());
        assert_eq!(lengths, [4096, 4096, 3072, 2456]);
    }
}
