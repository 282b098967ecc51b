//! `skiff pause`: the program of a pod's sandbox. It holds the pod's network and IPC namespaces open and reaps orphans.
//!
//! The binary calls it before anything else is started: no runtime, a few pages of memory.
//! At its start it writes what the node agent gives it: `/etc/hosts`, `/etc/resolv.conf`, the files of the pod's volumes and those for
//! termination messages; then it prints `ready`. For the data plane's pod it also answers for the ClusterIPs and keeps the sockets of
//! Services (`net::sockets::store`), in a thread of its own.
//! `skiff pause --publish DIR`, run beside it, makes files that were uploaded since the current ones.
//!
//! **Invariants**: it ends at once on `SIGTERM` and `SIGINT`; `/etc/hosts` and `/etc/resolv.conf` are written in place, because
//! app containers that join the sandbox's network share these very files; files of volumes change all at once.
//!
//! **Not here**: what the files hold (`node::translate`, `node::volumes`).

use crate::{
    base::descriptors,
    net::{netlink, sockets::store::Store},
    node::{
        sandbox::{SERVICE_RANGE, SOCKET_STORE},
        termination,
        translate::{ETC_HOSTS, FILES, FILES_IN_INPUT, RESOLV_CONF, network::POD_IP},
        volumes::{CLAIMS, FILES_READY, MOUNT_POINT, publish_all},
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustix::{
    io::Errno,
    process::{WaitOptions, wait},
};
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    fs::{File, Permissions},
    io::{self, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Files that the environment may give: which variable holds the content of which.
const TEXTS: [(&str, &str); 2] = [(ETC_HOSTS, "/etc/hosts"), (RESOLV_CONF, "/etc/resolv.conf")];
/// The store of sockets needs little stack.
const STORE_STACK_BYTES: usize = 128 * 1024;
/// Stands for what the engine wrote into a file.
const BEFORE: &str = "${HOSTS}";

/// What can go wrong before the wait begins.
#[derive(Debug, thiserror::Error)]
enum PauseError {
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    #[error("cannot write {0}")]
    Write(String, #[source] io::Error),
    #[error("cannot read the files of the pod's volumes")]
    Encoding(#[source] base64::DecodeError),
    #[error("cannot read the files of the pod's volumes from the input")]
    Input(#[source] io::Error),
    #[error("cannot write the files of the pod's volumes")]
    Volumes(#[source] io::Error),
    #[error("cannot answer for the ClusterIPs {0}")]
    Services(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot keep sockets in {0}")]
    Sockets(String, #[source] io::Error),
}

/// The arguments of `skiff pause`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Make the files that were uploaded below this directory the current ones, and end
    #[arg(long, value_name = "DIR")]
    publish: Option<PathBuf>,
}

/// Runs until it is told to stop, or publishes files and ends.
pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.publish {
        Some(directory) => Ok(publish_all(directory, Path::new(CLAIMS)).map(drop).map_err(PauseError::Volumes)?),
        None => hold(),
    }
}

fn hold() -> anyhow::Result<()> {
    // The first process gets no signal that it does not handle, so handlers come before everything else.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGCHLD]).map_err(PauseError::Signals)?;
    let var = |name: &str| std::env::var(name).ok();
    write_texts(&TEXTS, var)?;
    write_volumes(Path::new(MOUNT_POINT), files(var)?)?;
    make_termination_logs(Path::new(MOUNT_POINT), var(termination::LOGS))?;
    answer_for(var(SERVICE_RANGE))?;
    keep_sockets(var(SOCKET_STORE))?;
    // The agent waits for this line before it starts containers that mount the files; nobody else reads it.
    writeln!(io::stdout(), "{FILES_READY}").map_err(|err| PauseError::Write("standard output".into(), err))?;
    reap();
    for signal in signals.forever() {
        if signal != SIGCHLD {
            break;
        }
        reap();
    }
    Ok(())
}

/// Writes what the environment gives; a variable that is not set leaves the engine's file as it is.
fn write_texts(files: &[(&str, &str)], var: impl Fn(&str) -> Option<String>) -> Result<(), PauseError> {
    for (name, path) in files {
        if let Some(content) = var(name) {
            let before = std::fs::read_to_string(path).unwrap_or_default();
            std::fs::write(path, filled_in(&content, &before)).map_err(|err| PauseError::Write((*path).into(), err))?;
        }
    }
    Ok(())
}

/// The content with what only the sandbox knows: its address, which the engine has written into `/etc/hosts`.
fn filled_in(content: &str, before: &str) -> String {
    let mut addresses = before.lines().filter_map(|line| line.split_whitespace().next()?.parse::<Ipv4Addr>().ok());
    let own = addresses.find(|ip| !ip.is_loopback());
    let lines = content.replace(BEFORE, before);
    match own {
        Some(ip) => lines.replace(POD_IP, &ip.to_string()),
        // Without an address there is no line for it.
        None => lines.split_inclusive('\n').filter(|line| !line.contains(POD_IP)).collect(),
    }
}

/// The archive of files that the environment gives, or the input where the environment says so.
fn files(var: impl Fn(&str) -> Option<String>) -> Result<Option<Vec<u8>>, PauseError> {
    if var(FILES_IN_INPUT).is_some() {
        return read_input(&mut io::stdin().lock()).map(Some).map_err(PauseError::Input);
    }
    var(FILES).map(|text| BASE64_STANDARD.decode(text).map_err(PauseError::Encoding)).transpose()
}

/// An archive behind its length. An input that ends before is none: whoever gave it has gone, and another sandbox is made.
fn read_input(input: &mut impl io::Read) -> io::Result<Vec<u8>> {
    let mut length = [0; size_of::<u64>()];
    input.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    let mut archive = Vec::new();
    input.take(length).read_to_end(&mut archive)?;
    match u64::try_from(archive.len()) {
        Ok(read) if read == length => Ok(archive),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Unpacks these files and shows them, and those that were uploaded before the start.
fn write_volumes(root: &Path, files: Option<Vec<u8>>) -> Result<(), PauseError> {
    if let Some(bytes) = files {
        let mut archive = tar::Archive::new(&bytes[..]);
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(true);
        archive.unpack(root).map_err(PauseError::Volumes)?;
    }
    if root.exists() {
        publish_all(root, Path::new(CLAIMS)).map_err(PauseError::Volumes)?;
    }
    Ok(())
}

/// Makes the ClusterIPs addresses of the sandbox's network, if it is told their range.
fn answer_for(services: Option<String>) -> Result<(), PauseError> {
    let Some(services) = services else { return Ok(()) };
    let failed = |why| PauseError::Services(services.clone(), why);
    let range = services.parse().map_err(|err| failed(Box::new(err)))?;
    netlink::answer_for(range).map_err(|err| failed(Box::new(err)))
}

/// Makes the files for termination messages that are not there yet: one of an earlier sandbox may hold a message.
fn make_termination_logs(root: &Path, wanted: Option<String>) -> Result<(), PauseError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let (directory, files) = termination::files_for(&wanted);
    let directory = root.join(directory);
    let failed = |path: &Path, err| PauseError::Write(path.display().to_string(), err);
    std::fs::create_dir_all(&directory).map_err(|err| failed(&directory, err))?;
    for path in files.iter().map(|file| root.join(file)) {
        match File::create_new(&path) {
            // The mode is not less than that, whatever the mask is.
            Ok(file) => file
                .set_permissions(Permissions::from_mode(termination::FILE_MODE))
                .map_err(|err| failed(&path, err))?,
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(failed(&path, err)),
        }
    }
    Ok(())
}

/// Keeps sockets for the pod's containers, if it is told where they look for that.
fn keep_sockets(directory: Option<String>) -> Result<(), PauseError> {
    let Some(directory) = directory else { return Ok(()) };
    descriptors::raise_limit();
    let failed = |err| PauseError::Sockets(directory.clone(), err);
    let store = Store::open(Path::new(&directory)).map_err(|errno| failed(errno.into()))?;
    let thread = std::thread::Builder::new().name("sockets".into()).stack_size(STORE_STACK_BYTES);
    let serve = move || {
        let _end = EndOfSandbox;
        let err = store.serve();
        // Nobody reads it but a person who looks why the sandbox ended.
        writeln!(io::stderr(), "sockets cannot be kept any more: {err}").ok();
    };
    thread.spawn(serve).map(drop).map_err(failed)
}

/// Ends the sandbox when the store of sockets ends, however that comes: a new one has a new store.
struct EndOfSandbox;

impl Drop for EndOfSandbox {
    fn drop(&mut self) {
        // It is handled, and so it arrives.
        signal_hook::low_level::raise(SIGTERM).ok();
    }
}

/// Collects every child that has ended. One signal may stand for several.
fn reap() {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chain::chain;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn files_are_written_in_place_and_only_when_given() {
        let dir = tempfile::tempdir().unwrap();
        let (hosts, resolv) = (dir.path().join("hosts"), dir.path().join("resolv.conf"));
        for path in [&hosts, &resolv] {
            std::fs::write(path, "what the engine wrote, and longer").unwrap();
        }
        let inode = std::fs::metadata(&hosts).unwrap().ino();
        let files = [("HOSTS", hosts.to_str().unwrap()), ("RESOLV", resolv.to_str().unwrap())];
        write_texts(&files, |name| (name == "HOSTS").then(|| "127.0.0.1\tlocalhost\n".to_owned())).unwrap();
        assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "127.0.0.1\tlocalhost\n");
        assert_eq!(std::fs::metadata(&hosts).unwrap().ino(), inode);
        assert_eq!(std::fs::read_to_string(&resolv).unwrap(), "what the engine wrote, and longer");
    }

    #[test]
    fn files_for_termination_messages_are_for_whatever_user_and_keep_what_they_hold() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(termination::file("app", 1));
        make_termination_logs(root.path(), Some("app init".into())).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o666);
        std::fs::write(&file, "why").unwrap();
        make_termination_logs(root.path(), Some("app init".into())).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "why");
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 8);
        let none = tempfile::tempdir().unwrap();
        make_termination_logs(none.path(), None).unwrap();
        assert_eq!(std::fs::read_dir(none.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_sandboxs_address_and_the_engines_names_are_filled_in() {
        let engine = "127.0.0.1\tlocalhost\n::1\tlocalhost\n10.244.0.7\tweb-1\n";
        assert_eq!(filled_in("${POD_IP}\tweb\n", engine), "10.244.0.7\tweb\n");
        assert_eq!(filled_in("a\n${POD_IP}\tweb\nb\n", "127.0.0.1\tlocalhost\n"), "a\nb\n");
        assert_eq!(filled_in("# mine\n${HOSTS}1.2.3.4\tx\n", "127.0.0.1\ty\n"), "# mine\n127.0.0.1\ty\n1.2.3.4\tx\n");
    }

    #[test]
    fn files_of_volumes_are_unpacked_and_shown() {
        let root = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind: tar::EntryType, link: &str, body: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o640);
            header.set_uid(rustix::process::getuid().as_raw().into());
            header.set_gid(rustix::process::getgid().as_raw().into());
            header.set_mtime(0);
            header.set_size(body.len() as u64);
            if link.is_empty() {
                tar.append_data(&mut header, path, body).unwrap();
            } else {
                tar.append_link(&mut header, path, link).unwrap();
            }
        };
        add("v/..1/k", tar::EntryType::Regular, "", b"value");
        add("v/..data_next", tar::EntryType::Symlink, "..1", b"");
        let archive = tar.into_inner().unwrap();
        let given = [&u64::try_from(archive.len()).unwrap().to_be_bytes()[..], &archive].concat();
        for end in [0, 3, 8, given.len() - 1] {
            assert!(read_input(&mut &given[..end]).is_err(), "an input that ends after {end} bytes");
        }
        let by_env = |name: &str| (name == FILES).then(|| BASE64_STANDARD.encode(&archive));
        assert_eq!(files(by_env).unwrap(), Some(read_input(&mut &given[..]).unwrap()));
        write_volumes(root.path(), Some(archive)).unwrap();
        let file = root.path().join("v/k");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "value");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        write_volumes(&root.path().join("none"), None).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let err = write_texts(&[("X", "/proc/no/such")], |_| Some(String::new())).unwrap_err();
        assert_eq!(chain(&err), "cannot write /proc/no/such: No such file or directory (os error 2)");
    }
}
