//! What goes wrong with calls and events, by plan. Pure but for the chance that it is given.

use crate::base::rng::Rng;
use std::time::Duration;

/// The calls of [`Engine`](crate::engine::Engine), one each.
#[allow(missing_docs, reason = "each is the method of the same name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallKind {
    Info,
    Neighbours,
    List,
    Inspect,
    Usage,
    Create,
    Start,
    Kill,
    Update,
    Remove,
    Upload,
    CopyImageFiles,
    FileEnd,
    Exec,
    ExecSession,
    ExecCode,
    ResizeTerminal,
    Attach,
    Logs,
    Image,
    Images,
    Pull,
    Push,
    FindInRegistry,
    ImportImage,
    DeriveImage,
    TagImage,
    RemoveImage,
    Network,
    CreateNetwork,
    RemoveNetwork,
    CreateVolume,
    Volumes,
    RemoveVolume,
}

impl CallKind {
    /// How error texts name the call.
    pub fn words(self) -> &'static str {
        match self {
            Self::Info => "ask the engine for its version",
            Self::Neighbours => "list containers of others",
            Self::List => "list containers",
            Self::Inspect => "inspect container",
            Self::Usage => "read the usage of container",
            Self::Create => "create container",
            Self::Start => "start container",
            Self::Kill => "signal container",
            Self::Update => "update container",
            Self::Remove => "remove container",
            Self::Upload => "upload into container",
            Self::CopyImageFiles => "copy the files of container",
            Self::FileEnd => "read file in container",
            Self::Exec | Self::ExecSession => "exec in container",
            Self::ExecCode => "inspect exec in container",
            Self::ResizeTerminal => "resize the terminal in container",
            Self::Attach => "attach to container",
            Self::Logs => "read log of container",
            Self::Image => "inspect image",
            Self::Images => "list images",
            Self::Pull => "pull image",
            Self::Push => "push image",
            Self::FindInRegistry => "find image in registry",
            Self::ImportImage => "import image",
            Self::DeriveImage => "derive image",
            Self::TagImage => "tag image",
            Self::RemoveImage => "remove image",
            Self::Network => "inspect network",
            Self::CreateNetwork => "create network",
            Self::RemoveNetwork => "remove network",
            Self::CreateVolume => "create volume",
            Self::Volumes => "list volumes",
            Self::RemoveVolume => "remove volume",
        }
    }
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails before it has an effect.
    FailBefore,
    /// The engine refuses it: `Invalid`, and it has no effect.
    Refuse,
    /// It has its effect, and no answer comes: `TimedOut` after the bound.
    LostReply,
    /// It has its effect, and the connection breaks at once: `Failed`.
    CutReply,
    /// It works, later.
    Slow(Duration),
    /// The daemon goes away before the call has an effect, and is back after `down`.
    DaemonRestart {
        /// For how long it is away.
        down: Duration,
        /// Whether its containers end with it.
        stop_containers: bool,
    },
}

/// A fault for some calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallFault {
    /// Which calls; `None` is every call.
    pub call: Option<CallKind>,
    /// What goes wrong.
    pub fault: Fault,
    /// One call in so many meets it; 1 is every one.
    pub one_in: u64,
    /// It happens so many times at most.
    pub times: u32,
}

/// What goes wrong with an event, for every stream alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFaultKind {
    /// It is not sent.
    Lost,
    /// It is sent twice.
    Doubled,
    /// It is sent later, after events that came after it.
    Late(Duration),
}

/// A fault for some events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFault {
    /// What goes wrong.
    pub fault: EventFaultKind,
    /// One event in so many meets it; 1 is every one.
    pub one_in: u64,
    /// It happens so many times at most.
    pub times: u32,
}

/// What is to go wrong. The first entry that fits is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// With calls.
    pub calls: Vec<CallFault>,
    /// With events.
    pub events: Vec<EventFault>,
}

/// A call that is to come, among all or among some.
#[derive(Debug)]
struct Nth {
    n: u64,
    fault: Fault,
    of: Option<&'static [CallKind]>,
}

/// The plan and how far it has come.
#[derive(Debug, Default)]
pub(super) struct Faults {
    plan: FaultPlan,
    nth: Option<Nth>,
}

impl Faults {
    pub(super) fn set_plan(&mut self, plan: FaultPlan) {
        self.plan = plan;
    }

    pub(super) fn set_nth(&mut self, n: u64, fault: Fault, of: Option<&'static [CallKind]>) {
        assert!(n > 0, "calls are counted from 1");
        self.nth = Some(Nth { n, fault, of });
    }

    pub(super) fn nth_is_pending(&self) -> bool {
        self.nth.is_some()
    }

    pub(super) fn for_call(&mut self, kind: CallKind, rng: &Rng) -> Option<Fault> {
        if let Some(nth) = self.nth.take_if(|nth| nth.of.is_none_or(|of| of.contains(&kind))) {
            if nth.n == 1 {
                return Some(nth.fault);
            }
            self.nth = Some(Nth { n: nth.n - 1, ..nth });
        }
        let fits = |f: &CallFault| f.times > 0 && f.call.is_none_or(|call| call == kind);
        let hit = self.plan.calls.iter_mut().find(|f| fits(f) && rng.one_in(f.one_in))?;
        hit.times -= 1;
        Some(hit.fault)
    }

    pub(super) fn for_event(&mut self, rng: &Rng) -> Option<EventFaultKind> {
        let hit = self.plan.events.iter_mut().find(|f| f.times > 0 && rng.one_in(f.one_in))?;
        hit.times -= 1;
        Some(hit.fault)
    }
}
