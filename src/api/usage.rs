//! What pods use, as plain values: what the node measures, what the server shows, and what the autoscaler goes by.

use super::meta::ObjectKey;
use crate::base::{ordered::Map, traffic::InterfaceUsage};
use jiff::Timestamp;
use std::time::Duration;

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Its name in its pod.
    pub name: String,
    /// The engine's ID of it.
    pub id: String,
    /// Its image, as the pod has it.
    pub image: String,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// How fast it used processors over the time that was measured, in billionths of one.
    pub cpu_nano_cores: u64,
    /// Processor time since it started, in billionths of a second.
    pub cpu_nanos: u64,
    /// Memory in use, the file cache included, in bytes.
    pub memory_bytes: u64,
    /// Memory that the kernel cannot take back at once, in bytes.
    pub working_set_bytes: u64,
    /// Memory that is backed by no file, in bytes.
    pub rss_bytes: u64,
    /// What it read from disks and wrote to them.
    pub disks: Vec<DiskUsage>,
}

/// What a container read from a disk and wrote to it since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// The disk, as a path of the machine.
    pub device: String,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// What is used of the machine beside what containers use of processors and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineUsage {
    /// The network interfaces of each pod that has its own, by the pod's UID and their names, e.g. `eth0`.
    pub interfaces: Map<String, Map<String, InterfaceUsage>>,
    /// The size of the engine's disk, in bytes; 0: not known.
    pub disk_bytes: u64,
    /// How much of it is free, in bytes.
    pub disk_free_bytes: u64,
}

/// What the running containers of a pod use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodUsage {
    /// Which pod.
    pub key: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// When it was measured last.
    pub at: Timestamp,
    /// How long was measured until then.
    pub window: Duration,
    /// Its containers that run.
    pub containers: Vec<ContainerUsage>,
}

impl PodUsage {
    /// The sum over its containers.
    pub fn total(&self, of: impl Fn(&ContainerUsage) -> u64) -> u64 {
        self.containers.iter().map(of).sum()
    }
}
