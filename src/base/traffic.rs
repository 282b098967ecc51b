//! What went through a network interface: how the engine tells it, and how the API does.

/// What went through a network interface since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceUsage {
    /// Into the container or pod that has it.
    pub received: Flow,
    /// Out of it.
    pub sent: Flow,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub struct Flow {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}
