//! The claim on a cluster: at most one control plane on this machine runs the cluster of a name on an engine, whoever started it and
//! wherever its state is.
//!
//! Taken by `app` at its start, before anything is made, and by `skiff down`, so that neither acts under the other.
//!
//! The claim is a unix socket in the abstract namespace, named by a hash of the engine's ID and the cluster's name. It is bound for as
//! long as its process lives and gone with it, whatever HOME or user that process has. Who finds it taken connects to it and is told
//! where the first one lives; the kernel, not the holder, says which process that is. `skiff down` also asks it to end: nothing is
//! ever ended by a number that was written down.
//!
//! **Where it holds**: in one network namespace. A skiff in a container is in the host's when it runs with the host's network, as
//! `docker-compose.yml` has it; otherwise, and on another machine, the state's identity on the network is what refuses (`owner`).
//!
//! A standby asks to wait: its connection stays open, and ends with the holder, whatever ends that. A holder that is removed says so before,
//! so that nobody takes the place of what is no more. A holder that hangs is ended by its standby (`hung`).
//!
//! **Bounds**: [`CLIENTS`] askers at a time, [`PATIENCE`] and [`LINE_MAX`] each; [`STANDBYS`] of them may wait.

use super::{
    data_dir::DataDir,
    hung::{self, ASK_EVERY, Fenced, Silence},
};
use crate::base::{
    json,
    task::{self, DrainTrigger},
};
use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    io,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
    time::Instant,
};
use tracing::{info, warn};

/// Askers that are answered at the same time.
const CLIENTS: usize = 16;
/// How long an asker, or a holder, may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest line that is read.
const LINE_MAX: u64 = 16 << 10;
/// How long the control plane may take to end when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const PACE: Duration = Duration::from_millis(20);

/// How many may stand by.
const STANDBYS: usize = 4;
/// How long a process may take to be gone whose claim is.
const EXIT_MAX: Duration = Duration::from_millis(300);

const WHO: &str = "who";
const WAIT: &str = "wait";
/// What those who wait are told when the cluster is removed.
const REMOVED: &str = "removed";
/// To end, and those who wait with it.
const STOP: &str = "stop";
/// To end, and leave its place to those who wait.
const LEAVE: &str = "leave";

/// What the holder of a claim does with the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Work {
    /// It runs it.
    Up,
    /// It removes it.
    Down,
}

/// What a holder says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    work: Work,
    /// The folder of its state, as it names it.
    data_dir: String,
    /// The folder itself: see [`DataDir::identity`].
    folder: Option<String>,
    /// The URL of its API, once it serves.
    server: Option<String>,
    /// Why it does not do what it was asked.
    refusal: Option<String>,
    /// How many stand by; holders of before this was told do not know.
    standbys: Option<usize>,
    /// Whether it has been asked to end.
    #[serde(default)]
    is_ending: bool,
}

/// What became of a control plane that was to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// None ran.
    NoneRan,
    /// It has ended.
    Ended,
    /// It has ended, and one that stood by takes its place.
    Succeeded,
}

/// A claim that is held. It ends when this is dropped, and at the latest with the process.
#[derive(Debug)]
pub struct Claim {
    server: Arc<OnceLock<String>>,
    standbys: Arc<Standbys>,
    answering: JoinHandle<()>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The task holds the socket.
        self.answering.abort();
    }
}

/// Those who wait for the claim.
#[derive(Debug, Default)]
struct Standbys {
    /// Whether the holder has been asked to end.
    is_ending: AtomicBool,
    /// Whether the cluster goes with the holder.
    is_removed: watch::Sender<bool>,
    waiting: AtomicUsize,
}

/// Who has a claim.
#[derive(Debug)]
pub struct Holder {
    /// Its process, as the kernel tells it; `None` where it cannot be seen from here.
    pid: Option<i32>,
    uid: u32,
    /// `None`: it does not answer.
    answer: Option<Answer>,
}

impl Claim {
    /// Claims the cluster for a control plane. `trigger` ends it when `skiff down` asks.
    ///
    /// # Errors
    /// Another has it: the text says who and where.
    pub async fn for_up(engine: &str, cluster: &str, dir: &Path, trigger: Arc<DrainTrigger>) -> anyhow::Result<Self> {
        match Self::take(engine, cluster, Work::Up, dir, Some(trigger)).await? {
            Ok(claim) => Ok(claim),
            Err(holder) => bail!(refusal(cluster, &holder)),
        }
    }

    /// Claims the cluster for a control plane as soon as the one that runs it from this very folder has ended, or was ended because it
    /// hung: then it is told which. `None`: the cluster was removed.
    ///
    /// # Errors
    /// Another than that has it: the text says who and where.
    pub async fn for_standby(
        engine: &str,
        cluster: &str,
        dir: &Path,
        trigger: Arc<DrainTrigger>,
    ) -> anyhow::Result<Option<(Self, Option<Fenced>)>> {
        let (address, mut fenced) = (address(engine, cluster)?, None);
        loop {
            let holder = match Self::take(engine, cluster, Work::Up, dir, Some(Arc::clone(&trigger))).await? {
                Ok(claim) => return Ok(Some((claim, fenced))),
                Err(holder) => holder,
            };
            if !is_of_folder(&holder, dir) {
                bail!(refusal(cluster, &holder));
            }
            info!(component = "app", cluster, pid = holder.pid, "standing by");
            let outcome = tokio::select! {
                biased;
                outcome = outlast(&address) => outcome,
                () = until_it_hangs(&address) => {
                    fenced = end_hung(&address, dir).await.with_context(|| hangs(cluster, &holder))?.or(fenced);
                    continue;
                }
            };
            match outcome {
                Ok(Outcome::Free) => {}
                Ok(Outcome::Removed) => return Ok(None),
                Ok(Outcome::Refused(why)) => bail!("cannot stand by for the cluster {cluster}: {why}"),
                // It ended between the two looks.
                Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(err) => return Err(err).context("cannot wait for the end of the control plane"),
            }
        }
    }

    /// Tells those who wait that the cluster goes with this claim.
    pub fn ends_for_good(&self) {
        self.standbys.is_removed.send_replace(true);
    }

    /// Claims the cluster for its removal. The control plane that runs it from this very folder is asked to end, and waited for;
    /// says whether one was.
    ///
    /// # Errors
    /// It is run from another folder, or does not end.
    pub async fn for_down(engine: &str, cluster: &str, dir: &Path) -> anyhow::Result<(Self, bool)> {
        let holder = match Self::take(engine, cluster, Work::Down, dir, None).await? {
            Ok(claim) => return Ok((claim, false)),
            Err(holder) => holder,
        };
        check_stop(&holder, cluster, dir, "down")?;
        let asked = ask(&address(engine, cluster)?, STOP).await;
        check_end(cluster, asked.as_ref().ok())?;
        let ended = async {
            let mut every = tokio::time::interval(PACE);
            loop {
                every.tick().await;
                if let Ok(claim) = Self::take(engine, cluster, Work::Down, dir, None).await? {
                    return Ok((claim, true));
                }
            }
        };
        tokio::time::timeout(STOP_MAX, ended).await.unwrap_or_else(|_| Err(does_not_end(cluster, &holder, "down")))
    }

    /// Ends the control plane that runs the cluster from this very folder, and waits for its end. `first` had the claim before; where
    /// another has it now, the first one has ended already.
    ///
    /// # Errors
    /// It is run from another folder, or does not end.
    pub async fn stop(engine: &str, cluster: &str, dir: &Path, first: Option<Holder>) -> anyhow::Result<Stopped> {
        let address = address(engine, cluster)?;
        let stood_by = |holder: &Holder| holder.answer.as_ref().and_then(|a| a.standbys).is_some_and(|n| n > 0);
        let end = |is_succeeded: bool| if is_succeeded { Stopped::Succeeded } else { Stopped::Ended };
        let holder = match (Self::held_by(engine, cluster).await?, first) {
            (None, None) => return Ok(Stopped::NoneRan),
            (None, Some(first)) => return Ok(end(stood_by(&first))),
            (Some(now), Some(first)) if now.pid != first.pid => return Ok(Stopped::Succeeded),
            (Some(now), _) => now,
        };
        check_stop(&holder, cluster, dir, "stop")?;
        // One that does not know how many stand by ends them too.
        let knows = holder.answer.as_ref().is_some_and(|answer| answer.standbys.is_some());
        let asked = ask(&address, if knows { LEAVE } else { STOP }).await;
        check_end(cluster, asked.as_ref().ok())?;
        let ended = async {
            let mut every = tokio::time::interval(PACE);
            loop {
                every.tick().await;
                match Self::held_by(engine, cluster).await? {
                    None => return Ok(end(stood_by(&holder))),
                    Some(Holder { answer: Some(answer), .. }) if !answer.is_ending => return Ok(Stopped::Succeeded),
                    Some(_) => {}
                }
            }
        };
        tokio::time::timeout(STOP_MAX, ended).await.unwrap_or_else(|_| Err(does_not_end(cluster, &holder, "stop")))
    }

    /// Who has the claim; `None`: nobody.
    ///
    /// # Errors
    /// It cannot be seen.
    pub async fn held_by(engine: &str, cluster: &str) -> anyhow::Result<Option<Holder>> {
        match ask(&address(engine, cluster)?, WHO).await {
            Ok(holder) => Ok(Some(holder)),
            Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            Err(err) => Err(err).with_context(|| format!("cannot see who runs the cluster {cluster}")),
        }
    }

    /// Who has the claim, for people; `None`: nobody.
    pub async fn holder(engine: &str, cluster: &str) -> anyhow::Result<Option<String>> {
        Ok(Self::held_by(engine, cluster).await?.as_ref().map(process))
    }

    /// Says where the API is served.
    pub fn serves(&self, url: &str) {
        drop(self.server.set(url.to_owned()));
    }

    async fn take(
        engine: &str,
        cluster: &str,
        work: Work,
        dir: &Path,
        trigger: Option<Arc<DrainTrigger>>,
    ) -> anyhow::Result<Result<Self, Holder>> {
        let address = address(engine, cluster)?;
        let mut tries = 0..10;
        let listener = loop {
            match StdListener::bind_addr(&address) {
                Ok(listener) => break listener,
                Err(err) if err.kind() == io::ErrorKind::AddrInUse => {}
                Err(err) => return Err(err).with_context(|| format!("cannot claim the cluster {cluster}")),
            }
            match ask(&address, WHO).await {
                Ok(holder) => return Ok(Err(holder)),
                // It ended between the two looks.
                Err(err) if err.kind() == io::ErrorKind::ConnectionRefused && tries.next().is_some() => {}
                Err(err) => {
                    return Err(err).with_context(|| format!("the cluster {cluster} is claimed by another process"));
                }
            }
        };
        listener.set_nonblocking(true).context("cannot claim the cluster")?;
        let listener = UnixListener::from_std(listener).context("cannot claim the cluster")?;
        let (server, said) = (Arc::new(OnceLock::new()), dir.to_owned());
        let url = Arc::clone(&server);
        let standbys = Arc::new(Standbys::default());
        let theirs = Arc::clone(&standbys);
        let say = move |refusal| {
            let dir = DataDir::at(&said);
            Answer {
                work,
                data_dir: std::path::absolute(&said).unwrap_or_else(|_| said.clone()).display().to_string(),
                folder: dir.identity(),
                server: url.get().cloned(),
                refusal,
                standbys: Some(theirs.waiting.load(Ordering::Relaxed)),
                is_ending: theirs.is_ending.load(Ordering::Relaxed),
            }
        };
        let answering = answer_all(listener, say, trigger, Arc::clone(&standbys));
        let answering = task::spawn_in_no_group("claim", answering);
        Ok(Ok(Self { server, standbys, answering }))
    }
}

/// Refuses to end a holder that does not run the cluster from this folder.
fn check_stop(holder: &Holder, cluster: &str, dir: &Path, command: &str) -> anyhow::Result<()> {
    let folder = DataDir::at(dir).identity();
    let is_this = |a: &Answer| a.work == Work::Up && folder.is_some() && a.folder == folder;
    if !holder.answer.as_ref().is_some_and(is_this) {
        let undone = if command == "down" { "removed" } else { "stopped" };
        bail!("{}. Nothing was {undone}", refusal(cluster, holder));
    }
    Ok(())
}

/// Refuses where a holder that was asked to end does not.
fn check_end(cluster: &str, asked: Option<&Holder>) -> anyhow::Result<()> {
    match asked {
        Some(Holder { answer: Some(Answer { refusal: Some(why), .. }), .. }) => {
            bail!("the running `skiff up` of the cluster {cluster} does not end: {why}")
        }
        _ => Ok(()),
    }
}

fn does_not_end(cluster: &str, holder: &Holder, command: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "the running `skiff up` of the cluster {cluster}{} does not end: end it, then run `skiff {command}` again",
        process(holder)
    )
}

/// The name of the claim's socket. It does not tell what it is made from.
fn address(engine: &str, cluster: &str) -> anyhow::Result<SocketAddr> {
    let hash = Sha256::digest(format!("{engine}\0{cluster}"));
    let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    SocketAddr::from_abstract_name(format!("skiff-cluster-{digits}")).context("cannot name the cluster's claim")
}

/// Why a cluster cannot be had.
fn refusal(cluster: &str, holder: &Holder) -> String {
    let process = process(holder);
    match &holder.answer {
        Some(Answer { work: Work::Up, data_dir, server, .. }) => {
            let api = server.as_ref().map(|url| format!(", its API is {url}")).unwrap_or_default();
            format!(
                "another skiff runs the cluster {cluster} on this engine already{process}: its state is in {data_dir}{api}. \
                 Use that one (`skiff kubeconfig --name {cluster} --data-dir {data_dir}`), remove it (`skiff down --name {cluster} \
                 --data-dir {data_dir}`), or start another with --name"
            )
        }
        Some(Answer { work: Work::Down, .. }) => {
            format!("a `skiff down` is removing the cluster {cluster}{process}: wait until it has ended")
        }
        None => format!(
            "another process has the cluster {cluster} on this engine{process} and does not answer: end it, or choose another --name"
        ),
    }
}

/// Whether the holder runs the cluster from this folder: by its own word or, where it says nothing, by the folder's lock.
fn is_of_folder(holder: &Holder, dir: &Path) -> bool {
    let folder = DataDir::at(dir).identity();
    match &holder.answer {
        Some(answer) => answer.work == Work::Up && folder.is_some() && answer.folder == folder,
        None => holder.pid.is_some_and(|pid| hung::holds(pid, dir).unwrap_or(false)),
    }
}

fn hangs(cluster: &str, holder: &Holder) -> String {
    let process = process(holder);
    format!(
        "the control plane of the cluster {cluster}{process} does not answer, and cannot be ended: end it, then start again"
    )
}

/// Returns once the holder of a claim has not answered for the time of a Lease. Where there is none any more, never.
async fn until_it_hangs(address: &SocketAddr) {
    let (mut silence, mut last) = (Silence::default(), Instant::now());
    while !silence.left().is_zero() {
        let is_answered = match tokio::time::timeout(silence.left(), ask(address, WHO)).await {
            Ok(Ok(holder)) => holder.answer.is_some(),
            Ok(Err(err)) if err.kind() == io::ErrorKind::ConnectionRefused => return std::future::pending().await,
            Ok(Err(_)) | Err(_) => false,
        };
        silence.note(is_answered, last.elapsed());
        last = Instant::now();
        if is_answered {
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

/// Ends the holder of a claim that hangs, if it still has it and the folder.
async fn end_hung(address: &SocketAddr, dir: &Path) -> io::Result<Option<Fenced>> {
    let (address, dir): (SocketAddr, PathBuf) = (address.clone(), dir.to_owned());
    let holder = move || match StdStream::connect_addr(&address) {
        Ok(stream) => {
            stream.set_nonblocking(true)?;
            Ok(UnixStream::from_std(stream)?.peer_cred()?.pid().filter(|pid| *pid > 0))
        }
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        Err(err) => Err(err),
    };
    let fenced = tokio::task::spawn_blocking(move || hung::end(&dir, holder)).await.map_err(io::Error::other)??;
    if let Some(fenced) = fenced {
        warn!(component = "app", pid = fenced.pid, "a control plane that did not answer was killed");
    }
    Ok(fenced)
}

fn process(holder: &Holder) -> String {
    holder.pid.map(|pid| format!(" (process {pid} of user {})", holder.uid)).unwrap_or_default()
}

/// Asks the holder of a claim.
async fn ask(address: &SocketAddr, word: &str) -> io::Result<Holder> {
    let stream = StdStream::connect_addr(address)?;
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    let peer = stream.peer_cred()?;
    let talk = async {
        stream.write_all(format!("{word}\n").as_bytes()).await?;
        read_line(&mut stream).await
    };
    let line = tokio::time::timeout(PATIENCE, talk).await.ok().and_then(Result::ok);
    let answer = line.and_then(|line| json::read(line.as_bytes()).ok());
    Ok(Holder { pid: peer.pid().filter(|pid| *pid > 0), uid: peer.uid(), answer })
}

/// How a wait for the holder of a claim ended.
enum Outcome {
    /// The holder is gone.
    Free,
    /// The cluster is removed.
    Removed,
    /// The holder lets nobody wait, for this reason.
    Refused(String),
}

/// Waits until the holder of a claim is gone.
async fn outlast(address: &SocketAddr) -> io::Result<Outcome> {
    let stream = StdStream::connect_addr(address)?;
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    let process = stream.peer_cred()?.pid().and_then(exit_of);
    stream.write_all(format!("{WAIT}\n").as_bytes()).await?;
    let mut lines = BufReader::new(stream.take(LINE_MAX)).lines();
    // A holder that breaks off is as good as one that closes.
    let first = lines.next_line().await.ok().flatten();
    if let Some(why) = first.and_then(|line| json::read::<Answer>(line.as_bytes()).ok()?.refusal) {
        return Ok(Outcome::Refused(why));
    }
    if lines.next_line().await.ok().flatten().as_deref() == Some(REMOVED) {
        return Ok(Outcome::Removed);
    }
    // The claim is free a moment before the store of a process that was killed is.
    if let Some(process) = process {
        // It cannot be waited for where the kernel says so: then the store tells whether it is free.
        drop(tokio::task::spawn_blocking(move || hung::is_gone(&process, EXIT_MAX)).await);
    }
    Ok(Outcome::Free)
}

/// What can be read once a process is gone; `None`: it cannot be seen from here, or is this one.
fn exit_of(pid: i32) -> Option<OwnedFd> {
    let other = Pid::from_raw(pid).filter(|pid| *pid != rustix::process::getpid())?;
    pidfd_open(other, PidfdFlags::empty()).ok()
}

async fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line).await?;
    Ok(line)
}

/// Answers until it is aborted.
async fn answer_all(
    listener: UnixListener,
    say: impl Fn(Option<String>) -> Answer + Sync,
    trigger: Option<Arc<DrainTrigger>>,
    standbys: Arc<Standbys>,
) {
    let (say, trigger, standbys) = (&say, trigger.as_deref(), &*standbys);
    let clients = futures::stream::unfold(&listener, |listener| async move {
        // A client that went away before its turn is no reason to end; nor is a moment without descriptors.
        Some((listener.accept().await, listener))
    });
    let answer_one = |client: io::Result<(UnixStream, _)>| async move {
        match client {
            // A client that does not read or write in time has had its chance.
            Ok((mut stream, _)) => {
                let answered = answer(&mut stream, say, trigger, standbys);
                if let Ok(Ok(Some(place))) = tokio::time::timeout(PATIENCE, answered).await {
                    keep_waiting(&mut stream, place).await;
                }
            }
            Err(_) => tokio::time::sleep(PACE).await,
        }
    };
    clients.for_each_concurrent(CLIENTS, answer_one).await;
}

async fn answer<'s>(
    stream: &mut UnixStream,
    say: &(impl Fn(Option<String>) -> Answer + Sync),
    trigger: Option<&DrainTrigger>,
    standbys: &'s Standbys,
) -> io::Result<Option<Place<'s>>> {
    let peer = stream.peer_cred()?;
    let word = read_line(stream).await?;
    let (wants_removal, wants_wait) = (word.trim() == STOP, word.trim() == WAIT);
    let wants_stop = wants_removal || word.trim() == LEAVE;
    let own = rustix::process::geteuid().as_raw();
    let is_stranger = peer.uid() != own && peer.uid() != 0;
    let place = if wants_wait && !is_stranger { Place::take(standbys) } else { None };
    let refusal = match trigger {
        _ if wants_wait && is_stranger => Some(format!("it belongs to user {own}: stand by as that user or as root")),
        _ if wants_wait && place.is_none() => Some(format!("{STANDBYS} stand by already")),
        _ if !wants_stop => None,
        None => Some("it is being removed".to_owned()),
        Some(_) if is_stranger => Some(format!("it belongs to user {own}: end it as that user or as root")),
        Some(_) => None,
    };
    let will_stop = wants_stop && refusal.is_none();
    standbys.is_ending.fetch_or(will_stop, Ordering::Relaxed);
    let text = serde_json::to_string(&say(refusal)).map_err(io::Error::other)?;
    let told = stream.write_all(format!("{text}\n").as_bytes()).await;
    if let Some(trigger) = trigger.filter(|_| will_stop) {
        if wants_removal {
            standbys.is_removed.send_replace(true);
        }
        trigger.fire();
    }
    told.map(|()| place)
}

/// A place among those who wait.
struct Place<'s>(&'s Standbys);

impl<'s> Place<'s> {
    fn take(standbys: &'s Standbys) -> Option<Self> {
        let place = Self(standbys);
        (standbys.waiting.fetch_add(1, Ordering::Relaxed) < STANDBYS).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets a client wait until it goes away or is told that there is nothing to wait for.
async fn keep_waiting(stream: &mut UnixStream, place: Place<'_>) {
    let mut removed = place.0.is_removed.subscribe();
    let is_removed = tokio::select! {
        biased;
        removed = removed.wait_for(|is_removed| *is_removed) => removed.is_ok(),
        _gone = stream.read_u8() => false,
    };
    if is_removed {
        // A client that does not read has gone, or has had its chance.
        drop(tokio::time::timeout(PATIENCE, stream.write_all(format!("{REMOVED}\n").as_bytes())).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::task::drain_signal;

    fn engine(test: &str) -> String {
        format!("{test}-{}", std::process::id())
    }

    #[tokio::test]
    async fn the_second_is_told_where_the_first_lives() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let engine = engine("second");
        let (trigger, _drain) = drain_signal();
        let trigger = Arc::new(trigger);
        let first = Claim::for_up(&engine, "skiff", one.path(), Arc::clone(&trigger)).await.unwrap();
        first.serves("https://127.0.0.1:6443");
        let said = Claim::for_up(&engine, "skiff", two.path(), Arc::clone(&trigger)).await.unwrap_err().to_string();
        let folder = one.path().display().to_string();
        let process = format!("process {}", std::process::id());
        for part in [&folder, "https://127.0.0.1:6443", &process, "--name"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        drop(Claim::for_up(&engine, "other", two.path(), Arc::clone(&trigger)).await.unwrap());
        drop(Claim::for_up("elsewhere", "skiff", two.path(), Arc::clone(&trigger)).await.unwrap());
        drop(first);
        // The socket is closed when the aborted task is dropped, which is at the next turn of the loop.
        tokio::task::yield_now().await;
        drop(Claim::for_up(&engine, "skiff", two.path(), trigger).await.unwrap());
    }

    #[tokio::test]
    async fn down_ends_the_one_of_its_folder_and_no_other() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let engine = engine("down");
        let (trigger, drain) = drain_signal();
        let running = Claim::for_up(&engine, "skiff", one.path(), Arc::new(trigger)).await.unwrap();
        let said = Claim::for_down(&engine, "skiff", two.path()).await.unwrap_err().to_string();
        assert!(said.contains(&one.path().display().to_string()) && said.contains("Nothing was removed"), "{said}");
        let up = async {
            drain.drained().await;
            drop(running);
        };
        let (claimed, ()) = tokio::join!(Claim::for_down(&engine, "skiff", one.path()), up);
        let (removal, was_running) = claimed.unwrap();
        assert!(was_running);
        let (trigger, _drain) = drain_signal();
        let said = Claim::for_up(&engine, "skiff", one.path(), Arc::new(trigger)).await.unwrap_err().to_string();
        assert!(said.contains("`skiff down` is removing"), "{said}");
        drop(removal);
    }

    #[tokio::test]
    async fn a_standby_takes_the_claim_when_its_holder_ends_and_none_that_is_removed() {
        let one = tempfile::tempdir().unwrap();
        let engine = engine("standby");
        let claim = |trigger| Claim::for_standby(&engine, "skiff", one.path(), Arc::new(trigger));
        let (first, fenced) = claim(drain_signal().0).await.unwrap().expect("nobody has it");
        assert_eq!(fenced, None);
        let ends = async {
            let waiting = &first.standbys.waiting;
            while waiting.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            drop(first);
        };
        let (second, ()) = tokio::join!(claim(drain_signal().0), ends);
        let (second, fenced) = second.unwrap().expect("its holder has ended");
        assert_eq!(fenced, None, "it ended by itself");
        let removed = async {
            while second.standbys.waiting.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            second.ends_for_good();
        };
        let (third, ()) = tokio::join!(claim(drain_signal().0), removed);
        assert!(third.unwrap().is_none(), "nobody takes the place of what is removed");
        let elsewhere = tempfile::tempdir().unwrap();
        let (trigger, _drain) = drain_signal();
        let other = Claim::for_standby(&engine, "skiff", elsewhere.path(), Arc::new(trigger)).await;
        assert!(other.unwrap_err().to_string().contains("its state is in"));
    }

    #[tokio::test]
    async fn who_stands_by_takes_the_place_of_one_that_is_stopped() {
        let one = tempfile::tempdir().unwrap();
        let engine = engine("stop");
        let stop = || Claim::stop(&engine, "skiff", one.path(), None);
        assert_eq!(stop().await.unwrap(), Stopped::NoneRan);
        let claim = |trigger| Claim::for_standby(&engine, "skiff", one.path(), Arc::new(trigger));
        let (trigger, drain) = drain_signal();
        let (first, _) = claim(trigger).await.unwrap().expect("nobody has it");
        let first_ends = async {
            drain.drained().await;
            drop(first);
        };
        let (trigger, drain) = drain_signal();
        let stopped = async {
            while Claim::held_by(&engine, "skiff").await.unwrap().unwrap().answer.unwrap().standbys == Some(0) {
                tokio::task::yield_now().await;
            }
            stop().await.unwrap()
        };
        let (second, stopped, ()) = tokio::join!(claim(trigger), stopped, first_ends);
        assert_eq!(stopped, Stopped::Succeeded);
        let (second, _) = second.unwrap().expect("its holder has ended, and the cluster is there");
        let second_ends = async {
            drain.drained().await;
            drop(second);
        };
        let (stopped, ()) = tokio::join!(stop(), second_ends);
        assert_eq!(stopped.unwrap(), Stopped::Ended);
    }

    #[tokio::test]
    async fn askers_that_say_nothing_keep_nobody_out() {
        let one = tempfile::tempdir().unwrap();
        let engine = engine("silent");
        let (trigger, _drain) = drain_signal();
        let trigger = Arc::new(trigger);
        let running = Claim::for_up(&engine, "skiff", one.path(), Arc::clone(&trigger)).await.unwrap();
        let address = address(&engine, "skiff").unwrap();
        let silent: Vec<_> = (1..CLIENTS).map(|_| StdStream::connect_addr(&address).unwrap()).collect();
        let said = Claim::for_up(&engine, "skiff", one.path(), trigger).await.unwrap_err().to_string();
        assert!(said.contains("its state is in"), "{said}");
        drop((silent, running));
    }
}
